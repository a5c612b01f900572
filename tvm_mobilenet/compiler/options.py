"""What a network is compiled for and how: one value from the command line to code generation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

from tvm_mobilenet.compiler import precision
from tvm_mobilenet.compiler.precision import Precision
from tvm_mobilenet.errors import BadInput

if TYPE_CHECKING:
    from tvm_mobilenet.hardware.target import TargetSpec

Executor = Literal["static", "vm"]
EXECUTORS: tuple[str, ...] = get_args(Executor)  # of networks on CPUs


@dataclass(frozen=True)
class CompileOptions:
    """How to compile. Raises BadInput for a precision or an executor that the target lacks.

    ``precision`` is fp32, on a GPU also tf32 or fp16: of activations and weights, or only of what
    is multiplied; sums are float32. On a CPU it is also int8, for a network that is quantized, bf16
    where an x86 CPU multiplies that, and fp16 where an ARM core does. With ``floats_in_bf16`` the
    layers of a quantized network that are not over integers are in bf16.
    ``executor`` is static, or on a CPU vm. Without ``strassen`` every 1x1 convolution is computed
    directly, without ``winograd`` every 3x3 one, as on a GPU in any case. With ``small_weights`` a
    CPU's bundle holds each weight once, which leaves both algorithms out too. With
    ``require_records`` a kernel without a tuning record is an error.
    """

    spec: TargetSpec
    precision: Precision = "fp32"
    executor: Executor = "static"
    strassen: bool = True
    winograd: bool = True
    small_weights: bool = False
    require_records: bool = False
    floats_in_bf16: bool = False

    def __post_init__(self) -> None:
        precision.check(self.precision, self.spec)
        if self.floats_in_bf16:
            precision.check("bf16", self.spec)
        if self.executor not in EXECUTORS:
            raise BadInput(f"executor: expected {' or '.join(EXECUTORS)}, got {self.executor!r}")
        if self.spec.gpu is not None and self.executor != "static":
            raise BadInput(
                f"target {self.spec.name}: on a GPU a network is one CUDA graph, not a program for "
                "the virtual machine; leave out --executor"
            )
        if self.spec.gpu is not None and self.small_weights:
            raise BadInput(
                f"target {self.spec.name}: on a GPU each weight is stored once in any case; leave "
                "out --small-weights"
            )

    @property
    def without(self) -> frozenset[str]:
        """The algorithms that are not used, by name."""
        wanted = {"strassen": self.strassen, "winograd": self.winograd}
        return frozenset(name for name, use in wanted.items() if self.small_weights or not use)
