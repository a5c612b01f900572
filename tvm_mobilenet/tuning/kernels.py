"""The kernels that a tuning run is about: those of one network, of an ONNX file, of 16 variants."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tvm_mobilenet.compiler.pipeline import Kernel
    from tvm_mobilenet.hardware.target import TargetSpec
    from tvm_mobilenet.network.source import Source


@dataclass(frozen=True)
class Networks:
    """Which networks: ``model`` at one variant, or with ``sweep`` at all 16, or an ONNX file.

    ``strassen`` has the large 1x1 convolutions computed by Strassen's algorithm.
    """

    model: str = "mobilenet_v1"
    alpha: float = 1.0
    resolution: int = 224
    batch: int = 1
    onnx: Path | None = None
    sweep: bool = False
    strassen: bool = True

    @property
    def title(self) -> str:
        """What a message calls them."""
        if self.onnx is not None:
            return str(self.onnx)
        if self.sweep:
            return f"{self.model}, all variants"
        return f"{self.model} {self.alpha:g}-{self.resolution}"


def load_kernels(networks: Networks, spec: TargetSpec, precision: str) -> list[Kernel]:
    """The kernels of these networks for ``spec``, as many times as they occur.

    Raises BadInput and RunFailed as loading and legalizing a network does.
    """
    return extract_kernels(load_sources(networks), spec, precision, strassen=networks.strassen)


def load_sources(networks: Networks) -> Iterator[Source]:
    """The networks, each loaded when its turn comes."""
    from tvm_mobilenet import models
    from tvm_mobilenet.models.variants import VARIANTS
    from tvm_mobilenet.network import source

    if networks.onnx is not None:
        yield source.from_onnx(networks.onnx)
        return
    chosen = VARIANTS if networks.sweep else [(networks.alpha, networks.resolution)]
    for number, (alpha, resolution) in enumerate(chosen, 1):
        if networks.sweep:
            what = f"{networks.model} {alpha}-{resolution}"
            print(f"loading {what}, {number} of {len(chosen)}", file=sys.stderr, flush=True)
        config = models.config_from(networks.model, alpha, resolution)
        yield source.from_config(config, networks.batch)


def extract_kernels(
    sources: Iterable[Source], spec: TargetSpec, precision: str = "fp32", *, strassen: bool = True
) -> list[Kernel]:
    """The kernels of networks, those of one after those of the other."""
    from tvm_mobilenet.compiler import pipeline
    from tvm_mobilenet.compiler.graph import legalization

    rules = pipeline.rules_of(spec.tvm_target(), strassen)
    return [
        kernel
        for one in sources
        for kernel in pipeline.extract_kernels(
            pipeline.lower_graph(
                one.relax_module(),
                spec.vector_width,
                rules,
                legalization=legalization.for_target(spec, precision),
            )
        )
    ]
