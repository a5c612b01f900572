"""The command ``report``: results files → HTML with charts, Markdown, CSV, or tables to read here.

Reads JSON only, so it runs where no engine, neither torch nor tvm, is installed.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tvm_mobilenet import cli, extras, files
from tvm_mobilenet.errors import BadInput, RunFailed

if TYPE_CHECKING:
    from tvm_mobilenet.results.inputs import Inputs

_KINDS = (".html", ".md", ".csv")


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status 0; 1 where something became slower than --fail-above allows; 2 bad input."""
    args = cli.parse(_make_parser(), argv)
    return cli.run_command(_body, args)


def _make_parser() -> argparse.ArgumentParser:
    parser = cli.make_parser("report", "Show results files of `bench` as a report.")
    add = parser.add_argument
    what = "of `bench --json`, of `bench --profile --json`, or the folder of a tuning log"
    add("results", nargs="*", type=Path, metavar="RESULTS.json", help=what)
    what = "report.html, report.md or report.csv; without it tables go to the terminal"
    add("-o", "--output", type=Path, metavar="FILE", help=what)
    what = "a verdict for every row of two results files, or of two folders of them"
    add("--compare", nargs=2, type=Path, metavar=("OLD", "NEW"), help=what)
    what = "with --compare: exit status 1 where a row of ours became slower by more, as in 5%%"
    add("--fail-above", type=percentage, metavar="P%", help=what)
    add("--history", type=Path, metavar="DIR", help="the results files of a folder, over time")
    return parser


def percentage(text: str) -> float:
    """The share that a text as ``5%`` or ``5`` names. Raises ArgumentTypeError."""
    try:
        share = float(text.removesuffix("%")) / 100
    except ValueError:
        share = -1.0
    if not 0 <= share < math.inf:
        raise argparse.ArgumentTypeError(f"{text}: expected per cent, as in 5%")
    return share


def _body(args: argparse.Namespace) -> int:
    chosen = [bool(args.results), args.compare is not None, args.history is not None]
    if sum(chosen) != 1:
        raise BadInput("expected one of RESULTS.json, --compare OLD NEW and --history DIR")
    if args.fail_above is not None and args.compare is None:
        raise BadInput("--fail-above goes with --compare OLD NEW")
    if args.output is not None:
        _check_output(args.output)
        if args.output.suffix == ".csv" and not args.results:
            raise BadInput(f"-o {args.output}: CSV is of results; expected .html or .md")
    if args.compare is not None:
        old, new = args.compare
        return _compare(old, new, args.output, args.fail_above)
    if args.history is not None:
        return _show_history(args.history, args.output)
    return _show(args.results, args.output)


def _show(paths: Sequence[Path], output: Path | None) -> int:
    from tvm_mobilenet.results import inputs

    loaded = inputs.load(paths)
    if output is None:
        _print(loaded)
    else:
        _write(output, _render(output, loaded))
    return 0


def _compare(old: Path, new: Path, output: Path | None, fail_above: float | None) -> int:
    from tvm_mobilenet.results.changes import changes
    from tvm_mobilenet.results.inputs import load_results

    found = changes(load_results(old), load_results(new))
    if output is None:
        from rich.console import Console

        from tvm_mobilenet.reporting.change_reports import print_changes

        print_changes(Console(), found)
    elif output.suffix == ".md":
        from tvm_mobilenet.reporting.change_reports import as_markdown

        _write(output, as_markdown(found, str(old), str(new)))
    else:
        from tvm_mobilenet.reporting import change_page, html

        _write(output, html.render_page(change_page.build(found, str(old), str(new))))
    if fail_above is None:
        return 0
    from tvm_mobilenet.reporting.change_words import beyond

    lost = beyond(found, fail_above)
    if lost:
        rows = "1 row" if len(lost) == 1 else f"{len(lost)} rows"
        raise RunFailed(f"{rows} slower by more than {fail_above:.1%}, first {lost[0].network}")
    return 0


def _show_history(directory: Path, output: Path | None) -> int:
    from tvm_mobilenet.results.history import series
    from tvm_mobilenet.results.inputs import load_results

    if not directory.is_dir():
        raise BadInput(f"--history {directory}: expected a folder of results files")
    found = series(load_results(directory))
    if output is None:
        from rich.console import Console

        from tvm_mobilenet.reporting.history_tables import print_series

        print_series(Console(), found)
    elif output.suffix == ".md":
        from tvm_mobilenet.reporting.history_tables import as_markdown

        _write(output, as_markdown(found))
    else:
        from tvm_mobilenet.reporting import history_page, html

        _write(output, html.render_page(history_page.build(found)))
    return 0


def _write(output: Path, text: str) -> None:
    files.write_text(output, text)
    print(f"wrote {output}")


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
    cli.leave(main())
