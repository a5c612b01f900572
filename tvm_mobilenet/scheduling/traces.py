"""A schedule's trace as JSON: its one form, its name, and what is no trace at all.

TVM is imported only where a trace is made or applied.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import tvm
    from tvm import s_tir
    from tvm.target import Target

Option = int | tuple[int, ...]
"""A decision: the index of a category, or the factors of a perfect tile."""

Point = tuple[Option, ...]
"""One decision for each ``sample_*`` call, in the order the rule makes them."""

TENSORIZE = '"Tensorize"'  # the instruction in a trace


def canonical_json(value: Any) -> str:
    """TVM's JSON-like objects, or Python's, as one line of JSON."""
    return json.dumps(value, separators=(",", ":"), default=_plain)


def trace_key(trace_json: str) -> str:
    """A short name for a trace in canonical JSON; a line of a log is named the same way."""
    return hashlib.sha256(trace_json.encode()).hexdigest()[:16]


def trace_point(trace_json: str) -> Point:
    """The decisions of a trace in JSON, in order."""
    _, decisions = json.loads(trace_json)
    return tuple(tuple(one) if isinstance(one, list) else one for _, one in decisions)


def check_trace(trace: Any) -> None:
    """Raise ValueError for what is no trace in JSON; TVM itself would crash on some of it."""
    good = isinstance(trace, list) and len(trace) == 2 and all(isinstance(v, list) for v in trace)
    if not good or not all(isinstance(one, list) and len(one) == 4 for one in trace[0]):
        raise ValueError("the trace is not [instructions, decisions]")
    places = range(len(trace[0]))
    for decision in trace[1]:
        if not (isinstance(decision, list) and len(decision) == 2):
            raise ValueError("a decision is not [place, value]")
        if type(decision[0]) is not int or decision[0] not in places:
            raise ValueError(f"a decision for instruction {decision[0]!r} of {len(places)}")


def apply_trace(mod: tvm.IRModule, trace_json: str, target: Target | None) -> s_tir.Schedule:
    """A schedule of ``mod`` by a trace in JSON, of which code can be made for ``target``.

    None is for what is not compiled.
    Raises ValueError for what is no trace, and TVM's own errors where it does not apply.
    """
    from tvm import s_tir

    from schedules.cpu import dot_products, pair_products
    from schedules.cuda import mma_intrinsics
    from schedules.x86 import tile_products

    # the rules that do may not have run in this process
    if TENSORIZE in trace_json:
        of_cpus = [dot_products, pair_products]
        known = [module.register_named(trace_json, target) for module in of_cpus]
        if not any([*known, tile_products.register_named(trace_json)]):
            mma_intrinsics.register()
    trace = json.loads(trace_json)
    check_trace(trace)
    schedule = s_tir.Schedule(mod)
    s_tir.schedule.Trace.apply_json_to_schedule(trace, schedule)
    return schedule


def _plain(value: Any) -> Any:
    import tvm_ffi
    from tvm import tirx

    if isinstance(value, tirx.IntImm | tirx.FloatImm):
        return value.value
    if isinstance(value, tvm_ffi.Map):
        return {str(key): one for key, one in value.items()}
    if isinstance(value, tvm_ffi.Array):
        return list(value)
    raise TypeError(f"no JSON for a {type(value).__name__}")
