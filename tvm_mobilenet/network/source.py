"""What compile and tune start from: a network as ONNX, and the reference it is checked against."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tvm_mobilenet import models
from tvm_mobilenet.errors import BadInput
from tvm_mobilenet.network import onnx_export

if TYPE_CHECKING:
    import onnx
    import tvm

Array = NDArray[np.float32]
SAMPLE_SEED = 0


@dataclass(frozen=True)
class Source:
    """`model` goes into the bundle's manifest: our configuration, or the ONNX file's SHA-256."""

    title: str
    model: dict[str, Any]
    onnx: onnx.ModelProto
    input_shape: tuple[int, int, int, int]
    reference: Callable[[Array], tuple[Array, ...]]

    def sample_input(self) -> Array:
        """A random image batch (N, C, H, W), always the same one."""
        shape = self.input_shape
        return np.random.default_rng(SAMPLE_SEED).standard_normal(shape, dtype=np.float32)

    def relax_module(self) -> tvm.IRModule:
        from tvm_mobilenet.network import relax_import

        return relax_import.import_onnx(self.onnx)


@dataclass(frozen=True)
class NetworkSpec:
    """Which network: one of ours by its variant, or, where ``onnx`` is given, that file's."""

    model: str = "mobilenet_v1"
    alpha: float = 1.0
    resolution: int = 224
    batch: int = 1
    onnx: Path | None = None

    @property
    def stem(self) -> str:
        """What its files are called: mobilenet_v1-1-224, or the ONNX file's name."""
        if self.onnx is not None:
            return self.onnx.stem
        batch = "" if self.batch == 1 else f"-b{self.batch}"
        return f"{self.model}-{self.alpha:g}-{self.resolution}{batch}"

    def check(self) -> None:
        """Raise BadInput, before any work, for a file or a variant that there is not."""
        if self.onnx is None:
            models.config_from(self.model, self.alpha, self.resolution)
        elif not self.onnx.is_file():
            raise BadInput(f"ONNX file {self.onnx}: no such file")

    def open(self) -> Source:
        """Export or read the network. Raises BadInput and RunFailed as that does."""
        if self.onnx is not None:
            return from_onnx(self.onnx)
        return from_config(models.config_from(self.model, self.alpha, self.resolution), self.batch)


def from_config(config: models.MobileNetConfig, batch: int = 1) -> Source:
    """One of our models, exported. Raises RunFailed where the export differs from PyTorch."""
    import torch

    network = models.build(config)
    shape = (batch, 3, config.resolution, config.resolution)
    exported = onnx_export.export(network, shape)

    def reference(x: Array) -> tuple[Array, ...]:
        with torch.inference_mode():
            result = network(torch.from_numpy(x))
        outputs = result if isinstance(result, tuple) else (result,)
        return tuple(output.numpy() for output in outputs)

    title = f"{models.name_of(config)} {config.alpha:g}-{config.resolution}"
    source = Source(title, asdict(config), exported, shape, reference)
    onnx_export.verify(exported, network, source.sample_input())
    return source


def from_onnx(path: Path) -> Source:
    """A network from an ONNX file; ONNX's own reference, or ONNX Runtime, says what is right."""
    model = onnx_export.load(path)
    dims = model.graph.input[0].type.tensor_type.shape.dim
    shape = tuple(dim.dim_value for dim in dims)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()

    def reference(x: Array) -> tuple[Array, ...]:
        return tuple(onnx_export.evaluate(model, x))

    return Source(path.name, {"onnx_sha256": digest}, model, shape, reference)
