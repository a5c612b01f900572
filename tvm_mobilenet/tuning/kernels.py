"""The kernels that a tuning run is about: those of one network, or of all its variants.

They are the kernels that ``compile`` looks up with the same flags: both go the way of
``preparation``.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from tvm_mobilenet import models
from tvm_mobilenet.errors import BadInput
from tvm_mobilenet.network.source import NetworkSpec
from tvm_mobilenet.preparation import Preparation

if TYPE_CHECKING:
    from tvm import tirx

    from tvm_mobilenet.compiler.options import CompileOptions
    from tvm_mobilenet.compiler.pipeline import Kernel
    from tvm_mobilenet.network.source import Source


@dataclass(frozen=True)
class Networks:
    """One network; with ``sweep`` all 16 published variants of that model in its place.

    ``preparation`` is done to each before its kernels are looked at.
    """

    network: NetworkSpec = field(default_factory=NetworkSpec)
    sweep: bool = False
    preparation: Preparation = field(default_factory=Preparation)

    @property
    def title(self) -> str:
        """What a message calls them."""
        network = self.network
        if network.onnx is not None:
            return str(network.onnx)
        return f"{network.name}, all variants" if self.sweep else network.stem

    @property
    def stem(self) -> str:
        """What they are called in a log, which says nothing of where files lie."""
        return self.network.stem if self.network.onnx is not None else self.title

    def check(self) -> None:
        """Raise BadInput, before any work, for a file or a variant that there is not.

        Neither may anything be given that would be ignored.
        """
        self.network.check()
        self.preparation.check(self.network)
        calibration = self.preparation.calibration
        pictures = calibration is not None and calibration.samples.is_dir()
        if not pictures and (self.preparation.pixels or self.preparation.resizing):
            raise BadInput(
                "--mean, --resize and their like are for the pictures of --calibrate FOLDER; drop "
                "them"
            )
        if self.sweep and calibration is not None and not pictures:
            raise BadInput(
                f"--sweep tunes several resolutions; {calibration.samples} has samples of one, "
                "give a folder of pictures"
            )
        if self.sweep and self.network.onnx is not None:
            raise BadInput("--sweep tunes the variants of --model; it takes no --onnx")
        if self.sweep and self.network.weights is not None:
            raise BadInput("--sweep tunes several widths; the file of --weights has one, drop it")
        if self.sweep and not models.MODELS[self.network.name].widths:
            raise BadInput(f"--sweep tunes several widths; {self.network.name} has one width")

    def open(self) -> Iterator[Source]:
        """The networks, each loaded, and quantized where that is asked for, when its turn comes."""
        for one in self._specs():
            source, quantized = self.preparation.prepare(one.open())
            if quantized is not None:
                print(f"{source.title} in int8, {source.quantization}", file=sys.stderr)
            yield source

    def _specs(self) -> Iterator[NetworkSpec]:
        from tvm_mobilenet.models.variants import VARIANTS

        if not self.sweep:
            yield self.network
            return
        for number, (alpha, resolution) in enumerate(VARIANTS, 1):
            what = f"{self.network.name} {alpha}-{resolution}"
            print(f"loading {what}, {number} of {len(VARIANTS)}", file=sys.stderr, flush=True)
            yield replace(self.network, alpha=alpha, resolution=resolution)


# the types that say which precision a kernel's tensors are in, the narrowest first
NARROW = {"int8": {"int8", "uint8"}, "bf16": {"bfloat16"}, "fp16": {"float16"}}


def precision_of(func: tirx.PrimFunc) -> str:
    """Of a kernel: the narrowest that one of its tensors has, fp32 where none is narrower."""
    types = {str(one.dtype) for one in func.params}
    return next((name for name, narrow in NARROW.items() if types & narrow), "fp32")


def load_kernels(networks: Networks, options: CompileOptions) -> list[Kernel]:
    """The kernels of networks, those of one after those of the other.

    Raises BadInput and RunFailed as loading and legalizing a network does.
    """
    return extract_kernels(networks.open(), options)


def extract_kernels(sources: Iterable[Source], options: CompileOptions) -> list[Kernel]:
    """As ``load_kernels``, of networks that are loaded."""
    from tvm_mobilenet.building.bundles import options_for
    from tvm_mobilenet.compiler import pipeline

    return [
        kernel
        for one in sources
        for kernel in pipeline.kernels_of(one.relax_module(), options_for(one, options))
    ]
