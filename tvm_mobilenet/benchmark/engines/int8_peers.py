"""What the peers of an int8 bundle compute: the same network in int8, and what of it is right.

A bundle of a file that was quantized already has peers that load that file. Of a network that
``compile`` quantized the peers get the file that ONNX Runtime's own quantizer makes of the same
samples: that is what whoever quantizes for them has, and rounds where they fuse.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from tvm_mobilenet import processes
from tvm_mobilenet.benchmark.engines import tflite_file
from tvm_mobilenet.benchmark.engines.networks import Network
from tvm_mobilenet.benchmark.engines.protocol import EngineUnavailable
from tvm_mobilenet.benchmark.engines.quantized import quantize
from tvm_mobilenet.benchmark.engines.verify import Right
from tvm_mobilenet.bundle import TensorInfo
from tvm_mobilenet.compiler.precision import tolerance_of_quantized
from tvm_mobilenet.numerics import relative_error

Array = NDArray[Any]

# how much more than ONNX Runtime's quantizer another one may lose and still be right
LOOSER = 2.0


@dataclass(frozen=True)
class PeersFile:
    """A QDQ file, and what is right for engines that load it.

    ``exact`` are the outputs of the network in float, ``batches`` the values of its first input
    that it was calibrated with.
    """

    path: Path
    right: Right
    exact: tuple[Array, ...]
    batches: tuple[Array, ...]


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
    batches = list(_batches(path, samples, inputs))
    quantize(path, made, batches)
    model = onnx_export.load(made)
    right = onnx_export.evaluator(model, optimized=False).run(*values)
    rounding = _largest(onnx_export.evaluator(model).run(*values), right)
    # an engine may round elsewhere: no farther off than quantizing itself goes
    tolerance = max(tolerance_of_quantized(rounding), _largest(right, exact))
    firsts = tuple(next(iter(one.values())) for one in batches)
    return PeersFile(made, Right(tuple(right), tolerance), tuple(exact), firsts)


def with_tflite(
    network: Network, exact: Sequence[Array], batches: Sequence[Array], output: Path
) -> Network:
    """``network``, in int8 as ``expected`` says, with LiteRT's file quantized to ``output``.

    Its ``tflite`` is in fp32; ``exact`` are the outputs in float.
    """
    if network.tflite is None:
        return network
    try:
        tflite_file.quantize(network.tflite, output, batches)
    except EngineUnavailable as error:
        return dataclasses.replace(network, tflite=None, lacks={"tflite": str(error)})
    rights = {**network.rights, **right_by(("tflite",), network, exact)}
    return dataclasses.replace(network, tflite=output, rights=rights)


def right_by(forms: Sequence[str], network: Network, exact: Sequence[Array]) -> dict[str, Right]:
    """What is right of ``forms`` that were quantized by others than ONNX Runtime.

    They have ranges of their own: right is what lies as near to ``exact``, the outputs in float.
    """
    lost = _largest(network.expected, exact)
    return {form: Right(tuple(exact), LOOSER * lost) for form in forms}


def _largest(outputs: Sequence[Array], others: Sequence[Array]) -> float:
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
