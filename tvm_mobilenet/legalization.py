"""Which legalization a target's networks go through."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from tvm_mobilenet.target import TargetSpec

if TYPE_CHECKING:
    import tvm


def for_target(spec: TargetSpec, precision: str = "fp32") -> tvm.transform.Pass | None:
    """The pass for `pipeline.lower_graph`; None is the one of CPUs."""
    if spec.gpu is None:
        return None

    from schedules.cuda import fusion
    from tvm_mobilenet.legalize_gpu import Fusion, legalize_gpu

    models = fusion.pays, fusion.pooling_pays
    return legalize_gpu(
        precision, Fusion(*(partial(m, spec.tvm_target(), precision) for m in models))
    )
