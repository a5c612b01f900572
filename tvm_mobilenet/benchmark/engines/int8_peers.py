"""What the peers of an int8 bundle compute: the same network in int8, and what of it is right.

A bundle of a file that was quantized already has peers that load that file. Of a network that
``compile`` quantized the peers get the file that ONNX Runtime's own quantizer makes of the same
samples: that is what whoever quantizes for them has, and rounds where they fuse.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from tvm_mobilenet import processes
from tvm_mobilenet.benchmark.engines.quantized import quantize
from tvm_mobilenet.benchmark.engines.verify import Right
from tvm_mobilenet.bundle import TensorInfo
from tvm_mobilenet.compiler.precision import tolerance_of_quantized
from tvm_mobilenet.numerics import relative_error

Array = NDArray[Any]


@dataclass(frozen=True)
class PeersFile:
    """A QDQ file, and what is right for engines that load it."""

    path: Path
    right: Right


def quantized_for_peers(
    onnx: Path,
    samples: Path,
    inputs: tuple[TensorInfo, ...],
    values: tuple[Array, ...],
    scratch: Path,
) -> PeersFile:
    """The QDQ file in ``scratch`` that peers load in place of ``onnx``.

    ``values`` are the inputs that engines are verified with. Raises BadInput for samples that the
    network does not take.
    """
    found: PeersFile = processes.call(_quantize, onnx, samples, inputs, values, scratch)
    return found


def _quantize(
    path: Path,
    samples: Path,
    inputs: tuple[TensorInfo, ...],
    values: tuple[Array, ...],
    scratch: Path,
) -> PeersFile:
    from tvm_mobilenet.network import onnx_export

    exact = onnx_export.evaluator(onnx_export.load(path)).run(*values)
    made = scratch / f"{path.stem}-int8.onnx"
    quantize(path, made, _batches(path, samples, inputs))
    model = onnx_export.load(made)
    right = onnx_export.evaluator(model, optimized=False).run(*values)
    rounding = _largest(onnx_export.evaluator(model).run(*values), right)
    # an engine may round elsewhere: no farther off than quantizing itself goes
    tolerance = max(tolerance_of_quantized(rounding), _largest(right, exact))
    return PeersFile(made, Right(tuple(right), tolerance))


def _largest(outputs: list[Array], others: list[Array]) -> float:
    return max(relative_error(a, b) for a, b in zip(outputs, others, strict=True))


def _batches(
    path: Path, samples: Path, inputs: tuple[TensorInfo, ...]
) -> Iterator[dict[str, Array]]:
    """What ``compile`` calibrated with, but for the samples that it held out."""
    from tvm_mobilenet.network import onnx_export, signature
    from tvm_mobilenet.quantization.samples import open_samples
    from tvm_mobilenet.runtime.image import read_sample

    known = signature.inputs_of(onnx_export.load(path))
    found = open_samples(samples, known, lambda picture: read_sample(picture, inputs[0]))
    for batch in found.kept()[0].batches():
        yield dict(zip((one.name for one in known), batch, strict=True))
