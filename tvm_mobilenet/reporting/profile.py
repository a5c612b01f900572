"""The layers of a profiled network as a table on a terminal."""

from __future__ import annotations

from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

from tvm_mobilenet.benchmark.profile.layers import Profile

TABLE_WIDTH = 112
WIDEST = 1000


def print_profile(console: Console, title: str, result: Profile) -> None:
    """The table: a row a layer, then the sums, the peaks and the floor."""
    peaks, total = result.peaks, sum(one.seconds for one in result.layers)
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    for heading in ("kernel", "µs", "share", "GFLOP/s", "GB/s", "of its bound", "by", "schedule"):
        words = heading in ("kernel", "by", "schedule")
        table.add_column(heading, justify="left" if words else "right", no_wrap=True)
    for one in result.layers:
        arithmetic, memory = peaks.arithmetic_s(one.layer), peaks.memory_s(one.layer)
        share = max(arithmetic, memory) / result.threads / one.seconds
        limit = "arithmetic" if arithmetic >= memory else "memory"
        table.add_row(
            one.layer.workload,
            f"{one.seconds * 1e6:.1f}",
            f"{one.seconds / total:.1%}",
            f"{one.layer.flops / one.seconds / 1e9:.1f}",
            f"{one.layer.nbytes / one.seconds / 1e9:.1f}",
            "-" if one.by_dot_products else f"{share:.0%}",
            "-" if one.by_dot_products else limit,
            "tuned" if one.layer.tuned else "default",
        )
    # never narrower than its cells: a cut-off kernel name says nothing
    whole = Measurement.get(console, console.options.update(max_width=WIDEST), table)
    console.width = max(console.width, TABLE_WIDTH, whole.maximum)
    console.print(table)
    console.print(
        f"layers {total * 1e3:.3f} ms, infer {result.network_s * 1e3:.3f} ms; one core: "
        f"{peaks.flops_per_s / 1e9:.0f} GFLOP/s in registers, {peaks.bytes_per_s / 1e9:.0f} GB/s "
        f"reading these weights\n{floor_line(result)}",
        highlight=False,
        soft_wrap=True,
    )


def floor_line(result: Profile) -> str:
    """The network against its floor, or why it has none."""
    floor_s = result.floor_s
    if floor_s is None:
        return "no floor: FMAs say nothing of kernels in int8 and bf16"
    threads = f"{result.threads} thread{'s' if result.threads > 1 else ''}"
    times = result.network_s / floor_s
    return f"FMA floor {floor_s * 1e3:.3f} ms on {threads}: infer takes {times:.2f} times the floor"
