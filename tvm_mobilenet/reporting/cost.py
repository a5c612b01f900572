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
from tvm_mobilenet.models.paper_tables import REFERENCES


def layer_table(config: models.Config) -> Table:
    table = Table(title=_title(config), title_justify="left")
    table.add_column("layer", overflow="fold")  # a name that is cut tells nothing apart
    table.add_column("type")
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


_FIGURES = ("multiply-adds", "parameters", "paper's", "paper's", "paper's top-1")


def paper_table() -> Table:
    """MobileNetV1's variants, computed from their stage table, beside the paper's figures."""
    title = "The paper's variants; accuracies are the paper's, nothing is measured here"
    table = Table(title=title, title_justify="left")
    table.add_column("model")
    for heading in _FIGURES:
        table.add_column(heading, justify="right")
    table.add_column("the paper's figures are")
    for config in paper_variants():
        cost = cost_of(config)
        paper, top1 = paper_cost(config), paper_top1(config)
        table.add_row(
            _title(config),
            _millions(cost.multiply_adds / 1e6),
            f"{cost.parameters / 1e6:.2f} M",
            "" if paper is None else _millions(paper.multiply_adds),
            "" if paper is None else f"{paper.parameters:g} M",
            "" if top1 is None else f"{top1} %",
            "" if paper is None else paper.note,
        )
    return table


def reference_table() -> Table:
    """The networks that the paper compares with, computed from their own papers' layer tables."""
    title = "The networks it compares with, by their layer tables; accuracies are the paper's"
    table = Table(title=title, title_justify="left")
    table.add_column("network")
    for heading in _FIGURES:
        table.add_column(heading, justify="right")
    table.add_column("the paper's figures are")
    for reference in REFERENCES:
        spent, paper = reference.spent, reference.paper
        notes = [paper.source, paper.note]
        if paper.data != "ImageNet":
            notes.append(f"top-1 on {paper.data}")
        table.add_row(
            f"{reference.name} {reference.resolution}",
            _millions(spent.multiply_adds / 1e6),
            f"{spent.parameters / 1e6:.2f} M",
            _millions(paper.multiply_adds),
            f"{paper.parameters:g} M",
            f"{paper.top1} %",
            "; ".join(note for note in notes if note),
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
    variant = f"{config.resolution}" if width is None else f"{width}-{config.resolution}"
    head = "" if config.head == "classes" else f" {config.head}"
    return f"{models.name_of(config)} {variant}{head}"


def _millions(value: float) -> str:
    return f"{value:,.0f} M"
