"""A network in int8 for all engines alike: one file, made by ONNX Runtime's own quantizer.

Each engine is given the same integers, in the form that the peers' kernels are made for, so that
what is compared is how fast they are computed and nothing else. Samples are random, as the networks
of a sweep have random weights: that says nothing about accuracy, and latency does not depend on it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from tvm_mobilenet import chatter

if TYPE_CHECKING:
    from tvm_mobilenet.benchmark.engines.protocol import Array

SAMPLES, SAMPLE_SEED = 8, 0
# what ONNX Runtime's kernels are made for: uint8 on x86, int8 on ARM
Activations = Literal["uint8", "int8"]


def quantize(
    path: Path,
    output: Path,
    given: Iterable[dict[str, Array]] | None = None,
    activations: Activations = "uint8",
) -> None:
    """Write the float ONNX file ``path`` as QDQ: int8 weights by channel, and ``activations``.

    ``given`` are batches of its inputs by name, random ones where that is None.
    """
    import onnx
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.calibrate import CalibrationDataReader

    class Samples(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.left = samples(path) if given is None else iter(given)

        def get_next(self) -> dict[str, Array] | None:
            return next(self.left, None)

    with chatter.kept_back():
        quantize_static(
            path,
            output,
            Samples(),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QInt8 if activations == "int8" else QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
    onnx.checker.check_model(str(output))


def samples(path: Path) -> Iterator[dict[str, Array]]:
    from tvm_mobilenet.network import onnx_export, signature

    inputs = signature.real_inputs(onnx_export.load(path))
    rng = np.random.default_rng(SAMPLE_SEED)
    for _ in range(SAMPLES):
        yield {
            one.name: rng.standard_normal(
                [dim.dim_value for dim in one.type.tensor_type.shape.dim], dtype=np.float32
            )
            for one in inputs
        }
