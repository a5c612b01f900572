"""TensorFlow's checkpoints without TensorFlow.

``NAME.index`` is a table of LevelDB's format, uncompressed: sorted names, each with a message that
says where in ``NAME.data-00000-of-00001`` its values lie. Source: LevelDB's ``table_format.md``.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tvm_mobilenet.errors import BadInput
from tvm_mobilenet.weights import graphs
from tvm_mobilenet.weights.tensors import Array

FOOTER_BYTES = 48
MAGIC = struct.pack("<Q", 0xDB4775248B80FB57)
UNCOMPRESSED = 0


def read(path: Path, wanted: Callable[[str], bool]) -> dict[str, Array]:
    """The ``wanted`` variables of the checkpoint whose index is ``path``.

    Raises BadInput where that is no index, or the values are not there.
    """
    try:
        entries = list(_table(path.read_bytes()))
        header = graphs.message("Header").FromString(entries[0][1])
        found = {}
        for key, value in entries[1:]:
            name = key.decode()
            if wanted(name):
                entry = graphs.message("Entry").FromString(value)
                found[name] = _values(path, name, entry, header.num_shards)
    except BadInput:
        raise
    except Exception as error:  # what is damaged raises whatever it meets
        raise BadInput(f"weights {path}: not the index of a checkpoint of TensorFlow") from error
    return found


def _values(path: Path, name: str, entry: Any, shards: int) -> Array:
    if entry.dtype not in graphs.DTYPES:
        raise BadInput(f"weights {path}: {name}: expected floats, got TensorFlow's {entry.dtype}")
    data = path.with_suffix(f".data-{entry.shard_id:05d}-of-{shards:05d}")
    dtype = graphs.DTYPES[entry.dtype]
    shape = tuple(dim.size for dim in entry.shape.dim)
    try:
        with data.open("rb") as file:
            file.seek(entry.offset)
            content = file.read(entry.size)
    except OSError as error:
        raise BadInput(
            f"weights {path}: {name}: its values are in {data.name}: {error.strerror}"
        ) from None
    if len(content) != entry.size or len(content) != math.prod(shape) * dtype.itemsize:
        raise BadInput(f"weights {path}: {name}: {data.name} is cut short, or another's")
    return np.frombuffer(content, dtype).reshape(shape)


def _table(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values of a table, in the order of the keys."""
    footer = content[-FOOTER_BYTES:]
    if footer[-len(MAGIC) :] != MAGIC:
        raise ValueError("no table")
    place = 0
    for _ in range(2):  # the second handle is the index's
        offset, place = _varint(footer, place)
        size, place = _varint(footer, place)
    for _, handle in _block(content, offset, size):
        start, after = _varint(handle, 0)
        length, _ = _varint(handle, after)
        yield from _block(content, start, length)


def _block(content: bytes, offset: int, size: int) -> Iterator[tuple[bytes, bytes]]:
    block = content[offset : offset + size]
    if content[offset + size] != UNCOMPRESSED:
        raise ValueError("compressed")
    (restarts,) = struct.unpack("<I", block[-4:])
    end = len(block) - 4 * (restarts + 1)
    key, place = b"", 0
    while place < end:
        shared, place = _varint(block, place)
        own, place = _varint(block, place)
        length, place = _varint(block, place)
        key = key[:shared] + block[place : place + own]
        yield key, block[place + own : place + own + length]
        place += own + length


def _varint(content: bytes, place: int) -> tuple[int, int]:
    """A number of 7 bits a byte, and the place after it."""
    value = shift = 0
    while True:
        byte = content[place]
        value |= (byte & 0x7F) << shift
        place, shift = place + 1, shift + 7
        if byte < 0x80:
            return value, place
