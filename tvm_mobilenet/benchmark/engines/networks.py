"""The network that engines are compared on: its forms, one input, and the outputs to expect.

PyTorch and the ONNX exporter run in a process that ends before anything is timed, so that the
benchmark's own process stays small and quiet.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tvm_mobilenet import files, models, processes
from tvm_mobilenet.benchmark.engines import ENGINES
from tvm_mobilenet.benchmark.engines.verify import Right
from tvm_mobilenet.benchmark.labelled import Labelled
from tvm_mobilenet.compiler.precision import IN_HALVES
from tvm_mobilenet.results.schema import Precision

if TYPE_CHECKING:
    from torch import nn

    from tvm_mobilenet.benchmark.engines.protocol import Array

INPUT_SEED = 0


@dataclass(frozen=True)
class Network:
    """One network with one batch size. ``inputs`` are in the order of its file, (N, C, H, W) of
    float32 for one of ours.

    ``config``, ``onnx`` and ``tflite`` are the forms that engines load (None where there is no such
    form; ``lacks`` says of a form why, where that is known), ``expected`` the outputs of
    ``reference`` for ``inputs``; ``rights`` says what is right of a form that is a network of its
    own. ``weights`` is the file that ``config`` has its weights from, None for random ones.
    ``alpha`` is None for a network of one width and for an ONNX file. ``tolerance`` is how far from
    ``expected`` is right, None for what the precision says. ``labelled`` are the images that every
    engine classifies for its accuracy.
    """

    model: str
    alpha: float | None
    resolution: int
    batch: int
    precision: Precision
    config: dict[str, Any] | None
    onnx: Path | None
    inputs: tuple[Array, ...]
    expected: tuple[Array, ...]
    reference: str
    weights: Path | None = None
    tolerance: float | None = None
    tflite: Path | None = None
    lacks: Mapping[str, str] = field(default_factory=dict)
    rights: Mapping[str, Right] = field(default_factory=dict)
    labelled: Labelled | None = None


def from_config(
    config: models.Config,
    batch: int,
    precision: Precision,
    onnx_path: Path | None,
    weights: Path | None = None,
) -> Network:
    """One of our models: PyTorch's outputs for a seeded input, and its ONNX export.

    Its weights are those in the file ``weights``, or random. The export goes to ``onnx_path``; None
    where no engine wants it. Raises RunFailed where the
    export does not agree with PyTorch.
    """
    x, expected = processes.call(_run_pytorch, config, batch, onnx_path, weights)
    tolerance = None
    if precision in IN_HALVES and onnx_path is not None:
        tolerance = processes.call(_tolerance_of_halves, onnx_path, (x,), precision)
    return Network(
        model=models.name_of(config),
        alpha=models.width_of(config),
        resolution=config.resolution,
        batch=batch,
        precision=precision,
        config=asdict(config),
        onnx=onnx_path,
        inputs=(x,),
        expected=expected,
        reference="pytorch",
        weights=weights,
        tolerance=tolerance,
    )


def from_onnx(
    path: Path | None,
    name: str,
    samples: tuple[Array, ...],
    expected: tuple[Array, ...],
    precision: Precision,
    resolution: int,
) -> Network:
    """A network known by its ONNX file, or by a bundle alone where ``path`` is None.

    ``samples`` are the inputs, ``resolution`` is its images' width. ONNX Runtime's outputs are the
    reference where it and the file are there, else ``expected``, which the bundle brought.
    """
    reference, tolerance = "expected_output", None
    if path is not None and ENGINES["onnxruntime"].missing() is None:
        expected, tolerance = processes.call(_run_onnxruntime, path, samples)
        reference = "onnxruntime"
        if precision in IN_HALVES:
            tolerance = processes.call(_tolerance_of_halves, path, samples, precision)
    return Network(
        model=name,
        alpha=None,
        resolution=resolution,
        batch=samples[0].shape[0],
        precision=precision,
        config=None,
        onnx=path,
        inputs=samples,
        expected=expected,
        reference=reference,
        tolerance=tolerance,
    )


def with_fixed_sizes(path: Path, shapes: Sequence[tuple[int, ...]], folder: Path) -> Path:
    """The ONNX file, or where it leaves sizes open a copy in ``folder`` for these ``shapes``.

    Engines plan for shapes that they know, and a bundle knows its own. Raises BadInput where the
    file is none for them.
    """
    fixed: Path = processes.call(_fix_sizes, path, shapes, folder)
    return fixed


def _fix_sizes(path: Path, shapes: Sequence[tuple[int, ...]], folder: Path) -> Path:
    import onnx

    from tvm_mobilenet.network import onnx_export, signature

    model = onnx_export.load(path)
    inputs = signature.real_inputs(model)
    if all(dim.dim_value > 0 for one in inputs for dim in one.type.tensor_type.shape.dim):
        return path
    given = {one.name: shape for one, shape in zip(inputs, shapes, strict=True)}
    fixed = signature.fix_sizes(model, signature.Sizes(shapes=given))
    copy = folder / path.name
    onnx.save_model(onnx.shape_inference.infer_shapes(fixed), str(copy))
    return copy


def _run_pytorch(
    config: models.Config, batch: int, onnx_path: Path | None, weights: Path | None
) -> tuple[Array, tuple[Array, ...]]:
    import torch

    from tvm_mobilenet.benchmark.engines.pytorch import as_list
    from tvm_mobilenet.weights import rebuild

    module = models.build(config) if weights is None else rebuild(weights, config)
    shape = (batch, *config.input_shape)
    x = np.random.default_rng(INPUT_SEED).standard_normal(shape, dtype=np.float32)
    if onnx_path is not None:
        files.replace(onnx_path, _exported(config, module, x, random=weights is None))
    with torch.inference_mode():
        outputs = as_list(module(torch.from_numpy(x)))
    return x, tuple(tensor.numpy() for tensor in outputs)


def _tolerance_of_halves(path: Path, inputs: Sequence[Array], precision: str) -> float:
    from tvm_mobilenet.compiler.precision import tolerance_of_halves
    from tvm_mobilenet.network import onnx_export
    from tvm_mobilenet.network.rounding import effect_of_rounding

    return tolerance_of_halves(
        effect_of_rounding(onnx_export.load(path), inputs, precision), precision
    )


def _exported(config: models.Config, module: nn.Module, x: Array, *, random: bool) -> bytes:
    """The verified export of a network; of a ``random`` one the same that ``compile`` keeps."""
    from tvm_mobilenet.network import export_cache, onnx_export

    kept = export_cache.read(config, x.shape) if random else None
    if kept is not None:
        return kept
    exported = onnx_export.export(module, x.shape)
    onnx_export.verify(exported, module, x)
    model: bytes = exported.SerializeToString()
    if random:
        export_cache.keep(config, x.shape, model)
    return model


def _run_onnxruntime(path: Path, inputs: Sequence[Array]) -> tuple[tuple[Array, ...], float | None]:
    """Its outputs, and of a quantized network how far from them is right."""
    from tvm_mobilenet.compiler.precision import tolerance_of_quantized
    from tvm_mobilenet.network import onnx_export, quantized_form
    from tvm_mobilenet.network.source import rounding_of

    model = onnx_export.load(path)
    if quantized_form.is_quantized(model):
        outputs = tuple(onnx_export.evaluator(model, optimized=False).run(*inputs))
        return outputs, tolerance_of_quantized(rounding_of(model, inputs, outputs))
    from tvm_mobilenet.benchmark.engines.onnxruntime import OnnxRuntime
    from tvm_mobilenet.benchmark.engines.protocol import Job

    engine = OnnxRuntime(Job(threads=1, onnx=path))
    engine.load()
    engine.set_inputs(inputs)
    engine.infer()
    return tuple(engine.outputs()), None
