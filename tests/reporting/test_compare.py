"""``report --compare`` and ``--history``: verdicts, their reasons, exit statuses."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from support.result_rows import MACHINE, counted, results, row

from tvm_mobilenet import report
from tvm_mobilenet.results import schema
from tvm_mobilenet.results.changes import Change, changes
from tvm_mobilenet.results.history import series
from tvm_mobilenet.results.schema import ResultRow, Results

OLD = results(row("bundle", 9.0), row("peer", 10.0), row("bundle", 4.0, resolution=160))


def change(old: Results, new: Results) -> Change:
    return changes([("old", old)], [("new", new)])[0]


def pair(ours: float, peer: float, **other: Any) -> Results:
    return results(row("bundle", ours, **other), row("peer", peer, **other))


@pytest.mark.parametrize(
    ("new", "verdict"),
    [
        (pair(9.0, 10.0), "no difference"),
        (pair(9.09, 10.0), "no difference"),  # less than two runs of the same code may differ
        (pair(9.9, 10.0), "slower"),
        (pair(8.1, 10.0), "faster"),
        (pair(9.45, 10.5), "no difference"),  # the machine alone became slower
        (pair(9.0, 10.5), "faster"),  # on a machine that became slower
    ],
)
def test_verdicts(new: Results, verdict: str) -> None:
    found = change(OLD, new)
    assert found.verdict == verdict and found.references == ("peer",)
    assert found.ratio is not None and found.ratio.low <= found.ratio.value <= found.ratio.high


@pytest.mark.parametrize(
    ("new", "reason"),
    [
        (pair(18.0, 20.0), "the machine was another one: peer, the same in both, took 2.00"),
        (results(row("bundle", None, reason="broken")), "not run in the new results: broken"),
        (pair(9.0, 10.0, precision="int8"), "the new results have no such row"),
        (
            dataclasses.replace(OLD, machine=dataclasses.replace(MACHINE, cpu="Other")),
            "the new results have no such row",
        ),
    ],
)
def test_what_cannot_be_compared_says_why(new: Results, reason: str) -> None:
    found = change(OLD, new)
    assert found.verdict == "not comparable" and reason in found.reason and found.ratio is None


def test_without_a_reference_a_verdict_asks_for_more() -> None:
    def alone(ms: float, version: str = "2") -> Results:
        return results(row("bundle", ms), row("peer", 10.0, engine_version=version))

    assert change(OLD, alone(9.2)).verdict == "no difference"
    assert change(OLD, alone(9.5)).verdict == "slower"
    peer = changes([("old", OLD)], [("new", alone(9.0))])[1]
    assert peer.engine == "peer" and not peer.references  # another version: no reference, but a row


def test_counts_are_compared_as_counts() -> None:
    def count(instructions: int) -> Results:
        return results(counted("bundle", instructions))

    assert change(count(1_000_000), count(1_000_500)).verdict == "no difference"
    assert change(count(1_000_000), count(1_010_000)).verdict == "slower"
    assert change(count(1_000_000), count(900_000)).verdict == "faster"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """OLD as a file, a slower run as another."""
    monkeypatch.chdir(tmp_path)
    schema.dump(OLD, tmp_path / "old.json")
    new = results(row("bundle", 9.9), row("peer", 10.0), row("bundle", 4.0, resolution=160))
    schema.dump(dataclasses.replace(new, created="2026-02-02T03:04:05+00:00"), Path("new.json"))
    return tmp_path


def run(*arguments: str) -> int:
    return report.main(list(arguments))


def test_exit_status_past_the_threshold(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    compare = ("--compare", "old.json", "new.json")
    assert run(*compare) == 0
    assert run(*compare, "--fail-above", "20%") == 0
    assert "1 slower, 1 no difference. The largest loss is 10" in capsys.readouterr().out
    assert run(*compare, "--fail-above", "5%") == 1
    assert "1 row slower by more than 5.0%" in capsys.readouterr().err
    assert run("--compare", "new.json", "old.json", "--fail-above", "0%") == 0


def test_markdown_comment(folder: Path) -> None:
    assert run("--compare", "old.json", "new.json", "-o", "c.md") == 0
    text = Path("c.md").read_text()
    assert text.startswith("## Latency: new.json against old.json\n\n**Of 2 rows: 1 slower, 1 no")
    assert "### Imaginary CPU, 2 cores" in text and "| slower |" in text


def test_machines_stand_side_by_side(folder: Path) -> None:
    pytest.importorskip("matplotlib")
    elsewhere = dataclasses.replace(OLD, machine=dataclasses.replace(MACHINE, cpu="Other CPU"))
    for name in ("before", "after"):
        Path(name).mkdir()
        schema.dump(OLD, Path(name, "here.json"))
        schema.dump(elsewhere, Path(name, "there.json"))
        Path(name, "notes.json").write_text('{"rows": []}')  # no results, and no matter
    assert run("--compare", "before", "after", "-o", "c.html") == 0
    page = Path("c.html").read_text()
    assert "Machines side by side" in page and "Of 4 rows: 4 no difference." in page
    assert run("--compare", "before", "after", "-o", "c.md") == 0
    header = "| network | engine | precision | threads | Imaginary CPU, 2 cores | Other CPU, 2"
    assert header in Path("c.md").read_text()


def test_history_is_in_order_of_time(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--history", ".") == 0
    assert "fp32, 1 thread, Imaginary CPU, 2 cores" in capsys.readouterr().out
    loaded = [(name, schema.load(Path(name))) for name in ("new.json", "old.json")]
    (one,) = series(loaded)
    assert [when[:10] for when, _, _ in one.means()] == ["2026-01-02", "2026-02-02"]
    assert one.in_every_run == ["mobilenet_v1 1.0-224", "mobilenet_v1 1.0-160"]
    before, after = (ours for _, ours, _ in one.means())
    assert after / before == pytest.approx(1.1**0.5, rel=0.01)
    pytest.importorskip("matplotlib")
    assert run("--history", ".", "-o", "h.html") == 0
    assert (
        "On 2026-02-02 ours takes 1.05 times as long as on 2026-01-02" in Path("h.html").read_text()
    )
    assert run("--history", ".", "-o", "h.md") == 0


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ((), "expected one of RESULTS.json, --compare OLD NEW and --history DIR"),
        (("old.json", "--history", "."), "expected one of RESULTS.json"),
        (("old.json", "--fail-above", "5%"), "--fail-above goes with --compare"),
        (("--compare", "old.json", "none.json"), "none.json: cannot be read"),
        (("--compare", "old.json", "new.json", "--fail-above", "x"), "x: expected per cent"),
        (("--compare", "old.json", "new.json", "-o", "c.csv"), "CSV is of results"),
        (("--history", "old.json"), "expected a folder"),
        (("--history", "empty"), "no results file"),
        (("--compare", "cut.json", "new.json"), "cut.json: not JSON"),
        (("--history", "undated"), "created: missing"),
    ],
)
def test_bad_input(
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    complaint: str,
) -> None:
    Path("empty").mkdir()
    Path("undated").mkdir()
    schema.dump(dataclasses.replace(OLD, created=None), Path("undated", "r.json"))
    Path("cut.json").write_text(Path("old.json").read_text()[:-40])
    try:
        status = run(*arguments)
    except SystemExit as error:  # argparse's own
        status = int(error.code or 0)
    assert status == 2
    assert complaint in capsys.readouterr().err


def test_no_row_is_lost() -> None:
    rows: list[ResultRow] = [row("bundle", 9.0, threads=count) for count in (1, 2, 4)]
    found = changes([("old", results(*rows[:2]))], [("new", results(*rows[1:]))])
    assert [one.verdict for one in found] == ["not comparable", "no difference", "not comparable"]
