"""manifest.json: it round-trips, and anything unexpected in it is named."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import tiny_bundle

from tvm_mobilenet.bundle import manifest


def test_round_trip() -> None:
    wanted = tiny_bundle.manifest(two_outputs=True)
    assert manifest.from_json(manifest.to_json(wanted)) == wanted


def good() -> str:
    """The text of one that has all there is."""
    file = manifest.WeightsFile("tiny.pth", "0" * 64, "timm", ("alpha 0.25",))
    how = manifest.Quantization(
        "mse", 75, 25, 0.96, 0.999, 0.01, bias_corrected=True, float_layers=("conv", "gemm")
    )
    return manifest.to_json(tiny_bundle.manifest(weights_file=file, quantization=how))


def changed(*path: str | int, to: Any) -> str:
    """A good manifest's text with one value replaced."""
    data = json.loads(good())
    at = data
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = to
    return json.dumps(data)


def without(key: str) -> str:
    data = json.loads(manifest.to_json(tiny_bundle.manifest()))
    del data[key]
    return json.dumps(data)


SIZE = {"size": 4, "fit": "cover", "interpolation": "nearest", "cut": 1.0}
EXPECTED = "expected a whole number of at least 0"
FAULTS = {
    "not JSON": ("{", "not JSON"),
    "nested deeply": ("[" * 100_000, "nested too deeply"),
    "no number": ('{"format_version": NaN}', "not JSON: NaN"),
    "no files": (without("files"), "files: missing"),
    "not an object": ("[]", "expected an object, got []"),
    "empty": ("{}", "format_version: missing"),
    "newer": (changed("format_version", to=7), "7 is newer than this program reads (6); update"),
    "version is a text": (changed("format_version", to="1"), 'format_version: expected 6, got "1"'),
    "version is true": (changed("format_version", to=True), "expected 6, got true"),
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
        "expected an input and an output at least, got 0 and 1",
    ),
    "shape": (changed("inputs", 0, "shape", to=[1, 0]), "expected a shape of positive numbers"),
    "dtype": (changed("outputs", 0, "dtype", to="float99"), "expected a dtype of float32"),
    "null": (changed("precision", to=None), "precision: expected a string, got null"),
}


