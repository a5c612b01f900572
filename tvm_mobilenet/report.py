"""The ``report`` stage: results files → HTML with plots, Markdown, or tables on the terminal.

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
    from tvm_mobilenet.results.schema import Results

_KINDS = (".html", ".md")


def main(argv: Sequence[str] | None = None) -> int:
    parser = cli.make_parser("report", "Show results files of `bench` as a report.")
    parser.add_argument("results", nargs="+", type=Path, metavar="RESULTS.json")
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="FILE",
        help="report.html or report.md; without it tables go to the terminal",
    )
    return cli.run_stage(_body, cli.parse(parser, argv))


def _body(args: argparse.Namespace) -> int:
    if args.output is not None:
        _check_output(args.output)
    from tvm_mobilenet.files import write_text
    from tvm_mobilenet.results import schema

    files = [(str(path), schema.load(path)) for path in args.results]
    if args.output is None:
        _print(files)
        return 0
    write_text(args.output, _render(args.output, files))
    print(f"wrote {args.output}")
    return 0


def _check_output(path: Path) -> None:
    if path.suffix not in _KINDS:
        raise BadInput(f"-o {path}: expected a name that ends in {' or '.join(_KINDS)}")
    if path.is_dir() or not path.absolute().parent.is_dir():
        raise BadInput(f"-o {path}: not a file in an existing directory")
    files.check_replaceable(path, "-o")
    if path.suffix == ".html":
        extras.require("report")


def _render(output: Path, files: Sequence[tuple[str, Results]]) -> str:
    if output.suffix == ".md":
        from tvm_mobilenet.reporting import markdown

        return markdown.render(files)
    from tvm_mobilenet.reporting import html

    return html.render(files)


def _print(files: Sequence[tuple[str, Results]]) -> None:
    from rich.console import Console

    from tvm_mobilenet.reporting import terminal, words

    console = Console()
    for source, results in files:
        for name, value in words.provenance(results, source):
            console.print(f"{name}: {value}", markup=False, highlight=False, soft_wrap=True)
        terminal.print_tables(console, results)


if __name__ == "__main__":
    sys.exit(main())
