"""What compile and tune start from: a network as ONNX, and the reference it is checked against."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from tvm_mobilenet import files, models, numerics, tvm_runtime, weights
from tvm_mobilenet.errors import BadInput
from tvm_mobilenet.models.heads import Outputs, outputs_of
from tvm_mobilenet.models.normalisation import Normalisation
from tvm_mobilenet.models.quantization import Quantization
from tvm_mobilenet.models.resizing import Resizing, ResizingFlags
from tvm_mobilenet.network import (
    cleaning,
    export_cache,
    onnx_export,
    operators,
    quantized_form,
    signature,
    spelling,
)
from tvm_mobilenet.network.outputs import Scores, scores_of
from tvm_mobilenet.network.signature import IMAGE_RANK, InputTensor, Sizes
from tvm_mobilenet.network.torch_process import TorchProcess
from tvm_mobilenet.weights import Trained

if TYPE_CHECKING:
    import onnx
    import tvm

Array = NDArray[np.float32]
Weights = Literal["random", "file"]
SAMPLE_SEED = 0
COLOURS = 3
SUMS_DIFFER = 3e-7  # relative, of float32 results that are computed in another order

NO_SIZES = Sizes()
# what ``network_flags.head_options`` makes of the flags that say what a network ends in
HEAD_FLAGS = {"head": "--head", "num_classes": "--classes", "embedding_size": "--embedding-size"}


@dataclass(frozen=True)
class Source:
    """A network and where it is from.

    ``model`` goes into the bundle's manifest: our configuration, or the SHA-256 of the ONNX file
    and of the files that hold its weights. ``onnx`` is what is compiled, ``inputs`` what it takes.
    ``normalisation`` is what its weights were trained with, None where that is not known, and
    ``weights`` where they are from; ``bgr`` says that its images have blue first, and ``labels``
    name its classes, empty where nobody said. ``head`` and ``outputs`` are as in ``models.heads``,
    None for a file, whose graph alone says what its outputs are.
    ``reference`` says what is right, ``reference_name`` by what; ``apart``: in a process of its
    own, while this one goes on. ``half``: the reference computes in float16. ``rounding`` says of a
    quantized network how far apart its reference's own ways to compute it come out. ``trained`` is
    what the weights of a network of ours were read from, ``resizing`` how a picture gets the size
    of its images, each None where that is not known. ``quantization`` is how it was quantized
    here.
    """

    title: str
    model: dict[str, Any]
    onnx: onnx.ModelProto
    inputs: tuple[InputTensor, ...]
    reference: Callable[..., tuple[Array, ...]]
    reference_name: str = "PyTorch"
    normalisation: Normalisation | None = None
    weights: Weights = "file"
    bgr: bool = False
    labels: tuple[str, ...] = ()
    head: str | None = None
    outputs: Outputs | None = None
    apart: bool = False
    half: bool = False
    rounding: Callable[..., float] | None = None
    trained: Trained | None = None
    resizing: Resizing | None = None
    quantization: Quantization | None = None

    @property
    def image(self) -> InputTensor:
        """The first input that is images: what a normalisation is for."""
        return next(one for one in self.inputs if len(one.shape) == IMAGE_RANK)

    def sample_inputs(self) -> tuple[Array, ...]:
        """Random values for every input, always the same ones."""
        return tuple(
            sample_of(one.shape, SAMPLE_SEED + index, one.dtype)
            for index, one in enumerate(self.inputs)
        )

    def normalised(self, normalisation: Normalisation, *, bgr: bool = False) -> Source:
        """The same, with a normalisation that is known. Raises BadInput where it cannot be."""
        image = self.image
        channels = image.shape[image.layout.index("C")]
        fault = normalisation.fault(channels)
        if fault is None and bgr and channels != COLOURS:
            fault = f"expected images of {COLOURS} channels for --channel-order bgr, got {channels}"
        if fault is not None:
            raise BadInput(f"{self.title}: {fault}")
        return replace(self, normalisation=normalisation, bgr=bgr)

    def resized(self, flags: ResizingFlags) -> Source:
        """The same, with what was said of how a picture is resized. Raises BadInput."""
        image = self.image
        sizes = dict(zip(image.layout, image.shape, strict=True))
        return replace(self, resizing=flags.over(self.resizing, sizes["H"], sizes["W"]))

    def labelled(self, labels: Sequence[str]) -> Source:
        """The same, with a name for each of its classes."""
        return replace(self, labels=tuple(labels))

    def scores(self) -> tuple[Scores | None, ...]:
        """What each output's values are, as scores of classes: see ``network.outputs``."""
        return scores_of(self.onnx) if self.outputs is None else self.outputs.scores

    def relax_module(self) -> tvm.IRModule:
        from tvm_mobilenet.network import relax_import

        return relax_import.import_onnx(self.onnx)


