"""The manifest of a bundle: what is known of the network, and of what compiling made of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tvm_mobilenet.bundle import Layer, Manifest, TensorInfo, WeightsFile
    from tvm_mobilenet.compiler.options import CompileOptions
    from tvm_mobilenet.compiler.pipeline import Compiled
    from tvm_mobilenet.compiler.precision import Precision
    from tvm_mobilenet.network.source import Array, Source


def describe(
    source: Source,
    options: CompileOptions,
    compiled: Compiled,
    expected: Sequence[Array],
) -> Manifest:
    """The manifest, but for what only writing the files tells."""
    import tvm

    from tvm_mobilenet import bundle
    from tvm_mobilenet.library.naming import name_from

    spec = options.spec
    return bundle.Manifest(
        target=bundle.Target(spec.name, spec.triple, spec.gpu.arch if spec.gpu else None),
        cpu_features=spec.cpu_features,
        tvm_version=tvm.__version__,
        model=source.model,
        inputs=tuple(inputs_of(source)),
        outputs=tuple(outputs_of(source, expected)),
        precision=precision_of(source, options),
        executor="cuda" if spec.gpu else options.executor,
        workspace_bytes=max(compiled.program.workspace_bytes, 1),
        weights=source.weights,
        name=name_from(source.title.removesuffix(".onnx")),
        head=source.head,
        weights_file=weights_file_of(source),
        small_weights=options.small_weights,
        quantization=source.quantization,
        layers=tuple(layers(compiled)),
    )


def precision_of(source: Source, options: CompileOptions) -> Precision:
    """What the network is in: of a CPU's, int8 where the file that it is from is quantized."""
    quantized = source.rounding is not None and options.spec.gpu is None
    return "int8" if quantized else options.precision


def weights_file_of(source: Source) -> WeightsFile | None:
    """What the manifest says of the file of weights, if they are from one."""
    from tvm_mobilenet.bundle import WeightsFile

    one = source.trained
    return None if one is None else WeightsFile(one.name, one.sha256, one.source, one.implies)


def inputs_of(source: Source) -> Iterable[TensorInfo]:
    """What the network takes, as the manifest says it: the image with its normalisation."""
    from tvm_mobilenet.bundle import TensorInfo

    image = source.image
    names = numbered("input", len(source.inputs))
    for name, one in zip(names, source.inputs, strict=True):
        info = TensorInfo(name, one.shape, one.dtype, one.layout)
        if one is image and source.normalisation is not None:
            order = "bgr" if source.bgr else "rgb"
            info = replace(info, normalisation=source.normalisation, channel_order=order)
        if one is image:
            info = replace(info, resizing=source.resizing)
        yield info


def outputs_of(source: Source, expected: Sequence[Array]) -> Iterable[TensorInfo]:
    """What the network gives, as the manifest says it: the scores of classes with their labels."""
    from tvm_mobilenet.bundle import TensorInfo
    from tvm_mobilenet.network.signature import output_layouts
    from tvm_mobilenet.runtime.classes import output_of_classes

    known = source.outputs
    names = numbered("output", len(expected)) if known is None else known.names
    layouts = output_layouts(source.onnx, [array.ndim for array in expected])
    labelled = output_of_classes(source.head, [array.shape for array in expected])
    outputs = zip(names, expected, layouts, source.scores(), strict=True)
    for index, (name, array, layout, scores) in enumerate(outputs):
        labels = source.labels if index == labelled else ()
        yield TensorInfo(name, array.shape, str(array.dtype), layout, scores=scores, labels=labels)


def numbered(name: str, count: int) -> list[str]:
    """The names of so many tensors: ``output``, or ``output0``, ``output1``, …"""
    return [name] if count == 1 else [f"{name}{index}" for index in range(count)]


def layers(compiled: Compiled) -> Iterable[Layer]:
    """One entry for each kernel call: its place in the network, its kernel, its record."""
    from tvm_mobilenet.bundle import Layer

    for index, call in enumerate(compiled.program.calls):
        layer = Layer(
            f"{index:02d}",
            call.kernel,
            tuned=False,
            flops=call.flops,
            nbytes=call.nbytes,
            own=call.kernel not in compiled.others,
        )
        record = compiled.tuned.get(call.kernel)
        if record is not None:
            layer = replace(
                layer,
                tuned=True,
                latency_us=record.latency_us,
                how=record.how,
                date=record.date,
            )
        yield layer
