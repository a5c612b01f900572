"""What is done to a network between its file and the compiler: pictures, labels, precision.

``compile`` and ``tune`` go this one way, so that both see the same kernels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tvm_mobilenet import api
from tvm_mobilenet.building.bundles import check_float
from tvm_mobilenet.errors import BadInput
from tvm_mobilenet.models.resizing import ResizingFlags

if TYPE_CHECKING:
    from tvm_mobilenet.compiler.precision import Precision
    from tvm_mobilenet.network.source import NetworkSpec, Source
    from tvm_mobilenet.quantization.calibration import Abilities, Calibration
    from tvm_mobilenet.quantization.quantize import Quantized
    from tvm_mobilenet.runtime.image import Pixels

AS_KNOWN = ResizingFlags()


@dataclass(frozen=True)
class Preparation:
    """What was asked for of a network.

    ``calibration`` is for int8, of a network that is not quantized yet; ``has`` says what the
    target's kernels have besides int8, None for nothing. ``pixels`` and ``resizing`` are how a
    picture becomes its input, None and nothing where its own way is right; ``labels`` name its
    classes, empty where nobody said.
    """

    precision: Precision = "fp32"
    calibration: Calibration | None = None
    pixels: Pixels | None = None
    resizing: ResizingFlags = AS_KNOWN
    labels: tuple[str, ...] = ()
    has: Abilities | None = None

    @property
    def may_keep_bf16(self) -> bool:
        """Whether layers of a network in int8 may be in bfloat16."""
        if self.has is None or self.calibration is None:
            return False
        return self.has.bf16 and self.calibration.max_loss is not None

    def check(self, network: NetworkSpec) -> None:
        """Raise BadInput, before any work, for samples that would be ignored or are missing."""
        if self.calibration is None:
            if self.precision == "int8" and network.onnx is None:
                raise BadInput(
                    f"--precision int8: give samples of the input of {network.stem}, "
                    "--calibrate FOLDER|FILE.npy"
                )
            return
        if self.precision != "int8":
            raise BadInput(
                f"--calibrate is for --precision int8; {self.precision} needs no samples, drop it"
            )
        if not self.calibration.samples.exists():
            raise BadInput(f"--calibrate {self.calibration.samples}: no such file")

    def prepare(self, source: Source) -> tuple[Source, Quantized | None]:
        """The network as it is compiled, and how it was quantized here; None where it was not.

        Raises BadInput for what the network does not take: pictures, samples, the precision.
        """
        source = source.labelled(self.labels)
        if self.resizing:
            source = source.resized(self.resizing)
        if self.pixels is not None:
            source = source.normalised(self.pixels.normalisation, bgr=self.pixels.bgr)
        check_float(source, self.precision)
        if self.precision != "int8":
            return source, None
        return api.in_int8(source, self.calibration, self.has)