@dataclass(frozen=True)
class NetworkSpec:
    """Which network: one of ours by its variant, or, where ``onnx`` is given, that file's.

    None is what nobody said. ``shapes`` are shapes of the file's inputs, by name. ``options`` are
    further fields of our network's configuration, such as its head. ``weights`` is a file of
    weights for one of ours, which then says its width and its classes where nobody did.
    """

    model: str | None = None
    alpha: float | None = None
    resolution: int | None = None
    batch: int | None = None
    onnx: Path | None = None
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    weights: Path | None = None

    @property
    def name(self) -> str:
        """Of the model in MODELS."""
        return self.model or models.DEFAULT_MODEL

    @property
    def stem(self) -> str:
        """What its files are called: mobilenet_v1-1-224, resnet18-224, or the ONNX file's name."""
        batch = "" if self.batch in (None, 1) else f"-b{self.batch}"
        if self.onnx is not None:
            return f"{self.onnx.stem}{batch}"
        return f"{self.name}-{models.variant_of(self.config)}{batch}"

    @property
    def config(self) -> models.Config:
        """The configuration of one of ours. Raises BadInput where there is none."""
        if self.trained is not None:
            return self.trained.config
        return models.config_from(self.name, self.alpha or 1.0, self.resolution, **self.options)

    @functools.cached_property
    def trained(self) -> Trained | None:
        """The weights in ``weights``, read once. Raises BadInput as that does."""
        if self.weights is None or self.onnx is not None:
            return None
        given = {"alpha": self.alpha, "resolution": self.resolution, **self.options}
        return weights.read(self.weights, self.name, **given)

    def check(self) -> None:
        """Raise BadInput, before any work, for a file or a variant that there is not.

        Neither may flags be given that would be ignored.
        """
        if self.onnx is None:
            if self.shapes:
                raise BadInput(
                    "--input-shape is for --onnx; --batch and --resolution say it for --model"
                )
            models.config_from(self.name, self.alpha or 1.0, self.resolution, **self.options)
            _ = self.config
            return
        of_models = {
            "--model": self.model,
            "--alpha": self.alpha,
            "--resolution": self.resolution,
            "--weights": self.weights,
        }
        ignored = [flag for flag, value in of_models.items() if value is not None]
        ignored += [HEAD_FLAGS[name] for name in self.options]
        if ignored:
            raise BadInput(f"{', '.join(ignored)}: not for --onnx, whose file says it; drop it")
        files.check_file(self.onnx, f"ONNX file {self.onnx}")

    def open(self) -> Source:
        """Export or read the network. Raises BadInput and RunFailed as that does."""
        if self.onnx is not None:
            return from_onnx(self.onnx, Sizes(self.batch, self.shapes))
        if self.trained is not None:
            return from_weights(self.trained, self.batch or 1)
        return from_config(self.config, self.batch or 1)


def sample_of(
    shape: tuple[int, ...], seed: int = SAMPLE_SEED, dtype: str = "float32"
) -> NDArray[Any]:
    """Random values, the same ones for the same shape, seed and type.

    Of floats the mean is 0 and the variance 1. Bytes take all their values, as pixels do; wider
    integers are 0 or 1, since they may be sizes or indices.
    """
    rng = np.random.default_rng(seed)
    kind = np.dtype(dtype)
    if kind.kind == "f":
        return rng.standard_normal(shape, dtype=np.float32).astype(kind)
    limits = np.iinfo(kind)
    low, high = (limits.min, limits.max) if kind.itemsize == 1 else (0, 1)
    return rng.integers(low, high, shape, dtype=kind, endpoint=True)


