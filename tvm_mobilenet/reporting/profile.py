"""The layers of a profiled network as a table on a terminal."""

from __future__ import annotations

from typing import Literal

from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

from tvm_mobilenet.benchmark.profile.layers import Profile
from tvm_mobilenet.kernels.arithmetic import Arithmetic, arithmetic_of
from tvm_mobilenet.reporting import words

TABLE_WIDTH = 112
WIDEST = 1000
# what a network's floor is made of
FLOORS: dict[Arithmetic, str] = {
    "fma": "FMA",
    "bytes": "int8",
    "bf16": "bf16",
    "fp16": "fp16",
    "bytes_tiles": "int8 tiles",
    "bf16_tiles": "bf16 tiles",
}


def print_profile(console: Console, title: str, result: Profile) -> None:
    """The table: a row a layer, then the sums, the peaks and the floor."""
    peaks, total = result.peaks, sum(one.seconds for one in result.layers)
    speed = words.speed_heading(peaks.operations_per_s)
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    for heading in ("kernel", "µs", "share", speed, "GB/s", "of its bound", "by", "schedule"):
        justify: Literal["left", "right"] = (
            "left" if heading in ("kernel", "by", "schedule") else "right"
        )
        table.add_column(heading, justify=justify, no_wrap=True)
    for one in result.layers:
        arithmetic, memory = peaks.arithmetic_s(one.layer), peaks.memory_s(one.layer)
        share = max(arithmetic, memory) / result.threads / one.seconds
        kind = arithmetic_of(one.layer.workload)
        table.add_row(
            one.layer.workload,
            f"{one.seconds * 1e6:.1f}",
            f"{one.seconds / total:.1%}",
            f"{one.layer.flops / one.seconds / 1e9:.1f}",
            f"{one.layer.nbytes / one.seconds / 1e9:.1f}",
            f"{share:.0%}",
            words.ARITHMETIC[kind] if arithmetic >= memory else "memory",
            "tuned" if one.layer.tuned else "default",
        )
    # never narrower than its cells: a cut-off kernel name says nothing
    whole = Measurement.get(console, console.options.update(max_width=WIDEST), table)
    console.width = max(console.width, TABLE_WIDTH, whole.maximum)
    console.print(table)
    in_registers = ", ".join(words.peak(kind, one) for kind, one in peaks.operations_per_s.items())
    console.print(
        f"layers {total * 1e3:.3f} ms, infer {result.network_s * 1e3:.3f} ms; one core: "
        f"{in_registers} in registers, {peaks.bytes_per_s / 1e9:.0f} GB/s reading these weights\n"
        f"{floor_line(result)}",
        highlight=False,
        soft_wrap=True,
    )
    for line in state_lines(result):
        console.print(line, highlight=False, soft_wrap=True)


def state_lines(result: Profile) -> list[str]:
    """What each of the core's states gave, where there were two; nothing where there was one."""
    if result.state is None:
        return []
    lines = [
        f"core {one.state} during {one.share:.0%} of the inferences: infer "
        f"{one.network_s * 1e3:.3f} ms, {one.network_s / one.floor_s:.2f} times its floor there, "
        f"{one.floor_s * 1e3:.3f} ms ({words.peak('fma', one.peaks.operations_per_s['fma'])} with "
        "another instruction beside each FMA)"
        for one in result.states
    ]
    return [*lines, f"the table is of inferences with the core {result.state}"]


def floor_line(result: Profile) -> str:
    """The network against its floor: each layer at the peak of what it is made of."""
    kinds = dict.fromkeys(arithmetic_of(one.layer.workload) for one in result.layers)
    what = " and ".join(FLOORS[kind] for kind in kinds)
    threads = f"{result.threads} thread{'s' if result.threads > 1 else ''}"
    times = result.network_s / result.floor_s
    return (
        f"{what} floor {result.floor_s * 1e3:.3f} ms on {threads}: infer takes {times:.2f} times "
        "the floor"
    )
