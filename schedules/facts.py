"""Facts of the hardware that is scheduled for, which the target carries: the models read no table.

TVM refuses attributes of a target that it does not know, but for those named ``feature.*``, which
it keeps wherever the target goes: into a scope, a dict, JSON, another process.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tvm.target import Target

FACTS = "feature.facts"


def find_facts(target: Target | None, names: Iterable[str]) -> dict[str, int]:
    """Those of the named facts that ``target`` carries."""
    carried = {} if target is None else dict(target.attrs.get(FACTS, {}))
    return {name: int(carried[name]) for name in names if name in carried}


def read_facts(target: Target | None, names: Sequence[str]) -> dict[str, int]:
    """The named facts of ``target``. Raises ValueError where it does not carry them all."""
    carried = find_facts(target, names)
    missing = [name for name in names if name not in carried]
    if missing:
        raise ValueError(f"the target does not say {', '.join(missing)}, in its {FACTS}")
    return carried