def from_weights(trained: Trained, batch: int = 1) -> Source:
    """One of our models with the weights of a file, as ``from_config``."""
    return replace(
        from_config(trained.config, batch, state=trained.state),
        normalisation=trained.recipe.normalisation,
        resizing=trained.recipe.resizing,
        weights="file",
        trained=trained,
    )


def from_config(
    config: models.Config,
    batch: int = 1,
    process: TorchProcess | None = None,
    state: Mapping[str, Array] | None = None,
) -> Source:
    """One of our models, exported. Raises RunFailed where the export differs from PyTorch.

    ``state`` is its state dict, None for its random weights. PyTorch runs in ``process``, or in one
    of its own, which goes with the source's ``reference``.
    """
    shape = (batch, *config.input_shape)
    kept = export_cache.read(config, shape, state)
    pytorch = process or TorchProcess()
    network = pytorch.open(config, sample_of(shape), state, export=kept is None)
    tvm_runtime.compiler()  # imported meanwhile
    import onnx

    model = kept or network.onnx()
    if kept is None:
        export_cache.keep(config, shape, model, state)
    exported = onnx.load_model_from_string(model)
    title = f"{models.name_of(config)} {models.variant_of(config)}"
    return Source(
        title,
        asdict(config),
        exported,
        (InputTensor(onnx_export.INPUT_NAME, shape),),
        network.run,
        normalisation=models.normalisation_of(config),
        resizing=models.resizing_of(config),
        weights="random",
        head=config.head,
        outputs=outputs_of(config.head, config.feature_strides),
        apart=True,
    )


def from_onnx(path: Path, sizes: Sizes = NO_SIZES) -> Source:
    """A network from an ONNX file; ONNX Runtime, or ONNX's own evaluator, says what is right.

    ``sizes`` are those that the file leaves open. What is compiled is the file cleaned up, what
    says what is right is the file as it came. Raises BadInput for one that cannot be compiled.
    """
    tvm_runtime.compiler()
    model = onnx_export.load(path)
    spelling.order_topk(model)  # any order is right then; this is the one that can be compared
    fixed = signature.fix_sizes(model, sizes)
    inputs = signature.inputs_of(fixed)
    cleaned = cleaning.clean(fixed)
    signature.check_outputs(cleaned.model)
    operators.check_operators(cleaned.model)
    cleaning.check_weights(cleaned.model, path.name)
    quantized = quantized_form.is_quantized(model)
    evaluator = onnx_export.evaluator(model, optimized=not quantized)

    def reference(*x: Array) -> tuple[Array, ...]:
        return tuple(evaluator.run(*x))

    def rounding(*x: Array) -> float:
        return rounding_of(model, x, reference(*x))

    return Source(
        path.name,
        provenance_of(path),
        cleaned.model,
        inputs,
        reference,
        evaluator.name,
        half=cleaned.half,
        rounding=rounding if quantized else None,
    )


def rounding_of(
    model: onnx.ModelProto, inputs: Sequence[Array], expected: Sequence[Array]
) -> float:
    """How far from ``expected``, ONNX Runtime's outputs by float operators, others come out.

    A layer's result lies in the middle of two integers now and then: one takes the one, one the
    other, and the layers after it see that. Others are ONNX Runtime's own integer kernels, and its
    float operators with scales a little larger and a little smaller, by as much as sums in another
    order differ. Those of one kind may agree by chance.
    """
    raised = cleaning.raise_opset(model)
    others = [
        onnx_export.evaluator(model),
        *(
            onnx_export.evaluator(quantized_form.nudge(raised, by), optimized=False)
            for by in (SUMS_DIFFER, -SUMS_DIFFER)
        ),
    ]
    return max(
        numerics.relative_error(a, b)
        for other in others
        for a, b in zip(other.run(*inputs), expected, strict=True)
    )


def provenance_of(path: Path) -> dict[str, Any]:
    """The SHA-256 of an ONNX file, and of the files beside it that hold its weights."""
    import onnx

    known: dict[str, Any] = {"onnx_sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    graph = onnx.load_model(str(path), format="protobuf", load_external_data=False)
    names = {
        entry.value
        for tensor in onnx.external_data_helper._get_all_tensors(graph)
        for entry in tensor.external_data
        if entry.key == "location"
    }
    if names:
        known["weights_sha256"] = {
            name: hashlib.sha256((path.parent / name).read_bytes()).hexdigest()
            for name in sorted(names)
        }
    return known
