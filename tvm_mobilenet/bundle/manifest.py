"""manifest.json: what a bundle holds, what it was made for and how it was made.

The dataclasses are the format: every field is a key of that name, all are required, and no others
are allowed. A change to them is a new format version.
"""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tvm_mobilenet.bundle import meaning
from tvm_mobilenet.models.normalisation import Normalisation

__all__ = [
    "FORMAT_VERSION",
    "Layer",
    "Manifest",
    "ManifestError",
    "Normalisation",
    "Target",
    "TensorInfo",
    "from_json",
    "to_json",
]

FORMAT_VERSION = 3  # 2: target.gpu_arch; 3: weights and, of outputs, scores


class ManifestError(ValueError):
    """The text is not a manifest this version reads; the message says where and why."""


@dataclass(frozen=True)
class TensorInfo:
    """An input or output: its shape in the order that ``layout`` names, such as ``NCHW``.

    ``normalisation`` is None for an output, for an input that is not an image, and where it is not
    known. ``scores`` says what the values of an output are, as scores of classes: logits, softmax
    or sigmoid; None where that is not known.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    layout: str
    normalisation: Normalisation | None = None
    scores: str | None = None


@dataclass(frozen=True)
class Target:
    """What the library was compiled for: a name in ``targets/`` and LLVM's triple of its host.

    ``gpu_arch`` is the architecture of its kernels, as in sm_90; None for a CPU.
    """

    name: str
    triple: str
    gpu_arch: str | None = None


@dataclass(frozen=True)
class Layer:
    """One kernel of the network and where its schedule comes from.

    ``tuned`` is False for a default schedule; then nothing was measured and the rest is None.
    ``latency_us`` is in microseconds, ``how`` is native, rpc, emulated or modelled. ``flops`` and
    ``nbytes`` are its floating-point operations and the bytes of its inputs, weights and output.
    """

    name: str
    workload: str
    tuned: bool
    latency_us: float | None = None
    how: str | None = None
    date: str | None = None
    flops: int = 0
    nbytes: int = 0


@dataclass(frozen=True)
class Manifest:
    """Everything known about a bundle without opening its other files.

    ``cpu_features`` are the /proc/cpuinfo names the library needs, ``model`` the configuration
    it was built from or the hash of its ONNX file, ``executor`` who runs it (``static``: one
    function ``infer``; ``vm``: Relax's virtual machine; ``cuda``: one CUDA graph), ``weights``
    where they are from (``random``, or the ONNX ``file``), ``files`` the SHA-256 of every other
    file. ``bundle.write`` fills in ``parameters_bytes``, ``files`` and ``created`` (UTC, ISO 8601).
    """

    target: Target
    cpu_features: tuple[str, ...]
    tvm_version: str
    model: Mapping[str, Any]
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    precision: str
    executor: str
    workspace_bytes: int
    weights: str = "file"
    layers: tuple[Layer, ...] = ()
    parameters_bytes: int = 0
    files: Mapping[str, str] = field(default_factory=dict)
    created: str = ""
    format_version: int = FORMAT_VERSION


def to_json(manifest: Manifest) -> str:
    """The text of a manifest.json."""
    return json.dumps(dataclasses.asdict(manifest), indent=2) + "\n"


def from_json(text: str) -> Manifest:
    """Read the text of a manifest.json. Raises ManifestError on anything unexpected in it."""
    try:
        data = json.loads(text, parse_constant=_refuse_constant)
    except RecursionError:
        raise ManifestError("not a manifest: nested too deeply") from None
    except ValueError as error:
        raise ManifestError(f"not JSON: {error}") from error
    if not isinstance(data, dict):
        raise ManifestError(f"expected an object, got {_shown(data)}")
    # before anything else: another version may have other keys
    _check_format_version(data.get("format_version"))
    manifest: Manifest = _read(Manifest, data, "")
    fault = meaning.find_fault(manifest)
    if fault is not None:
        raise ManifestError(fault)
    return manifest


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a number in JSON")


def _check_format_version(version: object) -> None:
    if version == FORMAT_VERSION and type(version) is int:
        return
    if type(version) is int and version > FORMAT_VERSION:
        raise ManifestError(
            f"format version {version} is newer than this program reads ({FORMAT_VERSION}); "
            "update tvm-mobilenet, or compile the bundle with this one"
        )
    raise ManifestError(f"format_version: expected {FORMAT_VERSION}, got {_shown(version)}")


_TYPE_NAMES = {str: "a text", int: "a whole number", float: "a number", bool: "true or false"}


def _read(expected: Any, value: Any, where: str) -> Any:
    """``value``, parsed from JSON, as the type ``expected``; ``where`` is its path in the file."""
    origin = typing.get_origin(expected)
    if dataclasses.is_dataclass(expected):
        return _read_dataclass(expected, value, where)
    if origin in (types.UnionType, typing.Union):  # the only unions here are "X | None"
        inner = next(arg for arg in typing.get_args(expected) if arg is not type(None))
        return None if value is None else _read(inner, value, where)
    if origin is tuple:
        item = typing.get_args(expected)[0]
        _check(isinstance(value, list), "a list", value, where)
        return tuple(_read(item, each, f"{where}[{i}]") for i, each in enumerate(value))
    if origin is not None:  # Mapping[str, X]
        item = typing.get_args(expected)[1]
        _check(isinstance(value, dict), "an object", value, where)
        return {key: _read(item, each, f"{where}.{key}") for key, each in value.items()}
    if expected is Any:
        return value
    # JSON writes 1.0 as 1, and in Python True is an int
    accepted = (int, float) if expected is float else (expected,)
    _check(type(value) in accepted, _TYPE_NAMES[expected], value, where)
    return expected(value)


def _read_dataclass(expected: Any, value: Any, where: str) -> Any:
    _check(isinstance(value, dict), "an object", value, where)
    hints = typing.get_type_hints(expected)
    prefix = f"{where}." if where else ""
    for key in hints:
        if key not in value:
            raise ManifestError(f"{prefix}{key} is missing")
    for key in value:
        if key not in hints:
            raise ManifestError(f"{prefix}{key} is not a key of format {FORMAT_VERSION}")
    return expected(**{key: _read(hint, value[key], prefix + key) for key, hint in hints.items()})


def _check(ok: bool, expected: str, value: object, where: str) -> None:
    if not ok:
        raise ManifestError(f"{where}: expected {expected}, got {_shown(value)}")


def _shown(value: object) -> str:
    """A JSON value, short enough for one line."""
    text = "nothing" if value is None else json.dumps(value)
    return text if len(text) <= 40 else text[:37] + "..."
