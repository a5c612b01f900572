"""The tuning database: what is written is read back, and nothing unusable passes for a record."""

from __future__ import annotations

import errno
import json
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import tuning_kernels
from support.tuning_kernels import SPEC, matmul
from tvm.s_tir import meta_schedule as ms

from tvm_mobilenet import records, tvm_runtime
from tvm_mobilenet.database import contents
from tvm_mobilenet.database.entries import Failed, Measured
from tvm_mobilenet.database.lines import (
    RecordInfo,
    line_key,
    parse_provenance,
    parse_record,
    parse_workload,
)
from tvm_mobilenet.database.meta import LogTarget
from tvm_mobilenet.database.store import Records
from tvm_mobilenet.errors import BadInput, RunFailed
from tvm_mobilenet.scheduling.space import Candidate, KernelSpace
from tvm_mobilenet.scheduling.traces import trace_key

OTHER = type(SPEC)(
    **{**SPEC.__dict__, "name": "other", "target": {**SPEC.target, "mcpu": "nehalem"}}
)
RUN = {"date": "2026-01-01", "seconds": 3.0, "trials": 6}
TRACE = [[["GetSBlock", [], ["c", "main"], ["b0"]]], []]


@pytest.fixture(scope="module")
def space() -> KernelSpace:
    tuning_kernels.register()
    return KernelSpace(matmul(8, 32, 16).func, SPEC.tvm_target())


@pytest.fixture(scope="module")
def candidates(space: KernelSpace) -> list[Candidate]:
    return [space.at(point) for point in list(space.points())[:8]]


def info(latency_us: float, **other: Any) -> RecordInfo:
    return RecordInfo(latency_us, "native", "a CPU", "2026-01-01", "0.27", 0.01, **other)


@pytest.fixture
def log(tmp_path: Path, space: KernelSpace, candidates: list[Candidate]) -> Path:
    """A folder with five records, 30 to 70 us, and a failure."""
    with Records.open(tmp_path / "log", SPEC, writable=True) as opened:
        opened.append(
            [
                Measured(space.mod, one.trace_json, info(30.0 + 10 * i, default=i == 4))
                for i, one in enumerate(candidates[:5])
            ]
        )
        opened.append([Failed(space.mod, candidates[5].key, "run timeout", "it hung")])
        opened.add_runs([RUN])
    return tmp_path / "log"


def test_what_is_written_is_read_back(
    log: Path, space: KernelSpace, candidates: list[Candidate]
) -> None:
    opened = Records.open(log, SPEC)
    (workload,) = opened.workloads
    assert opened.find(space.mod) == workload
    assert [one.trace_key for one in opened.ranked(workload)] == [c.key for c in candidates[:5]]
    assert opened.ranked(workload)[0].info == info(30.0)
    assert [one.trace_key for one in opened.failures] == [candidates[5].key]
    schedule, found = opened.schedule_for(matmul(8, 32, 16).func)
    assert schedule is not None and found == info(30.0)
    assert opened.schedule_for(matmul(8, 64, 16).func) == (None, None)


