"""The ``cost`` stage: multiply-adds and parameters of a network, by layer and by type."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from tvm_mobilenet import cli, models
from tvm_mobilenet.errors import BadInput
from tvm_mobilenet.models.cost import FORMAT_VERSION, as_dict, paper_variants


def main(argv: Sequence[str] | None = None) -> int:
    """Command line of the ``cost`` stage; returns the exit status."""
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
        "--classes",
        type=cli.positive_int,
        help="classes told apart (1000, or those of --weights)",
    )
    parser.add_argument(
        "--weights", type=Path, metavar="FILE", help="take the variant from this file of weights"
    )
    parser.add_argument(
        "--paper",
        action="store_true",
        help="the 16 variants of MobileNetV1's paper and its two relatives instead",
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    args = parser.parse_args(argv)
    return cli.run_stage(_body, args)


def _body(args: argparse.Namespace) -> int:
    # checked even with --paper, where it would go unnoticed otherwise
    config = _config(args.model, args.alpha, args.resolution, args.classes, args.weights)
    if args.paper and config != models.config_from(models.DEFAULT_MODEL):
        raise BadInput("--paper prints its own variants; drop --model, --alpha and the like")
    if args.json:
        chosen = paper_variants() if args.paper else [config]
        results = [as_dict(one) for one in chosen]
        print(json.dumps({"format_version": FORMAT_VERSION, "results": results}, indent=2))
        return 0

    from rich.console import Console

    from tvm_mobilenet.reporting.cost import layer_table, op_table, paper_table, summarize

    tables = [paper_table()] if args.paper else [layer_table(config), op_table(config)]
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
    classes: int | None,
    file: Path | None,
) -> models.Config:
    if file is None:
        others = {} if classes is None else {"num_classes": classes}
        return models.config_from(model, alpha or 1.0, resolution, **others)
    from tvm_mobilenet import weights

    trained = weights.read(file, model, alpha=alpha, resolution=resolution, num_classes=classes)
    print(f"weights {trained.line}", file=sys.stderr)
    return trained.config


if __name__ == "__main__":
    sys.exit(main())
