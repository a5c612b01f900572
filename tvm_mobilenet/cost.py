"""The command ``cost``: multiply-adds and parameters of a network, by layer and by type."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tvm_mobilenet import cli, models, network_flags
from tvm_mobilenet.errors import BadInput
from tvm_mobilenet.models.cost import (
    FORMAT_VERSION,
    as_dict,
    paper_variants,
    reference_as_dict,
)
from tvm_mobilenet.models.paper_tables import REFERENCES


def main(argv: Sequence[str] | None = None) -> int:
    """Command line of ``cost``; returns the exit status."""
    parser = cli.make_parser("cost", "Multiply-adds and parameters by layer and by type.")
    parser.add_argument(
        "--model", default=models.DEFAULT_MODEL, metavar="M", help="a name in MODELS (%(default)s)"
    )
    parser.add_argument(
        "--alpha", type=cli.alpha, help="width multiplier in (0, 2] (1.0, or that of --weights)"
    )
    parser.add_argument(
        "--resolution",
        type=cli.resolution,
        help="input size; a multiple of 32 for MobileNetV1 (the published one)",
    )
    parser.add_argument(
        "--weights", type=Path, metavar="FILE", help="take the variant from this file of weights"
    )
    network_flags.add_head_flags(parser)
    parser.add_argument(
        "--paper",
        action="store_true",
        help="the variants of MobileNetV1's paper, and what it compares them with, instead",
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    args = parser.parse_args(argv)
    return cli.run_command(_body, args)


def _body(args: argparse.Namespace) -> int:
    # checked even with --paper, where it would go unnoticed otherwise
    options = network_flags.head_options(args)
    config = _config(args.model, args.alpha, args.resolution, options, args.weights)
    if args.paper and config != models.config_from(models.DEFAULT_MODEL):
        raise BadInput("--paper prints its own variants; drop --model, --alpha and the like")
    if args.json:
        chosen = paper_variants() if args.paper else [config]
        document: dict[str, Any] = {"format_version": FORMAT_VERSION}
        document["results"] = [as_dict(one) for one in chosen]
        if args.paper:
            document["references"] = [reference_as_dict(one) for one in REFERENCES]
        print(json.dumps(document, indent=2))
        return 0

    from rich.console import Console

    from tvm_mobilenet.reporting.cost import (
        layer_table,
        op_table,
        paper_table,
        reference_table,
        summarize,
    )

    ours = (layer_table, op_table)
    tables = (paper_table(), reference_table()) if args.paper else [one(config) for one in ours]
    console = Console()
    # piped into a file there is no screen to fit, and a cut number is no number
    console = console if console.is_terminal else Console(width=120)
    for table in tables:
        console.print(table)
    if not args.paper:
        console.print(summarize(config), highlight=False)
    return 0


def _config(
    model: str,
    alpha: float | None,
    resolution: int | None,
    options: Mapping[str, Any],
    file: Path | None,
) -> models.Config:
    if file is None:
        return models.config_from(model, alpha or 1.0, resolution, **options)
    from tvm_mobilenet import weights

    trained = weights.read(file, model, alpha=alpha, resolution=resolution, **options)
    print(f"weights {trained.line}", file=sys.stderr)
    return trained.config


if __name__ == "__main__":
    cli.leave(main())
