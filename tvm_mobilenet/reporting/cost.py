"""What a network costs, as tables for the terminal."""

from __future__ import annotations

from rich.table import Table

from tvm_mobilenet import models
from tvm_mobilenet.models.cost import (
    cost_of,
    op_title,
    paper_cost,
    paper_top1,
    paper_variants,
)


def layer_table(config: models.Config) -> Table:
    table = Table(title=_title(config), title_justify="left")
    for heading in ("layer", "type"):
        table.add_column(heading)
    for heading in ("input", "output", "stride", "multiply-adds", "parameters"):
        table.add_column(heading, justify="right")
    for layer in cost_of(config).layers:
        table.add_row(
            layer.name,
            op_title(layer.op),
            f"{layer.in_channels}x{layer.in_size}x{layer.in_size}",
            f"{layer.out_channels}x{layer.out_size}x{layer.out_size}",
            str(layer.stride),
            f"{layer.multiply_adds:,}",
            f"{layer.parameters:,}",
        )
    return table


def op_table(config: models.Config) -> Table:
    table = Table(title="By type (weights without batch norm and bias)", title_justify="left")
    table.add_column("type")
    for heading in ("multiply-adds", "share", "weights", "share"):
        table.add_column(heading, justify="right")
    for op, of_op in cost_of(config).by_op().items():
        table.add_row(
            op_title(op),
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


def summarize(config: models.Config) -> str:
    cost = cost_of(config)
    text = (
        f"{cost.multiply_adds / 1e6:.1f} M multiply-adds, {cost.parameters / 1e6:.2f} M parameters"
    )
    paper = paper_cost(config)
    if paper is not None:
        note = f", {paper.note}" if paper.note else ""
        text += f"; published: {paper.multiply_adds:g} M, {paper.parameters:g} M{note}"
    top1 = paper_top1(config)
    return text if top1 is None else f"{text}; ImageNet top-1 {top1} % (paper)"


def _title(config: models.Config) -> str:
    width = models.width_of(config)
    variant = config.resolution if width is None else f"{width}-{config.resolution}"
    return f"{models.name_of(config)} {variant}"
