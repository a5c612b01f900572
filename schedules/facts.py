"""Facts of the hardware that is scheduled for, which the target carries: the models read no table.

TVM refuses attributes of a target that it does not know, but for those named ``feature.*``, which
it keeps wherever the target goes: into a scope, a dict, JSON, another process.
"""

from __future__ import annotations

from collections.abc import Sequence

from tvm.target import Target

FACTS = "feature.facts"


def read_facts(target: Target | None, names: Sequence[str]) -> dict[str, int]:
    """The named facts of ``target``. Raises ValueError where it does not carry them all."""
    carried = {} if target is None else dict(target.attrs.get(FACTS, {}))
    missing = [name for name in names if name not in carried]
    if missing:
        raise ValueError(f"the target does not say {', '.join(missing)}, in its {FACTS}")
    return {name: int(carried[name]) for name in names}
