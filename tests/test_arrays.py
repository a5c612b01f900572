"""NumPy's files: whatever is in one is arrays, or a fault told in one line."""

from __future__ import annotations

import io
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tvm_mobilenet import arrays
from tvm_mobilenet.errors import BadInput

X = np.arange(12, dtype=np.float32).reshape(3, 4)
MUTATIONS = 150


def written(save: Callable[..., None], *values: Any, **named: Any) -> bytes:
    stream = io.BytesIO()
    save(stream, *values, **named)
    return stream.getvalue()


ONE = written(np.save, X)
NAMED = written(np.savez, x=X, y=X[0])
PACKED = written(np.savez_compressed, x=X, y=X[0])


@pytest.mark.parametrize("data", [NAMED, PACKED], ids=["stored", "packed"])
def test_arrays_by_name(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    path.write_bytes(data)
    found = arrays.read_named(path, "it")
    assert found.keys() == {"x", "y"}
    np.testing.assert_array_equal(found["x"], X)
    np.testing.assert_array_equal(found["y"], X[0])


@pytest.mark.parametrize("mapped", [False, True])
def test_one_array(mapped: bool, tmp_path: Path) -> None:
    path = tmp_path / "x.npy"
    path.write_bytes(ONE)
    found = arrays.read_one(path, "it", mapped=mapped)
    assert isinstance(found, np.memmap) == mapped
    np.testing.assert_array_equal(found, X)


def test_one_kind_under_the_other_s_name(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(NAMED)
    with pytest.raises(BadInput, match=r"^it: expected one array, .* name it \.npz$"):
        arrays.read_one(path, "it")
    path.write_bytes(ONE)
    with pytest.raises(BadInput, match=r"^it: expected an archive .* name it \.npy$"):
        arrays.read_named(path, "it")


@pytest.mark.parametrize("read", [arrays.read_one, arrays.read_named])
@pytest.mark.parametrize("text", ["", "hello"])
def test_a_text_is_not_taken_for_pickled_objects(
    read: Callable[[Path, str], object], text: str, tmp_path: Path
) -> None:
    path = tmp_path / "x"
    path.write_text(text)
    with pytest.raises(BadInput, match=r"^it: not a readable \.np[yz]: it does not begin as"):
        read(path, "it")


def mutated(data: bytes, chance: random.Random) -> bytes:
    if chance.random() < 0.3:
        return data[: chance.randrange(len(data))]
    changed = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 5, 20))):
        changed[chance.randrange(len(changed))] = chance.randrange(256)
    return bytes(changed)


@pytest.mark.parametrize("data", [ONE, NAMED, PACKED], ids=["one", "stored", "packed"])
@pytest.mark.parametrize("read", [arrays.read_one, arrays.read_named])
@pytest.mark.filterwarnings("ignore")  # Python's of a header that is no longer one
def test_a_damaged_file_is_read_or_refused_in_one_line(
    read: Callable[[Path, str], object], data: bytes, tmp_path: Path
) -> None:
    chance = random.Random(0)
    path, refusals = tmp_path / "x", []
    for _ in range(MUTATIONS):
        path.write_bytes(mutated(data, chance))
        try:
            read(path, "it")
        except BadInput as error:
            refusals.append(str(error))
    assert len(refusals) > MUTATIONS / 3
    assert all(one.startswith("it: ") and "\n" not in one for one in refusals)
