"""manifest.json: it round-trips, and anything unexpected in it is named."""

from __future__ import annotations

import json
from typing import Any

import pytest
from support import tiny_bundle

from tvm_mobilenet.bundle import manifest


def test_round_trip() -> None:
    wanted = tiny_bundle.manifest(two_outputs=True)
    assert manifest.from_json(manifest.to_json(wanted)) == wanted


def changed(*path: str | int, to: Any) -> str:
    """A good manifest's text with one value replaced."""
    data = json.loads(manifest.to_json(tiny_bundle.manifest()))
    at = data
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = to
    return json.dumps(data)


def without(key: str) -> str:
    data = json.loads(manifest.to_json(tiny_bundle.manifest()))
    del data[key]
    return json.dumps(data)


EXPECTED = "expected a whole number of at least 0"
FAULTS = {
    "not JSON": ("{", "not JSON"),
    "nested deeply": ("[" * 100_000, "nested too deeply"),
    "no number": ('{"format_version": NaN}', "not JSON: NaN"),
    "no files": (without("files"), "files: missing"),
    "not an object": ("[]", "expected an object, got []"),
    "empty": ("{}", "format_version: missing"),
    "newer": (changed("format_version", to=3), "3 is newer than this program reads (2); update"),
    "version is a text": (changed("format_version", to="1"), 'format_version: expected 2, got "1"'),
    "version is true": (changed("format_version", to=True), "expected 2, got true"),
    "missing": (without("executor"), "executor: missing"),
    "unknown": (changed("colour", to="red"), "colour: unknown key; there are target, "),
    "wrong type": (
        changed("workspace_bytes", to="9"),
        f"workspace_bytes: {EXPECTED}, got",
    ),
    "a float": (
        changed("workspace_bytes", to=1.5),
        f"workspace_bytes: {EXPECTED}, got 1.5",
    ),
    "not an int": (
        changed("workspace_bytes", to=True),
        f"{EXPECTED}, got true",
    ),
    "negative": (
        changed("workspace_bytes", to=-1),
        f"workspace_bytes: {EXPECTED}, got -1",
    ),
    "not a list": (changed("cpu_features", to="avx2"), 'cpu_features: expected a list, got "avx2"'),
    "deep": (
        changed("inputs", 0, "shape", 2, to="4"),
        "inputs[0].shape[2]: expected a whole number",
    ),
    "deep, missing": (changed("target", to={"name": "x"}), "target.triple: missing"),
    "deep, not an object": (changed("layers", 0, to=3), "layers[0]: expected an object, got 3"),
    "no hash": (changed("files", to={"model.so": 1}), "files.model.so: expected a string, got 1"),
    "no input": (
        changed("inputs", to=[]),
        "expected one input and at least one output, got 0 and 1",
    ),
    "shape": (changed("inputs", 0, "shape", to=[1, 0]), "expected a shape of positive numbers"),
    "dtype": (changed("outputs", 0, "dtype", to="float99"), "expected a dtype of float32"),
    "null": (changed("precision", to=None), "precision: expected a string, got null"),
}


@pytest.mark.parametrize(("text", "message"), FAULTS.values(), ids=FAULTS.keys())
def test_a_fault_is_one_line_that_says_where(text: str, message: str) -> None:
    with pytest.raises(manifest.ManifestError) as error:
        manifest.from_json(text)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_number_without_a_point_is_a_number() -> None:
    text = changed("layers", 0, "latency_us", to=2)
    assert manifest.from_json(text).layers[0].latency_us == 2.0
