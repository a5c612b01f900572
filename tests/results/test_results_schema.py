"""The results file: what is written is read back, and anything else is refused by its key."""

from __future__ import annotations

import copy
import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import result_rows

from tvm_mobilenet.errors import BadInput, RunFailed
from tvm_mobilenet.models.accuracy import Accuracy
from tvm_mobilenet.reporting import words
from tvm_mobilenet.results import schema
from tvm_mobilenet.results.tables import comparisons

RESULTS = result_rows.results(
    result_rows.row("bundle", 9.0, tuned=True),
    result_rows.row("pytorch", 20.0, alpha=None),
    result_rows.row("openvino", None),
)
DOCUMENT = json.loads(schema.dumps(RESULTS))

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)


def keys_of(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of every member of a document, but of single samples only the first few."""
    if isinstance(value, dict):
        members = list(value.items())
    elif isinstance(value, list):
        members = list(enumerate(value))[:2]
    else:
        return [path]
    return [path, *(p for key, inner in members for p in keys_of(inner, (*path, key)))]


def changed(path: tuple[Any, ...], value: Any) -> Any:
    """The document with one member replaced."""
    if not path:
        return value
    document = copy.deepcopy(DOCUMENT)
    inner = document
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return document


def refusal(document: Any) -> str:
    with pytest.raises(BadInput) as raised:
        schema.loads(json.dumps(document), "r.json")
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    schema.dump(RESULTS, path)
    assert schema.load(path) == RESULTS
    assert [file.name for file in tmp_path.iterdir()] == ["r.json"]


def test_the_keys_are_those_of_the_design() -> None:
    assert DOCUMENT.keys() == {"format_version", "machine", "results", "command", "created"}
    assert list(DOCUMENT["machine"]) == [
        *("cpu", "cores", "governor", "load_average", "os", "python", "versions")
    ]
    assert list(DOCUMENT["results"][0]) == [
        *("model", "alpha", "resolution", "batch", "precision", "engine", "engine_version"),
        *("target", "threads", "how", "tuned", "latency_ms", "samples_ms", "load_ms"),
        *("first_run_ms", "peak_rss_mb", "artifact_mb", "max_abs_diff", "reference"),
        *("status", "reason"),
    ]
    assert list(DOCUMENT["results"][0]["latency_ms"]) == ["min", "p50", "p90", "mean", "std", "n"]


def test_a_file_without_command_and_date_is_read() -> None:
    document = {key: DOCUMENT[key] for key in ("format_version", "machine", "results")}
    results = schema.loads(json.dumps(document), "r.json")
    assert results.command is None and results.created is None
    assert results.results == RESULTS.results


@pytest.mark.parametrize(
    ("path", "value", "complaint"),
    [
        (("format_version",), 2, "format_version: 2 is newer than this program reads (1)"),
        (("format_version",), True, "format_version: expected 1, got true"),
        (("machine",), None, "machine: expected an object, got null"),
        (("machine", "cores"), 0, "machine.cores: expected a whole number"),
        (("machine", "versions", "torch"), 2, "machine.versions.torch: expected a string"),
        (("machine", "colour"), "red", "machine.colour: unknown key"),
        (("results",), {}, "results: expected a list"),
        (("results", 1, "precision"), "fp64", "results[1].precision: expected one of fp32"),
        (("results", 1, "tuned"), "yes", "results[1].tuned: expected true or false"),
        (("results", 0, "latency_ms", "p50"), "9", "results[0].latency_ms.p50: expected a number"),
        (("results", 0, "latency_ms", "p50"), -1, "results[0].latency_ms.p50: expected a number"),
        (("results", 0, "latency_ms", "n"), 99, "results[0].latency_ms.n: 99, but samples_ms"),
        (("results", 0, "latency_ms"), None, "results[0].latency_ms: missing in a row with"),
        (("results", 0, "samples_ms", 3), True, "results[0].samples_ms[3]: expected a number"),
        (("results", 0, "samples_ms", 3), 0, "results[0].samples_ms: expected latencies above 0"),
        (("results", 0, "max_abs_diff"), None, "results[0].max_abs_diff: missing"),
        (("results", 2, "reason"), "", "results[2].reason: a row that was not run needs"),
        (("results", 2, "samples_ms"), [1], "results[2].latency_ms: a row that was not run"),
    ],
)
def test_a_departure_is_named(path: tuple[Any, ...], value: Any, complaint: str) -> None:
    assert refusal(changed(path, value)).startswith(f"r.json: {complaint}")


@pytest.mark.parametrize("key", ["engine", "samples_ms", "reason"])
def test_a_missing_key_is_named(key: str) -> None:
    document = copy.deepcopy(DOCUMENT)
    del document["results"][2][key]
    assert refusal(document) == f"r.json: results[2].{key}: missing"


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", '{"format_version": 1}', '{"x": NaN}', "[" * 100_000, "1" * 5000],
    ids=lambda text: text[:24] or "empty",
)
def test_text_that_is_no_results_file(text: str) -> None:
    with pytest.raises(BadInput, match=r"^r\.json: ") as raised:
        schema.loads(text, "r.json")
    assert len(str(raised.value)) < 200


@given(st.text(max_size=40) | JSON.map(json.dumps))
def test_any_text_is_read_or_refused(text: str) -> None:
    with pytest.raises(BadInput):
        schema.loads(text, "r.json")


@given(st.sampled_from(keys_of(DOCUMENT)), JSON | st.just(10**400))
def test_any_changed_value_is_read_or_refused(path: tuple[Any, ...], value: Any) -> None:
    error = ""
    try:
        results = schema.loads(json.dumps(changed(path, value)), "r.json")
    except BadInput as raised:
        error = str(raised)
    else:
        assert schema.loads(schema.dumps(results), "again") == results
    assert "\n" not in error


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"none\.json: cannot be read: No such file"):
        schema.load(tmp_path / "none.json")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BadInput, match="not UTF-8"):
        schema.load(tmp_path / "binary")


def test_a_file_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(RunFailed, match=r"cannot write .*r\.json: No such file"):
        schema.dump(RESULTS, tmp_path / "none" / "r.json")


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_failed_write_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    path = tmp_path / "r.json"
    path.write_text("old")
    monkeypatch.setattr(os, step, full)
    with pytest.raises(RunFailed, match="No space left"):
        schema.dump(RESULTS, path)
    assert path.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["r.json"]


def test_a_measured_accuracy_is_in_its_row_alone() -> None:
    found = Accuracy(354, 360, "digits test set")
    file = result_rows.results(
        result_rows.row("bundle", 9.0, accuracy=found), result_rows.row("pytorch", 20.0)
    )
    text = schema.dumps(file)
    assert schema.loads(text, "r.json") == file
    ours, peer = json.loads(text)["results"]
    assert ours["accuracy"]["correct"] == 354
    assert "accuracy" not in peer
    (table,) = comparisons(file)
    assert words.remarks(table) == [
        "bundle, default schedules: accuracy 98.33 % top-1 (354 of 360, digits test set), "
        "measured here"
    ]
    ours["accuracy"]["correct"] = 361
    says = refusal({**json.loads(text), "results": [ours, peer]})
    assert says == "r.json: results[0].accuracy: expected 0 to 360 correct images, got 361"
