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


FAULTS = {
    "not JSON": ("{", "not JSON"),
    "not an object": ("[]", "expected an object, got []"),
    "empty": ("{}", "format_version: expected 3, got nothing"),
    "newer": (changed("format_version", to=4), "4 is newer than this program reads (3); update"),
    "version is a text": (changed("format_version", to="1"), 'expected 3, got "1"'),
    "version is true": (changed("format_version", to=True), "expected 3, got true"),
    "missing": (without("executor"), "executor is missing"),
    "unknown": (changed("colour", to="red"), "colour is not a key of format 3"),
    "wrong type": (
        changed("workspace_bytes", to="9"),
        "workspace_bytes: expected a whole number, got",
    ),
    "a float": (
        changed("workspace_bytes", to=1.5),
        "workspace_bytes: expected a whole number, got",
    ),
    "not an int": (changed("workspace_bytes", to=True), "expected a whole number, got true"),
    "negative": (
        changed("workspace_bytes", to=-1),
        "workspace_bytes: expected 0 to 4611686018427387904, got",
    ),
    "not a list": (changed("cpu_features", to="avx2"), 'cpu_features: expected a list, got "avx2"'),
    "deep": (
        changed("inputs", 0, "shape", 2, to="4"),
        "inputs[0].shape[2]: expected a whole number",
    ),
    "deep, missing": (changed("target", to={"name": "x"}), "target.triple is missing"),
    "deep, not an object": (changed("layers", 0, to=3), "layers[0]: expected an object, got 3"),
    "no hash": (changed("files", to={"model.so": 1}), "files.model.so: expected a text, got 1"),
    "no input": (
        changed("inputs", to=[]),
        "expected one input and at least one output, got 0 and 1",
    ),
    "shape": (changed("inputs", 0, "shape", to=[1, 0]), "expected a shape of positive numbers"),
    "dtype": (changed("outputs", 0, "dtype", to="float99"), "expected a dtype of float32"),
    "null": (changed("precision", to=None), "precision: expected a text, got nothing"),
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
