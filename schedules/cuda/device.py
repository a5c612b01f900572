"""What the analytic models behind the default decisions know of a GPU."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import ClassVar

from tvm.target import Target

from schedules.facts import read_facts

MAX_BLOCK_THREADS = 1024


@dataclass(frozen=True)
class GpuModel:
    """``capability`` is 10 · major + minor; what a target says, and what is so of every GPU.

    ``max_threads``, ``fma_lanes`` (float32) and ``registers`` (of 32 bits) are of one
    multiprocessor; ``mma_cycles`` lie between two m16n8k16 of one tensor core.
    """

    capability: int
    multiprocessors: int
    max_threads: int
    fma_lanes: int
    mma_cycles: int
    registers: int
    clock_mhz: int
    memory_gb_s: int
    l2_bytes: int

    shared_bytes: ClassVar[int] = 48 * 1024  # what a block has without asking for more
    tensor_cores: ClassVar[int] = 4  # of a multiprocessor
    l2_bytes_per_cycle: ClassVar[int] = 64
    latency_cycles: ClassVar[int] = 600  # a load from L2 and the wait for it

    @property
    def clock_ghz(self) -> float:
        return self.clock_mhz / 1000

    def resident_blocks(self, threads: int) -> int:
        """Blocks of so many threads that a multiprocessor holds, at 64 registers a thread."""
        return max(1, min(self.max_threads // threads, self.registers // (64 * threads), 16))

    def check_block(self, threads: int, shared_bytes: int) -> None:
        """Raise ValueError for a block that no multiprocessor takes: the tuner then asks again."""
        if threads > MAX_BLOCK_THREADS:
            raise ValueError(f"{threads} threads a block, {MAX_BLOCK_THREADS} allowed")
        if shared_bytes > self.shared_bytes:
            raise ValueError(f"{shared_bytes} bytes of shared memory, {self.shared_bytes} allowed")


# What a target must say of its GPU.
FACTS = tuple(field.name for field in fields(GpuModel) if field.name != "capability")


def device_of(target: Target) -> GpuModel:
    """Raises ValueError where the target does not carry its GPU's facts."""
    capability = int(str(target.attrs["arch"]).removeprefix("sm_"))
    return GpuModel(capability=capability, **read_facts(target, FACTS))
