"""Reading TensorFlow's messages without TensorFlow: the few of its fields that are needed here.

protobuf, which ONNX brings, parses a message by a description of it and passes over fields that it
does not describe. Numbers are those of ``tensorflow/core/framework/*.proto`` and
``tensorflow/core/protobuf/tensor_bundle.proto``.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tvm_mobilenet.errors import BadInput
from tvm_mobilenet.weights.tensors import Array

# by message: field, number, type, where "*" is a repeated one
MESSAGES: dict[str, dict[str, tuple[int, str]]] = {
    "Dim": {"size": (1, "int64")},
    "Shape": {"dim": (2, "*Dim"), "unknown_rank": (3, "bool")},
    "Tensor": {
        "dtype": (1, "int32"),
        "tensor_shape": (2, "Shape"),
        "tensor_content": (4, "bytes"),
        "half_val": (13, "*int32"),
        "float_val": (5, "*float"),
        "double_val": (6, "*double"),
    },
    "Value": {
        "s": (2, "bytes"),
        "f": (4, "float"),
        "shape": (7, "Shape"),
        "tensor": (8, "Tensor"),
    },
    # the entry of a map
    "Attr": {"key": (1, "string"), "value": (2, "Value")},
    "Node": {"name": (1, "string"), "op": (2, "string"), "attr": (5, "*Attr")},
    "Graph": {"node": (1, "*Node")},
    "Header": {"num_shards": (1, "int32"), "endianness": (2, "int32")},
    "Entry": {
        "dtype": (1, "int32"),
        "shape": (2, "Shape"),
        "shard_id": (3, "int32"),
        "offset": (4, "int64"),
        "size": (5, "int64"),
        "crc32c": (6, "fixed32"),
    },
}
PACKAGE = "tvm_mobilenet.tensorflow"

# DataType of types.proto: what weights may be
MOST_VALUES = 2**28  # of one tensor; a shape of more is damage
DTYPES: dict[int, np.dtype[Any]] = {1: np.dtype("<f4"), 2: np.dtype("<f8"), 19: np.dtype("<f2")}


@dataclass(frozen=True)
class Node:
    """One node of a graph, its attributes as AttrValue by name."""

    name: str
    op: str
    attr: Mapping[str, Any]


def parse(path: Path) -> list[Node]:
    """The nodes of a GraphDef. Raises BadInput for a file that is none."""
    from google.protobuf.message import DecodeError

    graph = message("Graph")()
    try:
        graph.ParseFromString(path.read_bytes())
    except DecodeError:
        raise BadInput(f"weights {path}: not a frozen GraphDef (it does not parse)") from None
    if not any(node.op == "Const" for node in graph.node):
        raise BadInput(f"weights {path}: not a frozen GraphDef: expected constants, got none")
    return [
        Node(node.name, node.op, {one.key: one.value for one in node.attr}) for node in graph.node
    ]


def array_of(tensor: Any) -> Array:
    """The values of a TensorProto; of a type that weights never have, an empty array.

    Raises ValueError where there are not as many as its shape says.
    """
    if tensor.dtype not in DTYPES:
        return np.empty(0)
    dtype = DTYPES[tensor.dtype]
    shape = tuple(dim.size for dim in tensor.tensor_shape.dim)
    if min(shape, default=0) < 0 or math.prod(shape) > MOST_VALUES:
        raise ValueError(f"a shape of {shape}")
    if tensor.tensor_content:
        return np.frombuffer(tensor.tensor_content, dtype).reshape(shape)
    if tensor.half_val:  # its bits as whole numbers
        values: Array = np.array(tensor.half_val, np.uint16).view(np.float16)
    else:
        values = np.array(tensor.float_val or tensor.double_val or [0], dtype)
    # the last value stands for all that follow
    filled: Array = np.full(math.prod(shape), values[-1], dtype)
    filled[: len(values)] = values
    return filled.reshape(shape)


@functools.cache
def message(name: str) -> Any:
    """The class of a message in ``MESSAGES``."""
    from google.protobuf import message_factory

    return message_factory.GetMessageClass(_pool().FindMessageTypeByName(f"{PACKAGE}.{name}"))


@functools.cache
def _pool() -> Any:
    from google.protobuf import descriptor_pb2, descriptor_pool

    kinds = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(
        name="tvm_mobilenet/tensorflow.proto", package=PACKAGE, syntax="proto3"
    )
    for name, fields in MESSAGES.items():
        described = file.message_type.add(name=name)
        for field, (number, kind) in fields.items():
            plain = kind.removeprefix("*")
            one = described.field.add(name=field, number=number)
            one.label = kinds.LABEL_REPEATED if kind != plain else kinds.LABEL_OPTIONAL
            if plain in MESSAGES:
                one.type, one.type_name = kinds.TYPE_MESSAGE, f".{PACKAGE}.{plain}"
            else:
                one.type = getattr(kinds, f"TYPE_{plain.upper()}")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return pool