def test_what_is_not_there_is_known_by_its_hash(
    log: Path, space: KernelSpace, candidates: list[Candidate], monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = replace(info(30.0), tvm_version=tvm_runtime.version() or "none")
    others = [KernelSpace(matmul(8, n, 16).func, SPEC.tvm_target()) for n in (48, 64)]
    with Records.open(log.parent / "ours", SPEC, writable=True) as opened:
        for one in (space, *others):
            opened.append([Measured(one.mod, one.default.trace_json, ours)])
    absent = KernelSpace(matmul(8, 96, 16).func, SPEC.tvm_target()).mod
    read: list[int] = []
    module = Records.module

    def noted(self: Records, number: int) -> Any:
        read.append(number)
        return module(self, number)

    monkeypatch.setattr(Records, "module", noted)
    reopened = Records.open(log.parent / "ours", SPEC)
    assert reopened.find(absent) is None and set(read) == {0}, "the first, to test its hash"
    assert [reopened.find(one.mod) for one in (space, *others)] == [0, 1, 2]


@pytest.mark.parametrize("version", [None, "0.26"], ids=["this TVM", "another"])
def test_hashes_of_another_build_hide_nothing(
    log: Path, space: KernelSpace, candidates: list[Candidate], version: str | None
) -> None:
    come_from = version or tvm_runtime.version() or "none"
    with Records.open(log.parent / "other", SPEC, writable=True) as opened:
        found = replace(info(30.0), tvm_version=come_from)
        opened.append([Measured(space.mod, candidates[0].trace_json, found)])
    path = log.parent / "other" / contents.WORKLOADS
    (_, module) = json.loads(path.read_text())
    path.write_text(json.dumps(["1234", module]) + "\n")
    assert Records.open(log.parent / "other", SPEC).find(space.mod) == 0


def test_metaschedule_loads_the_database(log: Path, space: KernelSpace) -> None:
    database = ms.database.JSONDatabase(work_dir=str(log))
    assert len(database) == 5
    best = database.query_tuning_record(space.mod, SPEC.tvm_target(), "main")
    assert [float(one) for one in best.run_secs] == [pytest.approx(30e-6)]
    indented = ms.database.Workload(space.mod).as_json()[1]
    stored = json.loads((log / contents.WORKLOADS).read_text())[1]
    assert len(stored) < 0.6 * len(indented), "written without indentation"


def test_the_last_measurement_of_a_schedule_counts(
    log: Path, space: KernelSpace, candidates: list[Candidate]
) -> None:
    with Records.open(log, SPEC, writable=True) as opened:
        opened.append([Measured(space.mod, candidates[0].trace_json, info(45.0, final=True))])
        opened.append([Measured(space.mod, candidates[1].trace_json, info(42.0))])
        assert opened.ranked(0)[0].trace_key == candidates[1].key
        opened.append([Measured(space.mod, candidates[1].trace_json, info(44.5))])
        # faster by less than noise than one that was measured beside its rivals
        assert opened.ranked(0)[0].trace_key == candidates[0].key


def test_final_measurements_decide_until_a_later_search(
    log: Path, space: KernelSpace, candidates: list[Candidate]
) -> None:
    with Records.open(log, SPEC, writable=True) as opened:
        # the machine was slower when the winners, 30 and 40 us in the search, were measured again
        finals = [(candidates[0], 65.0), (candidates[1], 62.0)]
        opened.append(
            [Measured(space.mod, one.trace_json, info(us, final=True)) for one, us in finals]
        )
        order = [candidates[i].key for i in (1, 0, 2, 3, 4)]
        assert [one.trace_key for one in opened.ranked(0)] == order
        opened.append([Measured(space.mod, candidates[3].trace_json, info(50.0))])  # a later search
        assert opened.ranked(0)[0].trace_key == candidates[3].key


def test_final_measurements_do_not_reorder_modelled_records(
    log: Path, space: KernelSpace, candidates: list[Candidate]
) -> None:
    with Records.open(log, SPEC, writable=True) as opened:
        opened.append([Measured(space.mod, candidates[6].trace_json, modelled(3.0))])
        opened.append([Measured(space.mod, candidates[0].trace_json, info(30.0, final=True))])
        opened.append([Measured(space.mod, candidates[7].trace_json, modelled(4.0))])
        by_model = [one.trace_key for one in opened.ranked(0) if one.info.modelled]
    assert by_model == [candidates[6].key, candidates[7].key]


def modelled(latency_us: float) -> RecordInfo:
    return replace(info(latency_us), how="modelled")


def test_a_modelled_record_loses_to_any_measured_one(
    log: Path, tmp_path: Path, space: KernelSpace, candidates: list[Candidate]
) -> None:
    with Records.open(tmp_path / "model", SPEC, writable=True) as opened:
        # ten times as fast as anything measured, one of them a schedule that was measured too
        for candidate in (candidates[2], candidates[5]):
            opened.append([Measured(space.mod, candidate.trace_json, modelled(3.0))])
        schedule, found = opened.schedule_for(matmul(8, 32, 16).func)
        assert schedule is not None and found == modelled(3.0)  # better than none
    assert records.main(["merge", str(log), str(tmp_path / "model")]) == 0
    ranked = Records.open(log, SPEC).ranked(0)
    wanted = [(one.key, "native") for one in candidates[:5]] + [(candidates[5].key, "modelled")]
    assert [(one.trace_key, one.info.how) for one in ranked] == wanted
    assert records.main(["merge", str(tmp_path / "model"), str(log)]) == 0
    _, found = Records.open(tmp_path / "model", SPEC).schedule_for(matmul(8, 32, 16).func)
    assert found == info(30.0)


@pytest.mark.parametrize("name", [contents.WORKLOADS, contents.RECORDS, contents.PROVENANCE])
def test_a_truncated_line_is_named_and_skipped_only_on_request(log: Path, name: str) -> None:
    path = log / name
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines) + lines[0][: len(lines[0]) // 2])
    damaged = path.read_bytes()
    with pytest.raises(BadInput, match=rf"{name}, line {len(lines) + 1}: truncated"):
        Records.open(log, SPEC)
    with Records.open(log, SPEC, writable=True, skip_bad_lines=True) as opened:
        assert [problem.number for problem in opened.problems] == [len(lines) + 1]
        assert len(opened.records) == 5 and len(opened.failures) == 1
    (backup,) = log.glob(f"{name}.*.bak")
    assert backup.read_bytes() == damaged
    assert path.read_bytes() == b"".join(lines)
    assert len(Records.open(log, SPEC).records) == 5


def test_a_bad_workload_line_drops_only_its_own_records(
    log: Path, candidates: list[Candidate]
) -> None:
    other = KernelSpace(matmul(8, 64, 16).func, SPEC.tvm_target())
    with Records.open(log, SPEC, writable=True) as opened:
        opened.append([Measured(other.mod, other.default.trace_json, info(5.0))])
    path = log / contents.WORKLOADS
    lines = path.read_text().splitlines()
    path.write_text("\n".join(["garbage", lines[1]]) + "\n")
    with Records.open(log, SPEC, writable=True, skip_bad_lines=True) as opened:
        assert [one.seconds for one in opened.records] == [pytest.approx(5e-6)]
        assert opened.schedule_for(matmul(8, 64, 16).func)[1] == info(5.0)
    assert len(Records.open(log, SPEC).records) == 1


def test_failures_are_never_times(log: Path) -> None:
    line = json.dumps([0, [TRACE, [1e10], dict(SPEC.target), []]])
    with (log / contents.RECORDS).open("a") as file:
        file.write(line + "\n")
    with pytest.raises(BadInput, match="line 6: no usable run time"):
        Records.open(log, SPEC)


def test_another_target_is_refused(log: Path) -> None:
    with pytest.raises(BadInput, match="holds records of target tuning-test, not other"):
        Records.open(log, OTHER)
    assert Records.open(log, None).meta["target_name"] == "tuning-test"


def test_a_second_writer_gets_one_line(log: Path) -> None:
    with Records.open(log, SPEC, writable=True):
        with pytest.raises(BadInput, match=rf"another tuning run \(process {os.getpid()}\)"):
            Records.open(log, SPEC, writable=True)
        assert len(Records.open(log, SPEC).records) == 5
    Records.open(log, SPEC, writable=True).close()


def test_missing_and_unwritable_folders(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no tuning records in"):
        Records.open(tmp_path / "none", SPEC)
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match="cannot be written"):
        Records.open(tmp_path / "file" / "log", SPEC, writable=True)


def test_a_full_disk_leaves_the_files_as_they_were(
    log: Path,
    space: KernelSpace,
    candidates: list[Candidate],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = os.write
    before = (log / contents.RECORDS).read_bytes()

    def half_then_full(file: int, data: bytes) -> int:
        if len(data) < 20:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(file, data[: len(data) // 2])

    with Records.open(log, SPEC, writable=True) as opened:
        monkeypatch.setattr(os, "write", half_then_full)
        with pytest.raises(RunFailed, match="No space left"):
            opened.append([Measured(space.mod, candidates[5].trace_json, info(1.0))])
        monkeypatch.setattr(os, "write", real)
    assert (log / contents.RECORDS).read_bytes() == before
    assert len(Records.open(log, SPEC).records) == 5


def test_keys_agree(candidates: list[Candidate], log: Path) -> None:
    for record, candidate in zip(Records.open(log, SPEC).records, candidates[:5], strict=True):
        assert record.trace_key == candidate.key == trace_key(candidate.trace_json)
        assert record.trace_json == candidate.trace_json


def test_commands(log: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert records.main(["verify", str(log)]) == 0
    assert "5 records, 1 failures, 0 unusable" in capsys.readouterr().out
    assert records.main(["best", str(log), "-o", str(tmp_path / "best")]) == 0
    assert len(Records.open(tmp_path / "best", SPEC).records) == 1
    assert records.main(["merge", str(tmp_path / "best"), str(log)]) == 0
    assert records.main(["merge", str(tmp_path / "best"), str(log)]) == 0
    merged = Records.open(tmp_path / "best", SPEC)
    assert (len(merged.records), len(merged.failures)) == (5, 1)
    assert merged.meta["runs"] == [RUN] and merged.meta["cpu"] == "a CPU"
    assert LogTarget.from_meta(merged.meta) == LogTarget.of(SPEC)
    capsys.readouterr()
    assert records.main(["list", str(log)]) == 0
    assert "5 schedules, best 30.0 us (spread 1.0%), default 70.0 us, 1 failed" in (
        capsys.readouterr().out
    )


def test_logs_of_two_targets_are_not_merged(
    log: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Records.open(tmp_path / "other", OTHER, writable=True).close()
    assert records.main(["merge", str(tmp_path / "new"), str(log), str(tmp_path / "other")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "is of target tuning-test" in line and "of other: records of one target only" in line
    assert not (tmp_path / "new").exists()


# ---------------------------------------------------------------- the parsers, on anything

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=20,
)
# What JSON can hold: Python writes numbers that are not finite too, which are refused.
FINITE = JSON.filter(lambda value: not re.search("NaN|Infinity", json.dumps(value)))
GOOD = json.dumps([0, [TRACE, [1e-5], {"kind": "llvm"}, []]])
GOOD_INFO = json.dumps({"record": "00", "info": {"latency_us": 10.0}})


def refuses_or_returns(parse: Any, *args: Any) -> None:
    error = ""
    try:
        parse(*args)
    except ValueError as raised:
        error = str(raised)
    assert "\n" not in error


@given(st.text() | JSON.map(json.dumps))
def test_parsers_refuse_or_return(text: str) -> None:
    refuses_or_returns(parse_workload, text)
    refuses_or_returns(parse_record, text, 3)
    refuses_or_returns(parse_provenance, text, 3)


@given(st.integers(0, len(GOOD)), st.text(max_size=3), st.integers(0, 4))
def test_a_damaged_record_is_refused_or_still_whole(place: int, put: str, drop: int) -> None:
    text = GOOD[:place] + put + GOOD[place + drop :]
    try:
        workload, _, seconds, target = parse_record(text, 1)
    except ValueError:
        return
    assert workload == 0 and 0 < seconds < 1e10 and isinstance(target, dict)


@given(st.sampled_from([GOOD, GOOD_INFO]), st.data())
def test_every_truncation_is_refused(text: str, data: st.DataObject) -> None:
    cut = text[: data.draw(st.integers(0, len(text) - 1))]
    with pytest.raises(ValueError, match="not JSON"):
        parse_record(cut, 1) if text == GOOD else parse_provenance(cut, 1)


@given(st.lists(st.tuples(st.integers(-3, 3) | st.booleans(), FINITE), max_size=3))
def test_a_decision_outside_its_trace_is_refused(decisions: list[tuple[int, Any]]) -> None:
    text = json.dumps([0, [[TRACE[0], decisions], [1e-5], {}, []]])
    inside = all(type(place) is int and place == 0 for place, _ in decisions)
    if inside:
        parse_record(text, 1)
    else:
        with pytest.raises(ValueError, match="a decision"):
            parse_record(text, 1)


def test_line_keys_differ() -> None:
    assert line_key("a") != line_key("b")
