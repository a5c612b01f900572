"""What quantizing a trained network loses, by how its ranges are chosen: results JSON.

    python benchmarks/quantization.py FOLDER --json quantization.json

FOLDER holds what ``examples/digits/train.py`` writes. Each way to choose ranges is measured with
and without bias correction and equalized channels, on the whole test set and by ONNX Runtime
without its optimizations, which computes what the QDQ network says. Beside them stands ONNX
Runtime's own quantizer with the same samples: uint8 activations, int8 weights by channel.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import io
import itertools
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
from numpy.typing import NDArray

from tvm_mobilenet import cli, provenance

if TYPE_CHECKING:
    import onnx

FLOAT, PEER = "fp32", "ONNX Runtime's quantizer"
Images = NDArray[np.float32]


@dataclass(frozen=True)
class Row:
    """``top1`` is the share of right answers, ``agreement`` that of fp32's, ``error`` relative."""

    quantizer: str
    method: str
    bias_correction: bool
    equalization: bool
    top1: float
    agreement: float
    error: float


@dataclass(frozen=True)
class TestSet:
    """Images (N, 3, 32, 32), their labels, and the float network's scores (N, 10)."""

    images: Images
    labels: NDArray[np.int64]
    scores: Images


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="of digits.onnx")
    parser.add_argument("--json", type=cli.new_file, metavar="FILE", help="write the rows here")
    args = parser.parse_args()
    rows = []
    for row in dict.fromkeys(measure(args.folder)):  # what was not kept is as without it
        rows.append(row)
        flags = ["bias correction"] * row.bias_correction + ["equalization"] * row.equalization
        print(
            f"{row.quantizer} {row.method} {', '.join(flags) or 'plain'}: top-1 {row.top1:.2%}, "
            f"agreement {row.agreement:.2%}, relative error {row.error:.2e}",
            flush=True,
        )
    if args.json is not None:
        results = [dataclasses.asdict(row) for row in rows]
        provenance.write_results(args.json, {"results": results})
        print(f"wrote {args.json}")
    return 0


def measure(folder: Path) -> Iterator[Row]:
    from tvm_mobilenet.network.source import from_onnx
    from tvm_mobilenet.quantization.quantize import How, quantize
    from tvm_mobilenet.quantization.ranges import Method
    from tvm_mobilenet.quantization.samples import open_samples

    source = from_onnx(folder / "digits.onnx")
    with np.load(folder / "digits-test.npz") as file:
        images, labels = file["images"], file["labels"]
    test = TestSet(images, labels, scores_of(source.onnx, images))
    yield row_of(FLOAT, "", test, test.scores)
    path = folder / "digits-calibration.npy"
    samples = open_samples(path, source.inputs, lambda one: np.load(one))
    methods: tuple[Method, ...] = get_args(Method)
    for method, correct, equal in itertools.product(methods, (False, True), (False, True)):
        how = How(method, correct_biases=correct, equalize=equal)
        found = quantize(source.onnx, samples, how, 0)
        done = found.report.summary
        row = row_of("ours", method, test, scores_of(found.model, images))
        yield dataclasses.replace(
            row, bias_correction=done.bias_corrected, equalization=done.equalized > 0
        )
    used, _ = samples.kept()
    for method in ("minmax", "percentile"):
        model = by_peer(folder / "digits.onnx", [x for (x,) in used.batches()], method)
        yield row_of(PEER, method, test, scores_of(model, images))


def scores_of(model: onnx.ModelProto, images: Images) -> Images:
    from tvm_mobilenet.quantization.running import Runner

    runner = Runner(model, [model.graph.output[0].name])
    return np.concatenate([runner.run(image[np.newaxis])[0] for image in images])


def row_of(quantizer: str, method: str, test: TestSet, scores: Images) -> Row:
    from tvm_mobilenet.numerics import relative_error

    found, right = scores.argmax(axis=1), test.scores.argmax(axis=1)
    return Row(
        quantizer,
        method,
        bias_correction=False,
        equalization=False,
        top1=float(np.mean(found == test.labels)),
        agreement=float(np.mean(found == right)),
        error=relative_error(scores, test.scores),
    )


def by_peer(path: Path, batches: list[Images], method: str) -> onnx.ModelProto:
    """The network as ``onnxruntime.quantization`` makes it, by its documented defaults for x86."""
    import logging

    import onnx
    from onnxruntime import quantization as peer

    class Reader(peer.CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.rest = iter(batches)

        def get_next(self) -> dict[str, Any] | None:
            batch = next(self.rest, None)
            return None if batch is None else {"input": batch}

    logging.disable(logging.WARNING)  # it asks for a preparation of its own
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        made = Path(folder, "quantized.onnx")
        peer.quantize_static(
            path,
            made,
            Reader(),
            per_channel=True,
            reduce_range=False,
            activation_type=peer.QuantType.QUInt8,
            weight_type=peer.QuantType.QInt8,
            calibrate_method={
                "minmax": peer.CalibrationMethod.MinMax,
                "percentile": peer.CalibrationMethod.Percentile,
            }[method],
        )
        model: onnx.ModelProto = onnx.load_model(str(made))
    return model


if __name__ == "__main__":
    raise SystemExit(main())
