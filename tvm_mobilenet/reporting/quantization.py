"""What became of a network in int8 as a table: each tensor between kernels, and the outputs."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from tvm_mobilenet.quantization.report import Report
from tvm_mobilenet.reporting.layers import TABLE_WIDTH


def print_quantization(report: Report) -> None:
    """A row for each int8 tensor, then the agreement with float32 and what was done for it."""
    table = Table(box=None, pad_edge=False)
    for heading in ("int8 tensor of", "operators", "SNR dB", "from", "to", "clipped"):
        words = heading in ("int8 tensor of", "operators")
        table.add_column(heading, justify="left" if words else "right", no_wrap=True)
    for one in report.tensors:
        table.add_row(
            one.layer,
            one.operators,
            f"{one.decibels:.1f}",
            f"{one.low:.4g}",
            f"{one.high:.4g}",
            f"{one.clipped:.3%}",
        )
    console = Console()
    console.width = max(console.width, TABLE_WIDTH)  # a cut-off name says nothing
    console.print(table)
    for line in lines(report):
        print(line)


def lines(report: Report) -> list[str]:
    """The agreement with float32, and how it came about."""
    how = report.summary
    done = [f"ranges by {how.ranges}"]
    if how.equalized:
        tensors = "1 tensor" if how.equalized == 1 else f"{how.equalized} tensors"
        done.append(f"channels of {tensors} equalized")
    done.append("biases corrected" if how.bias_corrected else "biases as they were")
    where = "the sample itself" if how.held_out == how.samples == 1 else f"{how.held_out} held-out"
    found = [f"int8: {', '.join(done)}", f"int8 and fp32 on {where}: {report.agreement}"]
    found += [f"in {name} for --max-loss: {', '.join(layers)}" for name, layers in how.kept()]
    return found
