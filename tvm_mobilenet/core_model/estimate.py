"""How long a scheduled kernel takes on a core, by the model: no device, nothing is run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tvm_mobilenet.core_model.caches import incoming, nest_of
from tvm_mobilenet.core_model.interpreter import ISAS, Interpreter
from tvm_mobilenet.core_model.operation import Unmodelled
from tvm_mobilenet.hardware.core import Core

if TYPE_CHECKING:
    import tvm
    from tvm.target import Target

    from tvm_mobilenet.core_model.interpreter import Count

KERNEL = "main_compute_"  # what TVM calls a kernel's code behind the checks of its arguments
EXPOSED = 0.3  # of the lesser costs: how much of them the greatest does not hide


@dataclass(frozen=True)
class Estimate:
    """What a kernel does, and the bytes it brings into L1 and L2; cycles and seconds for it all."""

    core: Core
    count: Count
    l1_bytes: float
    l2_bytes: float

    @property
    def cycles(self) -> float:
        parts = (
            self.count.cycles,
            self.l1_bytes / self.core.l2_bandwidth,
            self.l2_bytes / self.core.memory_bandwidth,
        )
        return max(parts) + EXPOSED * (sum(parts) - max(parts))

    @property
    def seconds(self) -> float:
        return self.cycles / (self.core.clock_mhz * 1e6)


def estimate(
    mod: tvm.IRModule, target: Target, core: Core, threads: int = 1, *, cold: bool = True
) -> Estimate:
    """The estimate of a scheduled ``main``.

    Raises Unmodelled where the model does not know the target's instructions, or one of the code's.
    """
    from tvm_mobilenet.compiler.cpu.lowering import lower

    isa = isa_of(target)
    moved = traffic(mod, core)
    assembly = lower(mod, target).inspect_source("asm")
    count = Interpreter(assembly, isa, core, threads, moved.refill).call(
        KERNEL, len(mod["main"].params)
    )
    l2_bytes = moved.weights * cold + moved.images * moved.beyond
    return Estimate(core, count, moved.read / threads, l2_bytes / threads)


def isa_of(target: Target) -> str:
    """The instruction set of the target's triple. Raises Unmodelled for one the model lacks."""
    isa = str(target.attrs.get("mtriple", "")).partition("-")[0]
    if isa not in ISAS:
        raise Unmodelled(f"the model knows {' and '.join(ISAS)}, not {isa or 'an unnamed host'}")
    return isa


@dataclass(frozen=True)
class Traffic:
    """``read``: bytes into L1. ``weights``, ``images``: bytes into an empty L2.

    ``beyond``: how much of the images is not in L2 at first, though the kernel before has just
    written them. ``refill``: cycles for a byte of a line that is written: it comes, and goes again.
    """

    read: float
    weights: float
    images: float
    beyond: float
    refill: float


def traffic(mod: tvm.IRModule, core: Core) -> Traffic:
    """What the kernel moves, by its loops."""
    nest = nest_of(mod)
    _, *weights, result = [str(one.name) for one in mod["main"].params]
    into_l1 = incoming(nest, core.l1_bytes, core.line_bytes)
    into_l2 = incoming(nest, core.l2_bytes, core.line_bytes)
    read = sum(lines for name, lines in into_l1.items() if name != result)
    constant = sum(lines for name, lines in into_l2.items() if name in weights)
    images = (sum(into_l2.values()) - constant) * core.line_bytes
    # half a cache of them stays, a whole cache does not
    beyond = min(1.0, max(0.0, 2 * images / core.l2_bytes - 1))
    refill = 2 * ((1 - beyond) / core.l2_bandwidth + beyond / core.memory_bandwidth)
    return Traffic(read * core.line_bytes, constant * core.line_bytes, images, beyond, refill)
