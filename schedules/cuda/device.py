"""What the analytic models behind the default decisions know of a GPU, by its architecture.

Multiprocessors, memory, L2 cache and boost clock are those of the card that most people have of
that architecture; the rest is the same for all cards of it. Sources: the CUDA programming guide's
table of technical specifications, and NVIDIA's white papers and data sheets.
"""

from __future__ import annotations

from dataclasses import dataclass

from tvm.target import Target

MAX_BLOCK_THREADS = 1024
MB = 1 << 20


@dataclass(frozen=True)
class Device:
    """`capability` is 10 · major + minor; cycles and bytes are of one multiprocessor."""

    capability: int
    multiprocessors: int
    max_threads: int
    fma_lanes: int
    mma_cycles: float  # between two m16n8k16 of one tensor core
    clock_ghz: float
    memory_gb_s: float
    l2_bytes: int
    registers: int = 65536
    shared_bytes: int = 48 * 1024  # what a block has without asking for more
    tensor_cores: int = 4
    l2_bytes_per_cycle: int = 64
    latency_cycles: int = 600  # a load from L2 and the wait for it

    def resident_blocks(self, threads: int) -> int:
        """Blocks of so many threads that a multiprocessor holds, at 64 registers a thread."""
        return max(1, min(self.max_threads // threads, self.registers // (64 * threads), 16))

    def check_block(self, threads: int, shared_bytes: int) -> None:
        """Raise ValueError for a block that no multiprocessor takes: the tuner then asks again."""
        if threads > MAX_BLOCK_THREADS:
            raise ValueError(f"{threads} threads a block, {MAX_BLOCK_THREADS} allowed")
        if shared_bytes > self.shared_bytes:
            raise ValueError(f"{shared_bytes} bytes of shared memory, {self.shared_bytes} allowed")


DEVICES = {
    "sm_75": Device(75, 40, 1024, 64, 16.0, 1.59, 320, 4 * MB),  # T4
    "sm_80": Device(80, 108, 2048, 64, 8.0, 1.41, 1555, 40 * MB),  # A100
    "sm_86": Device(86, 72, 1536, 128, 16.0, 1.695, 600, 6 * MB),  # A10
    "sm_87": Device(87, 16, 1536, 128, 8.0, 1.3, 205, 4 * MB),  # Jetson AGX Orin
    "sm_89": Device(89, 58, 1536, 128, 16.0, 2.04, 300, 48 * MB),  # L4
    "sm_90": Device(90, 132, 2048, 128, 8.0, 1.98, 3350, 50 * MB),  # H100 SXM, H200
}


def device_of(target: Target) -> Device:
    """Raises ValueError for an architecture that has no entry."""
    arch = str(target.attrs["arch"])
    if arch not in DEVICES:
        raise ValueError(f"no schedules for {arch}; there are some for {', '.join(DEVICES)}")
    return DEVICES[arch]
