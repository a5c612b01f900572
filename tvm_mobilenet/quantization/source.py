"""A source of a float network → one of the same network quantized, as if it came as a QDQ file."""

from __future__ import annotations

from dataclasses import replace

from tvm_mobilenet import files
from tvm_mobilenet.network.source import Source, from_onnx
from tvm_mobilenet.quantization.quantize import How, Quantized, quantize
from tvm_mobilenet.quantization.samples import Samples


def quantize_source(source: Source, samples: Samples, how: How) -> tuple[Source, Quantized]:
    """The network in int8, which ONNX Runtime then says what is right for.

    Everything else that is known of the network stays. Raises BadInput as ``quantize`` does.
    """
    import onnx

    found = quantize(source.onnx, samples, how, classes_of(source))
    with files.temporary_folder() as folder:
        path = folder / "quantized.onnx"
        onnx.save_model(found.model, str(path))
        opened = from_onnx(path)
    quantized = replace(
        source,
        onnx=opened.onnx,
        reference=opened.reference,
        reference_name=opened.reference_name,
        apart=False,
        half=opened.half,
        rounding=opened.rounding,
        quantization=found.report.summary,
    )
    return quantized, found


def classes_of(source: Source) -> int | None:
    """The number of the output whose largest value is the answer; None where there is none."""
    ranks = [len(one.type.tensor_type.shape.dim) for one in source.onnx.graph.output]
    scores = source.scores()
    if source.head not in (None, "classes"):
        return None
    for index, (rank, kind) in enumerate(zip(ranks, scores, strict=True)):
        if rank == 2 and kind in ("logits", "softmax"):
            return index
    return None