# Of the right type, and yet what no bundle that runs has
MEANINGLESS = {
    "top1": (changed("quantization", "top1", to=1.5), "quantization: expected a top1 of 0 to 1"),
    "error": (changed("quantization", "error", to=-1), "quantization: expected a finite error"),
    "layout": (changed("inputs", 0, "layout", to="ZZZZ"), "expected the layout NCHW or NHWC for"),
    "layout of two": (changed("outputs", 0, "layout", to="NCHW"), "expected the layout NC for 2"),
    "precision": (
        changed("precision", to="fp99"),
        "precision: expected one of fp32, tf32, bf16, fp16, int8",
    ),
    "precision of a GPU": (
        changed("precision", to="tf32"),
        "precision: expected one of fp32, bf16, fp16, int8 on a CPU",
    ),
    "a GPU's arch": (
        changed("target", "gpu_arch", to="sm_90"),
        "target.gpu_arch: expected none for the executor static, got 'sm_90'",
    ),
    "no GPU's arch": (
        changed("executor", to="cuda"),
        "target.gpu_arch: expected one such as sm_90 for the executor cuda, got none",
    ),
    "odd arch": (changed("target", "gpu_arch", to="sm"), "expected one such as sm_90, got 'sm'"),
    "triple": (changed("target", "triple", to="here"), "expected one such as x86_64-linux-gnu"),
    "NaN": (changed("inputs", 0, "normalisation", "scale", to=math.nan), "not JSON: NaN"),
    "infinite": (
        changed("inputs", 0, "normalisation", "scale", to=1.5).replace("1.5", "1e999", 1),
        "inputs[0].normalisation.scale: expected a number, got Infinity",
    ),
    "scale": (changed("inputs", 0, "normalisation", "scale", to=0), "expected a positive, finite"),
    "std": (changed("inputs", 0, "normalisation", "std", to=[1, 0, 1]), "a std other than 0"),
    "mean": (
        changed("inputs", 0, "normalisation", "mean", to=[1]),
        "one mean a channel (3), got 1",
    ),
    "an output's mean": (
        changed("outputs", 0, "normalisation", to={"scale": 1, "mean": [], "std": []}),
        "logits: expected a normalisation of images only",
    ),
    "scores": (changed("outputs", 0, "scores", to="marks"), "expected scores of logits, softmax"),
    "an input's scores": (
        changed("inputs", 0, "scores", to="logits"),
        "no scores and labels of an input",
    ),
    "a size too small": (
        changed("inputs", 0, "resizing", "size", to=3),
        "input: resizing: expected a size of 4 to 256 pixels for an input of 4x4, got 3",
    ),
    "cut": (changed("inputs", 0, "resizing", "cut", to=0), "a cut above 0"),
    "fit": (
        changed("inputs", 0, "resizing", "fit", to="squeeze"),
        "inputs[0].resizing.fit: expected one of cover, stretch",
    ),
    "an output's size": (
        changed("outputs", 0, "resizing", to=SIZE),
        "logits: expected a resizing of images only",
    ),
    "random weights of a file": (
        changed("weights", to="random"),
        "weights_file: expected none for weights that are random",
    ),
    "a hash": (
        changed("weights_file", "sha256", to="ab"),
        "weights_file.sha256: expected 64 hexadecimal digits, got 'ab'",
    ),
    "channel order": (changed("inputs", 0, "channel_order", to="grb"), "a channel_order of rgb"),
    "labels": (changed("outputs", 0, "labels", to=["cat"]), "as many labels as classes, got 1"),
    "head": (changed("head", to="faces"), "head: expected one of classes, attributes, embedding"),
    "a head of another shape": (
        changed("head", to="ssd"),
        "head: expected boxes (N, P, 4) and scores (N, P, classes) of them for ssd",
    ),
    "more right than images": (
        changed("accuracy", to={"correct": 3, "images": 2, "data": "x", "metric": "top-1"}),
        "accuracy: expected 0 to 2 correct images, got 3",
    ),
    "accuracy of nothing": (
        changed("accuracy", to={"correct": 1, "images": 2, "data": "", "metric": "top-1"}),
        "accuracy: expected words for data and metric",
    ),
    "weights": (changed("weights", to="good"), "weights: expected one of random, file, got 'good'"),
    "parameters": (changed("parameters_bytes", to=-1), "parameters_bytes: expected a whole"),
    "more than memory": (changed("workspace_bytes", to=2**63), "workspace_bytes: expected 0 to"),
    "a shape of more": (
        changed("outputs", 0, "shape", to=[2**32, 2**32]),
        "logits: expected at most 4611686018427387904 bytes",
    ),
    "a name": (changed("outputs", 0, "name", to="../y"), "a name such as output1"),
    "numpy's name": (changed("outputs", 0, "name", to="file"), "a name such as output1"),
    "one name": (changed("outputs", 0, "name", to="input"), "of different names, got input twice"),
    "time": (changed("layers", 0, "latency_us", to=-1), "layer sum: expected finite numbers of 0"),
    "flops": (changed("layers", 0, "flops", to=-1), "layer sum: expected finite numbers of 0"),
    "nested": ("[" * 100_000, "nested too deeply"),
    "nested further in": (
        changed("model", to=0).replace('"model": 0', '"model": ' + '{"a":' * 100_000),
        "nested too deeply",
    ),
}


@pytest.mark.parametrize(
    ("text", "message"), (FAULTS | MEANINGLESS).values(), ids=(FAULTS | MEANINGLESS).keys()
)
def test_a_fault_is_one_line_that_says_where(text: str, message: str) -> None:
    with pytest.raises(manifest.ManifestError) as error:
        manifest.from_json(text)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_number_without_a_point_is_a_number() -> None:
    text = changed("layers", 0, "latency_us", to=2)
    assert manifest.from_json(text).layers[0].latency_us == 2.0


def read(text: str) -> manifest.Manifest | None:
    """The manifest; None where the fault was told in one line."""
    try:
        return manifest.from_json(text)
    except manifest.ManifestError as error:
        told = str(error)
    assert told
    assert "\n" not in told
    return None


GOOD = good()
PATHS = (
    *((key,) for key in json.loads(GOOD)),
    *(("target", key) for key in ("name", "triple", "gpu_arch")),
    *(("inputs", 0, key) for key in ("name", "shape", "dtype", "layout", "channel_order")),
    *(("inputs", 0, "resizing", key) for key in ("size", "fit", "interpolation", "cut")),
    *(("weights_file", key) for key in ("name", "sha256", "source", "implies")),
    *(("inputs", 0, "normalisation", key) for key in ("scale", "mean", "std")),
    *(("layers", 0, key) for key in ("latency_us", "how", "flops")),
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)


@given(path=st.sampled_from(PATHS), value=JSON)
@settings(max_examples=300, deadline=None)
def test_any_value_anywhere(path: tuple[str | int, ...], value: Any) -> None:
    got = read(changed(*path, to=value))
    if got is not None:
        assert manifest.from_json(manifest.to_json(got)) == got


@given(at=st.integers(0, len(GOOD)), size=st.integers(0, 20), instead=st.text(max_size=8))
@settings(max_examples=300, deadline=None)
def test_any_damage(at: int, size: int, instead: str) -> None:
    read(GOOD[:at] + instead + GOOD[at + size :])
