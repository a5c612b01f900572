"""TF-Slim's MobileNetV1 as files: its names, a frozen GraphDef, and a checkpoint."""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

Array = npt.NDArray[Any]
Variables = Mapping[str, Array]

LEAVES = {"kernel": "weights", "bias": "biases"}


def of_keras(made: Any) -> dict[str, Array]:
    """The weights of a network of ``keras.applications`` under TF-Slim's names for them.

    Both compute the same; their files differ in names, and in what the head is: in V2 it is a dense
    layer of Keras' and a 1x1 convolution of TF-Slim's.
    """
    found = {}
    network = "MobilenetV2" if made.name.startswith("mobilenetv2") else "MobilenetV1"
    for one in made.weights:
        layer, leaf = one.path.split("/")
        array = one.numpy()
        norm = re.search(r"_bn$|_BN$|^bn_", layer)
        layer = re.sub(r"_bn$|_BN$|^bn_", "", layer)
        name = f"{network}/{_slim_name(layer)}{'/BatchNorm' if norm else ''}"
        leaf = LEAVES.get(leaf, leaf)
        if leaf == "weights" and name.endswith("depthwise"):
            leaf = "depthwise_weights"
        dense = leaf == "weights" and array.ndim == 2
        found[f"{name}/{leaf}"] = array[np.newaxis, np.newaxis] if dense else array
    return found


def _slim_name(layer: str) -> str:
    if layer in ("conv_preds", "predictions"):
        return "Logits/Conv2d_1c_1x1"
    separable = re.fullmatch(r"conv_(dw|pw)_(\d+)", layer)
    if separable:
        kind = {"dw": "depthwise", "pw": "pointwise"}[separable[1]]
        return f"Conv2d_{separable[2]}_{kind}"
    inverted = re.fullmatch(r"(expanded_conv|block)(_\d+)?_(expand|depthwise|project)", layer)
    if inverted:
        return f"expanded_conv{inverted[2] or ''}/{inverted[3]}"
    return {"conv1": "Conv2d_0", "Conv1": "Conv", "Conv_1": "Conv_1"}[layer]


def write_graph(path: Path, variables: Variables, size: int, epsilon: float = 1e-3) -> None:
    """A frozen graph with these constants, as TensorFlow's own messages write it."""
    graphs = pytest.importorskip(
        "tensorboard.compat.proto.graph_pb2", reason="pip install '.[dev]'"
    )
    graph = graphs.GraphDef()
    image = graph.node.add(name="input", op="Placeholder")
    for dim in (-1, size, size, 3):
        image.attr["shape"].shape.dim.add(size=dim)
    for name, array in variables.items():
        node = graph.node.add(name=name, op="Const")
        tensor = node.attr["value"].tensor
        tensor.dtype = 1
        for dim in array.shape:
            tensor.tensor_shape.dim.add(size=dim)
        if np.ptp(array) == 0:  # as TensorFlow writes what is all the same
            tensor.float_val.append(float(array.flat[0]))
        else:
            tensor.tensor_content = array.astype("<f4").tobytes()
        graph.node.add(name=f"{name}/read", op="Identity", input=[name])
    shape = graph.node.add(name="MobilenetV1/Logits/Shape", op="Const")  # what is no variable
    shape.attr["value"].tensor.dtype = 3
    convolution = graph.node.add(name="MobilenetV1/MobilenetV1/Conv2d_0/Conv2D", op="Conv2D")
    convolution.attr["padding"].s = b"SAME"
    norm = graph.node.add(name="MobilenetV1/MobilenetV1/Conv2d_0/BatchNorm", op="FusedBatchNorm")
    norm.attr["epsilon"].f = epsilon
    graph.node.add(name="MobilenetV1/MobilenetV1/Conv2d_0/Relu6", op="Relu6")
    path.write_bytes(graph.SerializeToString())


def write_checkpoint(prefix: Path, variables: Variables) -> Path:
    """A checkpoint of one shard; returns its ``.index``. Written by LevelDB's specification."""
    data, entries = b"", [(b"", _field(1, 1))]  # the header: one shard
    for name in sorted(variables):
        content = variables[name].astype("<f4").tobytes()
        dims = b"".join(_message(2, _field(1, size)) for size in variables[name].shape)
        entry = _field(1, 1) + _message(2, dims) + _field(4, len(data)) + _field(5, len(content))
        entries.append((name.encode(), entry))
        data += content
    Path(f"{prefix}.data-00000-of-00001").write_bytes(data)
    table, index = b"", []
    for start in range(0, len(entries), 40):  # several blocks, as a large table has
        part = entries[start : start + 40]
        block = _block(part)
        index.append((part[-1][0], _varint(len(table)) + _varint(len(block))))
        table += block + b"\0" + bytes(4)
    handles = b""
    for block in (_block([]), _block(index)):
        handles += _varint(len(table)) + _varint(len(block))
        table += block + b"\0" + bytes(4)
    path = Path(f"{prefix}.index")
    path.write_bytes(table + handles.ljust(40, b"\0") + struct.pack("<Q", 0xDB4775248B80FB57))
    return path


def _block(entries: list[tuple[bytes, bytes]]) -> bytes:
    """Keys that share a beginning with the one before, but every 16th, which starts anew."""
    content, restarts, before = b"", [0], b""
    for place, (key, value) in enumerate(entries):
        shared = 0
        if place and place % 16 == 0:
            restarts.append(len(content))
        elif place:
            while shared < min(len(key), len(before)) and key[shared] == before[shared]:
                shared += 1
        content += _varint(shared) + _varint(len(key) - shared) + _varint(len(value))
        content += key[shared:] + value
        before = key
    return content + struct.pack(f"<{len(restarts) + 1}I", *restarts, len(restarts))


def _varint(value: int) -> bytes:
    found = b""
    while value >= 0x80:
        found += bytes([value & 0x7F | 0x80])
        value >>= 7
    return found + bytes([value])


def _field(number: int, value: int) -> bytes:
    return bytes([number << 3]) + _varint(value)


def _message(number: int, content: bytes) -> bytes:
    return bytes([number << 3 | 2]) + _varint(len(content)) + content
