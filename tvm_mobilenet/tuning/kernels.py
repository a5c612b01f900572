"""The kernels that a tuning run is about: those of one network, or of all its variants."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from tvm_mobilenet import models
from tvm_mobilenet.errors import BadInput
from tvm_mobilenet.network.source import NetworkSpec

if TYPE_CHECKING:
    from tvm_mobilenet.compiler.options import CompileOptions
    from tvm_mobilenet.compiler.pipeline import Kernel
    from tvm_mobilenet.network.source import Source


@dataclass(frozen=True)
class Networks:
    """One network; with ``sweep`` all 16 published variants of that model in its place."""

    network: NetworkSpec = field(default_factory=NetworkSpec)
    sweep: bool = False

    @property
    def title(self) -> str:
        """What a message calls them."""
        network = self.network
        if network.onnx is not None:
            return str(network.onnx)
        return f"{network.name}, all variants" if self.sweep else network.stem

    def check(self) -> None:
        """Raise BadInput, before any work, for a file or a variant that there is not."""
        self.network.check()
        if self.sweep and self.network.onnx is not None:
            raise BadInput("--sweep tunes the variants of --model; it takes no --onnx")
        if self.sweep and self.network.weights is not None:
            raise BadInput("--sweep tunes several widths; the file of --weights has one, drop it")
        if self.sweep and not models.MODELS[self.network.name].widths:
            raise BadInput(f"--sweep tunes several widths; {self.network.name} has one width")

    def open(self) -> Iterator[Source]:
        """The networks, each loaded when its turn comes."""
        from tvm_mobilenet.models.variants import VARIANTS

        if not self.sweep:
            yield self.network.open()
            return
        for number, (alpha, resolution) in enumerate(VARIANTS, 1):
            what = f"{self.network.name} {alpha}-{resolution}"
            print(f"loading {what}, {number} of {len(VARIANTS)}", file=sys.stderr, flush=True)
            yield replace(self.network, alpha=alpha, resolution=resolution).open()


def load_kernels(networks: Networks, options: CompileOptions) -> list[Kernel]:
    """The kernels of networks, those of one after those of the other.

    Raises BadInput and RunFailed as loading and legalizing a network does.
    """
    return extract_kernels(networks.open(), options)


def extract_kernels(sources: Iterable[Source], options: CompileOptions) -> list[Kernel]:
    """As ``load_kernels``, of networks that are loaded."""
    from tvm_mobilenet.compiler import pipeline

    return [
        kernel for one in sources for kernel in pipeline.kernels_of(one.relax_module(), options)
    ]
