"""What a manifest of the right types must say beside them for its bundle to run."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from tvm_mobilenet.models.heads import HEADS

if TYPE_CHECKING:
    from tvm_mobilenet.bundle.manifest import Manifest, Target, TensorInfo

# what an input or output may hold, and how many bytes each takes, by numpy's names
DTYPES = {"float32": 4, "float16": 2, "int64": 8, "int32": 4, "int8": 1, "uint8": 1}
LAYOUT = "NCHW"  # of which a tensor of fewer dimensions has the first
LAYOUTS = (LAYOUT, "NHWC")  # of images
CHANNEL_ORDERS = ("rgb", "bgr")
PRECISIONS = ("fp32", "tf32", "bf16", "fp16", "int8")
CPU_PRECISIONS = ("fp32", "bf16", "fp16", "int8")
GPU_EXECUTOR = "cuda"
CPU_EXECUTORS = ("static", "vm")
SCORES = ("logits", "softmax", "sigmoid")
WEIGHTS = ("random", "file")
MOST_BYTES = 2**62  # sums of some of these still fit a signed 64-bit number

SHA256 = re.compile(r"[0-9a-f]{64}")
GPU_ARCH = re.compile(r"sm_\d{2,3}[a-z]?")
NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")
TRIPLE = re.compile(r"\w+(-[\w.]+)+")


def find_fault(manifest: Manifest) -> str | None:
    """The first thing that cannot be right, as one line that says where; None if nothing."""
    return next(_faults(manifest), None)


def _faults(manifest: Manifest) -> Iterator[str]:
    inputs, outputs = manifest.inputs, manifest.outputs
    if not inputs or not outputs:
        yield f"expected an input and an output at least, got {len(inputs)} and {len(outputs)}"
    names = [tensor.name for tensor in (*inputs, *outputs)]
    for name in names:
        # they are the names of arrays in a file that 'run' writes
        if not name.isidentifier() or name == "file":
            yield f"expected a name such as output1 for an input or output, got {name!r}"
        if names.count(name) > 1:
            yield f"expected inputs and outputs of different names, got {name} twice"
    for tensor in (*inputs, *outputs):
        yield from (f"{tensor.name}: {fault}" for fault in _tensor_faults(tensor))
    for tensor in inputs:
        if tensor.scores is not None or tensor.labels:
            yield f"{tensor.name}: expected no scores and labels of an input"
    for tensor in outputs:
        if tensor.normalisation is not None or tensor.channel_order is not None:
            yield f"{tensor.name}: expected no normalisation of an output"
        if tensor.resizing is not None:
            yield f"{tensor.name}: expected no resizing of an output"
        of_boxes = manifest.head == "ssd" and len(tensor.shape) == 3
        rank = 3 if of_boxes else 2
        if tensor.labels and (len(tensor.shape) != rank or len(tensor.labels) != tensor.shape[-1]):
            yield f"{tensor.name}: expected as many labels as classes, got {len(tensor.labels)}"
    yield from _head_faults(manifest)
    if manifest.accuracy is not None and (fault := manifest.accuracy.fault()) is not None:
        yield f"accuracy: {fault}"
    if manifest.quantization is not None and (fault := manifest.quantization.fault()) is not None:
        yield f"quantization: {fault}"
    yield from _target_faults(manifest.target)
    yield from _program_faults(manifest)
    for layer in manifest.layers:
        numbers = (layer.flops, layer.nbytes, layer.latency_us or 0)
        if not all(0 <= number < math.inf for number in numbers):
            yield f"layer {layer.name}: expected finite numbers of 0 or more"


def _head_faults(manifest: Manifest) -> Iterator[str]:
    head = manifest.head
    if head not in (None, *HEADS):
        yield f"head: expected one of {', '.join(HEADS)}, got {head!r}"
    shapes = [tensor.shape for tensor in manifest.outputs]
    if head in ("classes", "attributes", "embedding") and [len(shape) for shape in shapes] != [2]:
        yield f"head: expected one output of two dimensions for {head}, got {len(shapes)}"
    if head == "ssd":
        boxes, scores = (*shapes, (), ())[:2]
        of_boxes = len(shapes) == 2 and len(boxes) == len(scores) == 3
        if not of_boxes or boxes[:2] != scores[:2] or boxes[2] != 4:
            yield "head: expected boxes (N, P, 4) and scores (N, P, classes) of them for ssd"


def _tensor_faults(tensor: TensorInfo) -> Iterator[str]:
    shape = tensor.shape
    if not shape or min(shape) < 1:
        yield f"expected a shape of positive numbers, got {list(shape)}"
    if tensor.dtype not in DTYPES:
        yield f"expected a dtype of {', '.join(DTYPES)}, got {tensor.dtype!r}"
    elif math.prod(shape) * DTYPES[tensor.dtype] > MOST_BYTES:
        yield f"expected at most {MOST_BYTES} bytes, got a shape of {list(shape)}"
    layouts = LAYOUTS if len(shape) == len(LAYOUT) else (LAYOUT[: len(shape)],)
    if tensor.layout not in layouts:
        expected = " or ".join(layouts)
        yield f"expected the layout {expected} for {len(shape)} dimensions, got {tensor.layout!r}"
    if tensor.scores not in (None, *SCORES):
        yield f"expected scores of {', '.join(SCORES)}, got {tensor.scores!r}"
    if tensor.normalisation is not None:
        if len(shape) != len(LAYOUT):
            yield f"expected a normalisation of images only, got one of {len(shape)} dimensions"
        at = tensor.layout.find("C")
        fault = tensor.normalisation.fault(channels=shape[at] if 0 <= at < len(shape) else 0)
        if fault is not None:
            yield f"normalisation: {fault}"
    if tensor.resizing is not None:
        sizes = dict(zip(tensor.layout, shape, strict=False))
        if not {"H", "W"} <= sizes.keys():
            yield f"expected a resizing of images only, got one of {len(shape)} dimensions"
        else:
            fault = tensor.resizing.fault(sizes["H"], sizes["W"])
            if fault is not None:
                yield f"resizing: {fault}"
    if tensor.channel_order not in (None, *CHANNEL_ORDERS):
        yield f"expected a channel_order of rgb or bgr, got {tensor.channel_order!r}"


def _target_faults(target: Target) -> Iterator[str]:
    if not TRIPLE.fullmatch(target.triple):
        yield f"target.triple: expected one such as x86_64-linux-gnu, got {target.triple!r}"
    if target.gpu_arch is not None and not GPU_ARCH.fullmatch(target.gpu_arch):
        yield f"target.gpu_arch: expected one such as sm_90, got {target.gpu_arch!r}"


def _program_faults(manifest: Manifest) -> Iterator[str]:
    gpu_arch, executor, precision = manifest.target.gpu_arch, manifest.executor, manifest.precision
    if precision not in PRECISIONS:
        yield f"precision: expected one of {', '.join(PRECISIONS)}, got {precision!r}"
    elif precision not in CPU_PRECISIONS and gpu_arch is None:
        yield f"precision: expected one of {', '.join(CPU_PRECISIONS)} on a CPU, got {precision!r}"
    # an executor that is none of these may be a newer program's; a session says so
    if executor == GPU_EXECUTOR and gpu_arch is None:
        yield f"target.gpu_arch: expected one such as sm_90 for the executor {executor}, got none"
    if executor in CPU_EXECUTORS and gpu_arch is not None:
        yield f"target.gpu_arch: expected none for the executor {executor}, got {gpu_arch!r}"
    if manifest.weights not in WEIGHTS:
        yield f"weights: expected one of {', '.join(WEIGHTS)}, got {manifest.weights!r}"
    if not NAME.fullmatch(manifest.name):
        yield f"name: expected a lower-case C identifier, got {manifest.name!r}"
    if manifest.embedded_weights and executor != "static":
        yield f"embedded_weights: expected false for the executor {executor}"
    file = manifest.weights_file
    if file is not None and manifest.weights != "file":
        yield f"weights_file: expected none for weights that are {manifest.weights}"
    if file is not None and not SHA256.fullmatch(file.sha256):
        yield f"weights_file.sha256: expected 64 hexadecimal digits, got {file.sha256!r}"
    for name in ("workspace_bytes", "parameters_bytes"):
        size = getattr(manifest, name)
        if not 0 <= size <= MOST_BYTES:
            yield f"{name}: expected 0 to {MOST_BYTES}, got {size}"
