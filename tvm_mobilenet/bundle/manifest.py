"""manifest.json: what a bundle holds, what it was made for and how it was made.

The dataclasses are the format: every field is a key of that name, all are required, and no others
are allowed. A change to them is a new format version.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from tvm_mobilenet import strict
from tvm_mobilenet.bundle import meaning
from tvm_mobilenet.models.accuracy import Accuracy
from tvm_mobilenet.models.normalisation import Normalisation
from tvm_mobilenet.models.quantization import Quantization
from tvm_mobilenet.models.resizing import Resizing
from tvm_mobilenet.strict import AtLeast

__all__ = [
    "FORMAT_VERSION",
    "Accuracy",
    "Layer",
    "Manifest",
    "ManifestError",
    "Normalisation",
    "Quantization",
    "Resizing",
    "Target",
    "TensorInfo",
    "WeightsFile",
    "from_json",
    "to_json",
]

# 2: target.gpu_arch; 3: weights and, of outputs, scores; 4: several inputs, NHWC, int64, and the
# channel_order and labels of tensors; 5: name and embedded_weights of the C library, head,
# accuracy, resizing of inputs, and weights_file; 6: quantization and small_weights
FORMAT_VERSION = 6


class ManifestError(ValueError):
    """The text is not a manifest this version reads; the message says where and why."""


@dataclass(frozen=True)
class TensorInfo:
    """An input or output: its shape in the order that ``layout`` names, such as ``NCHW``.

    ``normalisation`` is None for an output, for an input that is not an image, and where it is not
    known. ``channel_order``, rgb or bgr, goes with it; the normalisation itself is red first in any
    case. ``resizing`` is how a picture gets the input's size, None where that is not known.
    ``scores`` says what the values of an output are, as scores of classes: logits, softmax
    or sigmoid; None where that is not known. ``labels`` are the names of the classes, if any.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    layout: str
    normalisation: Normalisation | None = None
    channel_order: str | None = None
    resizing: Resizing | None = None
    scores: str | None = None
    labels: tuple[str, ...] = ()


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
    ``own`` is False for an operator without a kernel of ours, which runs as TVM legalizes it.
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
    own: bool = True


@dataclass(frozen=True)
class WeightsFile:
    """The checkpoint that the weights of one of our networks are from.

    ``source`` is the program whose names it has, ``implies`` what follows from that for the
    network, a fact each.
    """

    name: str
    sha256: str
    source: str
    implies: tuple[str, ...]


@dataclass(frozen=True)
class Manifest:
    """Everything known about a bundle without opening its other files.

    ``cpu_features`` are the /proc/cpuinfo names the library needs, ``model`` the configuration
    it was built from or the hash of its ONNX file, ``executor`` who runs it (``static``: one
    function ``infer``; ``vm``: Relax's virtual machine; ``cuda``: one CUDA graph), ``weights``
    where they are from (``random``, or a ``file``: that of ONNX or ``weights_file``), ``name``
    what the functions of its C library begin with, ``embedded_weights`` whether that holds them,
    ``small_weights`` whether each is stored once, and none beside them that an algorithm adds,
    ``head`` what the network ends in (as ``models.heads`` names it, None for that of an ONNX file),
    ``accuracy`` what ``bundle.record_accuracy`` was given, None where nobody measured it,
    ``quantization`` how ``compile`` made it int8, None where it did not,
    ``files`` the SHA-256 of every other file. ``bundle.write`` fills in ``parameters_bytes``,
    ``files`` and ``created`` (UTC, ISO 8601).
    """

    target: Target
    cpu_features: tuple[str, ...]
    tvm_version: str
    model: Mapping[str, Any]
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    precision: str
    executor: str
    workspace_bytes: Annotated[int, AtLeast(0)]
    weights: str = "file"
    name: str = "network"
    embedded_weights: bool = False
    small_weights: bool = False
    head: str | None = None
    accuracy: Accuracy | None = None
    weights_file: WeightsFile | None = None
    quantization: Quantization | None = None
    layers: tuple[Layer, ...] = ()
    parameters_bytes: Annotated[int, AtLeast(0)] = 0
    files: Mapping[str, str] = field(default_factory=dict)
    created: str = ""
    format_version: int = FORMAT_VERSION


def to_json(manifest: Manifest) -> str:
    """The text of a manifest.json."""
    return json.dumps(dataclasses.asdict(manifest), indent=2) + "\n"


def from_json(text: str) -> Manifest:
    """Read the text of a manifest.json. Raises ManifestError on anything unexpected in it."""
    try:
        data = strict.parse_json(text)
        strict.check_version(data, FORMAT_VERSION)
        manifest = strict.read(Manifest, data, complete=True)
    except strict.Unexpected as error:
        raise ManifestError(str(error)) from None
    fault = meaning.find_fault(manifest)
    if fault is not None:
        raise ManifestError(fault)
    return manifest
