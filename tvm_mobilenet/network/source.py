"""What compile and tune start from: a network as ONNX, and the reference it is checked against."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from tvm_mobilenet import models, tvm_runtime
from tvm_mobilenet.errors import BadInput
from tvm_mobilenet.models.normalisation import Normalisation
from tvm_mobilenet.network import export_cache, onnx_export
from tvm_mobilenet.network.outputs import Scores, scores_of
from tvm_mobilenet.network.torch_process import TorchProcess

if TYPE_CHECKING:
    import onnx
    import tvm

Array = NDArray[np.float32]
Weights = Literal["random", "file"]
SAMPLE_SEED = 0


@dataclass(frozen=True)
class Source:
    """A network and where it is from.

    ``model`` goes into the bundle's manifest: our configuration, or the ONNX file's SHA-256.
    ``normalisation`` is what its weights were trained with, None where that is not known, and
    ``weights`` where they are from. ``reference`` says what is right, ``reference_name`` by what;
    ``apart``: in a process of its own, while this one goes on.
    """

    title: str
    model: dict[str, Any]
    onnx: onnx.ModelProto
    input_shape: tuple[int, int, int, int]
    reference: Callable[[Array], tuple[Array, ...]]
    reference_name: str = "PyTorch"
    normalisation: Normalisation | None = None
    weights: Weights = "file"
    apart: bool = False

    def sample_input(self) -> Array:
        """A random image batch (N, C, H, W), always the same one."""
        return sample_of(self.input_shape)

    def normalised(self, normalisation: Normalisation) -> Source:
        """The same, with a normalisation that is known. Raises BadInput where it cannot be."""
        fault = normalisation.fault(channels=self.input_shape[1])
        if fault is not None:
            raise BadInput(f"{self.title}: {fault}")
        return replace(self, normalisation=normalisation)

    def scores(self) -> tuple[Scores | None, ...]:
        """What each output's values are, as scores of classes: see ``network.outputs``."""
        return scores_of(self.onnx)

    def relax_module(self) -> tvm.IRModule:
        from tvm_mobilenet.network import relax_import

        return relax_import.import_onnx(self.onnx)


@dataclass(frozen=True)
class NetworkSpec:
    """Which network: one of ours by its variant, or, where ``onnx`` is given, that file's."""

    model: str = "mobilenet_v1"
    alpha: float = 1.0
    resolution: int | None = None  # the published one
    batch: int = 1
    onnx: Path | None = None

    @property
    def stem(self) -> str:
        """What its files are called: mobilenet_v1-1-224, resnet18-224, or the ONNX file's name."""
        if self.onnx is not None:
            return self.onnx.stem
        batch = "" if self.batch == 1 else f"-b{self.batch}"
        return f"{self.model}-{models.variant_of(self._config())}{batch}"

    def check(self) -> None:
        """Raise BadInput, before any work, for a file or a variant that there is not."""
        if self.onnx is None:
            self._config()
        elif not self.onnx.is_file():
            raise BadInput(f"ONNX file {self.onnx}: no such file")

    def open(self) -> Source:
        """Export or read the network. Raises BadInput and RunFailed as that does."""
        if self.onnx is not None:
            return from_onnx(self.onnx)
        return from_config(self._config(), self.batch)

    def _config(self) -> models.Config:
        return models.config_from(self.model, self.alpha, self.resolution)


def sample_of(shape: tuple[int, ...]) -> Array:
    """Random images of mean 0 and variance 1, the same ones for the same shape."""
    return np.random.default_rng(SAMPLE_SEED).standard_normal(shape, dtype=np.float32)


def from_config(config: models.Config, batch: int = 1) -> Source:
    """One of our models, exported. Raises RunFailed where the export differs from PyTorch.

    PyTorch runs in a process of its own, which goes with the source's ``reference``.
    """
    shape = (batch, *config.input_shape)
    kept = export_cache.read(config, shape)
    network = TorchProcess(config, sample_of(shape), export=kept is None)
    tvm_runtime.compiler()  # imported meanwhile
    import onnx

    model = kept or network.onnx()
    if kept is None:
        export_cache.keep(config, shape, model)
    exported = onnx.load_model_from_string(model)
    title = f"{models.name_of(config)} {models.variant_of(config)}"
    return Source(
        title,
        asdict(config),
        exported,
        shape,
        network.run,
        normalisation=models.normalisation_of(config),
        weights="random",
        apart=True,
    )


def from_onnx(path: Path) -> Source:
    """A network from an ONNX file; ONNX Runtime, or ONNX's own evaluator, says what is right."""
    tvm_runtime.compiler()
    model = onnx_export.load(path)
    dims = onnx_export.image_input(model).type.tensor_type.shape.dim
    batch, channels, height, width = (dim.dim_value for dim in dims)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    evaluator = onnx_export.evaluator(model)

    def reference(x: Array) -> tuple[Array, ...]:
        return tuple(evaluator.run(x))

    return Source(
        path.name,
        {"onnx_sha256": digest},
        model,
        (batch, channels, height, width),
        reference,
        evaluator.name,
    )
