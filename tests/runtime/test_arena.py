"""The memory of an inference."""

from __future__ import annotations

import gc

import numpy as np

from tvm_mobilenet.runtime import arena


def test_blocks_are_aligned_zeroed_writable_and_apart() -> None:
    blocks = arena.allocate([100, 0, 3 << 20, 64])
    assert [block.size for block in blocks] == [100, 0, 3 << 20, 64]
    assert blocks[0].ctypes.data % arena.HUGE_PAGE == 0
    for block in blocks:
        assert block.ctypes.data % arena.ALIGNMENT == 0
        assert not block.any()
    for number, block in enumerate(blocks, start=1):
        block[:] = number
    assert [set(block.tolist()) for block in blocks] == [{1}, set(), {3}, {4}]


def test_a_block_outlives_the_others() -> None:
    last = arena.allocate([1 << 20, 16])[1]
    gc.collect()
    last[:] = 7
    np.testing.assert_array_equal(last, 7)


def test_nothing_asked() -> None:
    assert arena.allocate([]) == []
