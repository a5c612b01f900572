"""The layers of a bundle as a table: which schedule each kernel has, and its record's time."""

from __future__ import annotations

import re

from rich.console import Console
from rich.table import Table

from tvm_mobilenet.bundle import Manifest
from tvm_mobilenet.kernels.arithmetic import arithmetic_of

TABLE_WIDTH = 100
PRODUCTS = re.compile("conv|dense|matmul")  # in the names of kernels that multiply by weights


def print_layers(manifest: Manifest) -> None:
    """A table: every kernel call, tuned, default or none of ours, and the record's time."""
    table = Table(box=None, pad_edge=False)
    for heading in ("layer", "kernel", "schedule", "recorded µs", "measured"):
        right = heading.endswith("µs")
        table.add_column(heading, justify="right" if right else "left", no_wrap=True)
    for layer in manifest.layers:
        latency = "" if layer.latency_us is None else f"{layer.latency_us:.1f}"
        day = layer.date.partition("T")[0] if layer.date else None
        how = " ".join(part for part in (layer.how, day) if part)
        schedule = "tuned" if layer.tuned else "default" if layer.own else "TVM's operator"
        table.add_row(layer.name, layer.workload, schedule, latency, how)
    console = Console()
    console.width = max(console.width, TABLE_WIDTH)  # a cut-off kernel name says nothing
    console.print(table)


def outside_of_int8(manifest: Manifest) -> str | None:
    """Of a network in int8 a line of the products that are not; None where all of them are."""
    if manifest.precision != "int8":
        return None
    found = [
        f"{layer.name} {layer.workload}"
        for layer in manifest.layers
        if PRODUCTS.search(layer.workload) and arithmetic_of(layer.workload) != "bytes"
    ]
    return f"not in int8: {', '.join(found)}" if found else None
