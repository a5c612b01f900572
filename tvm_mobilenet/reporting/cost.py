"""What a network costs, as tables for the terminal."""

from __future__ import annotations

from rich.table import Table

from tvm_mobilenet import models
from tvm_mobilenet.models.cost import OP_TITLES, cost_of, paper_top1, paper_variants
from tvm_mobilenet.models.stages import MobileNetConfig


def layer_table(config: MobileNetConfig) -> Table:
    table = Table(title=_title(config), title_justify="left")
    for heading in ("layer", "type"):
        table.add_column(heading)
    for heading in ("input", "output", "stride", "multiply-adds", "parameters"):
        table.add_column(heading, justify="right")
    for layer in cost_of(config).layers:
        table.add_row(
            layer.name,
            OP_TITLES[layer.op],
            f"{layer.in_channels}x{layer.in_size}x{layer.in_size}",
            f"{layer.out_channels}x{layer.out_size}x{layer.out_size}",
            str(layer.stride),
            f"{layer.multiply_adds:,}",
            f"{layer.parameters:,}",
        )
    return table


def op_table(config: MobileNetConfig) -> Table:
    table = Table(title="By type (weights without batch norm and bias)", title_justify="left")
    table.add_column("type")
    for heading in ("multiply-adds", "share", "weights", "share"):
        table.add_column(heading, justify="right")
    for op, of_op in cost_of(config).by_op().items():
        table.add_row(
            OP_TITLES[op],
            f"{of_op.multiply_adds:,}",
            f"{of_op.multiply_adds_share:.2%}",
            f"{of_op.weights:,}",
            f"{of_op.weights_share:.2%}",
        )
    return table


def paper_table() -> Table:
    title = "The paper's variants; top-1 is the paper's, nothing measured here"
    table = Table(title=title, title_justify="left")
    table.add_column("model")
    for heading in ("multiply-adds", "parameters", "paper top-1"):
        table.add_column(heading, justify="right")
    for config in paper_variants():
        cost = cost_of(config)
        top1 = paper_top1(config)
        table.add_row(
            _title(config),
            f"{cost.multiply_adds / 1e6:.0f} M",
            f"{cost.parameters / 1e6:.2f} M",
            "" if top1 is None else f"{top1} %",
        )
    return table


def summarize(config: MobileNetConfig) -> str:
    cost = cost_of(config)
    text = (
        f"{cost.multiply_adds / 1e6:.1f} M multiply-adds, {cost.parameters / 1e6:.2f} M parameters"
    )
    top1 = paper_top1(config)
    return text if top1 is None else f"{text}; ImageNet top-1 {top1} % (paper)"


def _title(config: MobileNetConfig) -> str:
    return f"{models.name_of(config)} {config.alpha}-{config.resolution}"
