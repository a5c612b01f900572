"""The ``report`` stage: results files → HTML with charts, Markdown, CSV, or tables on the terminal.

Reads JSON only, so it runs where no engine, neither torch nor tvm, is installed.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tvm_mobilenet import cli, extras, files
from tvm_mobilenet.errors import BadInput

if TYPE_CHECKING:
    from tvm_mobilenet.results.inputs import Inputs

_KINDS = (".html", ".md", ".csv")


def main(argv: Sequence[str] | None = None) -> int:
    parser = cli.make_parser("report", "Show results files of `bench` as a report.")
    what = "of `bench --json`, of `bench --profile --json`, or the folder of a tuning log"
    parser.add_argument("results", nargs="+", type=Path, metavar="RESULTS.json", help=what)
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="FILE",
        help="report.html, report.md or report.csv; without it tables go to the terminal",
    )
    return cli.run_stage(_body, cli.parse(parser, argv))


def _body(args: argparse.Namespace) -> int:
    if args.output is not None:
        _check_output(args.output)
    from tvm_mobilenet.files import write_text
    from tvm_mobilenet.results import inputs

    loaded = inputs.load(args.results)
    if args.output is None:
        _print(loaded)
        return 0
    write_text(args.output, _render(args.output, loaded))
    print(f"wrote {args.output}")
    return 0


def _check_output(path: Path) -> None:
    if path.suffix not in _KINDS:
        raise BadInput(f"-o {path}: expected a name that ends in {', '.join(_KINDS)}")
    if path.is_dir() or not path.absolute().parent.is_dir():
        raise BadInput(f"-o {path}: not a file in an existing directory")
    if path.suffix == ".html":
        extras.require("report")
    files.check_replaceable(path, "-o")


def _render(output: Path, loaded: Inputs) -> str:
    if output.suffix == ".html":
        from tvm_mobilenet.reporting import html

        return html.render_inputs(loaded)
    _check_results_alone(loaded, output.suffix)
    from tvm_mobilenet.reporting import csv_rows, markdown

    if output.suffix == ".csv":
        return csv_rows.render(loaded.results)
    return markdown.render(loaded.results)


def _check_results_alone(loaded: Inputs, where: str) -> None:
    others = [source for source, _ in (*loaded.profiles, *loaded.tuning)]
    if others:
        raise BadInput(f"{others[0]}: profiles and tuning logs are shown in HTML, not in {where}")


def _print(loaded: Inputs) -> None:
    _check_results_alone(loaded, "a terminal")
    from rich.console import Console

    from tvm_mobilenet.reporting import terminal, words

    console = Console()
    for source, results in loaded.results:
        for name, value in words.provenance(results, source):
            console.print(f"{name}: {value}", markup=False, highlight=False, soft_wrap=True)
        terminal.print_tables(console, results)


if __name__ == "__main__":
    sys.exit(main())
