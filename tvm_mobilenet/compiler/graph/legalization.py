"""Which legalization a target's networks go through."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from tvm_mobilenet.hardware.target import TargetSpec

if TYPE_CHECKING:
    import tvm


def for_target(spec: TargetSpec, precision: str = "fp32") -> tvm.transform.Pass | None:
    """The pass for `pipeline.lower_graph`; None is the one of CPUs."""
    if spec.gpu is None:
        return None

    from schedules.cuda import fusion
    from tvm_mobilenet.compiler.graph.legalize_gpu import Fusion, legalize_gpu

    asked = spec.tvm_target(), precision
    models = Fusion(partial(fusion.cheapest_pairs, *asked), partial(fusion.pooling_pays, *asked))
    return legalize_gpu(precision, models)
