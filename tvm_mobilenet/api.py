"""The package's own interface: a network into a bundle, and a bundle ready to run.

    import tvm_mobilenet

    tvm_mobilenet.compile_bundle("bundle", alpha=0.5, resolution=160)
    with tvm_mobilenet.load("bundle", threads=2) as session:
        logits = session.run(x)

``building`` is what ``compile_bundle`` and the command do, with values instead of names.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tvm_mobilenet.building.bundles import build_bundle
from tvm_mobilenet.building.description import inputs_of
from tvm_mobilenet.errors import BadInput
from tvm_mobilenet.runtime.pool import ThreadPool
from tvm_mobilenet.runtime.session import load

if TYPE_CHECKING:
    from tvm_mobilenet.compiler.precision import Precision
    from tvm_mobilenet.models.normalisation import Normalisation
    from tvm_mobilenet.network.source import Array, Source
    from tvm_mobilenet.quantization.calibration import Abilities, Calibration
    from tvm_mobilenet.quantization.quantize import Quantized

__all__ = [
    "ThreadPool",
    "build_bundle",
    "compile_bundle",
    "in_int8",
    "load",
]


def compile_bundle(
    output: str | Path,
    *,
    onnx: str | Path | None = None,
    weights: str | Path | None = None,
    target: str = "x86",
    batch: int | None = None,
    input_shapes: Mapping[str, tuple[int, ...]] | None = None,
    tuning_records: str | Path | None = None,
    normalisation: Normalisation | None = None,
    labels: Sequence[str] = (),
    **model: Any,
) -> Path:
    """Compile a network into the bundle ``output``, a folder or a .tar, and return its path.

    The network is the one in the file ``onnx``, or one of ours: ``model`` may hold ``name`` (one of
    ``models.MODELS``), ``alpha``, ``resolution`` and the other fields of its configuration. Its
    weights are those in the file ``weights``, which then says its width, its classes and how
    pictures become its input where nobody did, or random. ``target`` is a family, a name in
    ``targets/`` or a TOML file, as on the command line. ``batch`` and ``input_shapes``, by name,
    fix the sizes that an ONNX file leaves open; ``tuning_records`` is a folder of records,
    ``"none"`` for default schedules, or None for the target's records where there are any;
    ``normalisation`` is how pixels become the input, which no ONNX file says, and ``labels`` name
    its classes. With ``calibration`` (``quantization.calibration.Calibration``) among ``model`` the
    network is compiled in int8. ``precision`` among them is ``"fp32"``, ``"bf16"`` or
    ``"fp16"``.

    Raises BadInput for arguments that cannot be used or would be ignored, RunFailed where the
    compiled network does not agree with its reference, and ModuleNotFoundError where the extra
    ``compile`` is not installed.
    """
    from tvm_mobilenet import models
    from tvm_mobilenet.compiler.options import CompileOptions
    from tvm_mobilenet.compiler.precision import abilities_of
    from tvm_mobilenet.database.lookup import open_records
    from tvm_mobilenet.hardware import target as targets
    from tvm_mobilenet.network import source
    from tvm_mobilenet.network.signature import Sizes
    from tvm_mobilenet.weights import read

    calibration = model.pop("calibration", None)
    precision: Precision = model.pop("precision", "fp32" if calibration is None else "int8")
    if calibration is not None and precision != "int8":
        raise BadInput(f"calibration: for precision int8, got {precision}; drop one")
    options = CompileOptions(targets.resolve(target), precision)
    if onnx is None:
        name = model.pop("name", "mobilenet_v1")
        if input_shapes:
            raise BadInput("input_shapes: for an ONNX file; say batch and resolution instead")
        if weights is None:
            network = source.from_config(models.config_from(name, **model), batch or 1)
        else:
            network = source.from_weights(read(Path(weights), name, **model), batch or 1)
    elif model or weights is not None:
        unused = ", ".join([*model, *([] if weights is None else ["weights"])])
        raise BadInput(f"{unused}: for a network of ours; that of {onnx} has its own, drop it")
    else:
        network = source.from_onnx(Path(onnx), Sizes(batch, input_shapes or {}))
    network = network.labelled(labels)
    if normalisation is not None:
        network = network.normalised(normalisation)
    if calibration is not None:
        network, _ = in_int8(network, calibration, abilities_of(options.spec))
    records = open_records(options.spec, None if tuning_records is None else Path(tuning_records))
    return build_bundle(network, options, Path(output), records).path


def in_int8(
    source: Source, calibration: Calibration | None, has: Abilities | None = None
) -> tuple[Source, Quantized | None]:
    """The network quantized, and what came of it; None for one that was quantized before.

    ``has`` says what the target's kernels have besides int8, None for nothing.

    Raises BadInput for a float network without ``calibration``, the other way round, and for
    samples that the network does not take.
    """
    from tvm_mobilenet.network.quantized_form import is_quantized
    from tvm_mobilenet.quantization.calibration import INT8_ALONE
    from tvm_mobilenet.quantization.quantize import How
    from tvm_mobilenet.quantization.samples import open_samples
    from tvm_mobilenet.quantization.source import quantize_source

    if is_quantized(source.onnx):
        if calibration is not None:
            raise BadInput(f"--calibrate: {source.title} is quantized already; drop it")
        return source, None
    if calibration is None:
        raise BadInput(
            f"--precision int8: {source.title} is not quantized; give samples of its input, "
            "--calibrate FOLDER|FILE.npy, or a QDQ ONNX file"
        )
    samples = open_samples(calibration.samples, source.inputs, picture_reader(source))
    how = How(
        calibration.method,
        calibration.max_loss,
        has=has or INT8_ALONE,
        reduce_range=calibration.reduce_range,
    )
    return quantize_source(source, samples, how)


def picture_reader(source: Source) -> Callable[[Path], Array]:
    """What makes the network's input, without the batch, of a picture.

    It raises BadInput for a network that takes none, or whose normalisation is not known.
    """
    from tvm_mobilenet.runtime.image import read_sample

    def read(path: Path) -> Array:
        (one,) = inputs_of(source)
        return read_sample(path, one)

    return read
