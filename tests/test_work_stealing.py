"""How threads share a kernel: every iteration once, whoever comes when, and by whom it is done."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache

import numpy as np
import tvm
from hypothesis import given, settings
from hypothesis import strategies as st
from static_programs import compiled, relax_of, seeded
from torch import nn
from tvm import tirx
from tvm.ir import Call, GlobalVar
from tvm.script import tirx as T

from tvm_mobilenet import target
from tvm_mobilenet.lowering import lower
from tvm_mobilenet.work_stealing import (
    CHUNKS,
    CURSOR,
    END,
    FIRST,
    INT32,
    LINE,
    claim_function,
)

MOST = 4
MAX_THREADS = 6  # more than there are counters for

Claim = Callable[[int], range]


@cache
def library() -> tvm.runtime.Module:
    """`claim` as a function of tensors: cursor, counters, (thread, threads, extent)."""
    machine = target.resolve("x86").tvm_target()
    claim = GlobalVar("claim")
    cursor = tirx.decl_buffer((CURSOR,), "int32", "cursor")
    counters = tirx.decl_buffer((MOST * LINE,), "int32", "counters")
    numbers = tirx.decl_buffer((3,), "int32", "numbers")
    thread, threads, extent = (tirx.BufferLoad(numbers, [i]) for i in range(3))
    arguments = [cursor.data, counters.data, thread, threads, T.int32(MOST), extent]
    body = tirx.Evaluate(Call(claim, arguments, ret_ty=INT32))
    entry = tirx.PrimFunc([cursor, counters, numbers], body).with_attr("global_symbol", "entry")
    return lower(tvm.IRModule({GlobalVar("entry"): entry, claim: claim_function(machine)}), machine)


def loop_of(threads: int, extent: int) -> Claim:
    """One kernel's loop: what thread i gets when it next asks."""
    counters = tvm.runtime.tensor(np.zeros(MOST * LINE, np.int32))
    cursors = [tvm.runtime.tensor(np.zeros(CURSOR, np.int32)) for _ in range(threads)]

    def claim(thread: int) -> range:
        numbers = tvm.runtime.tensor(np.array([thread, threads, extent], np.int32))
        library()["entry"](cursors[thread], counters, numbers)
        claimed = cursors[thread].numpy()
        return range(claimed[FIRST], claimed[END])

    return claim


@settings(deadline=None)
@given(st.data(), st.integers(1, MAX_THREADS), st.integers(1, 300))
def test_every_iteration_is_done_once_in_whatever_order_threads_come(
    data: st.DataObject, threads: int, extent: int
) -> None:
    claim = loop_of(threads, extent)
    busy, done = list(range(threads)), []
    while busy:
        thread = data.draw(st.sampled_from(busy))
        chunk = claim(thread)
        done += chunk
        if not chunk:
            busy.remove(thread)
            assert not claim(thread), "and none after that"
    assert sorted(done) == list(range(extent))


def test_threads_of_one_speed_keep_to_their_runs() -> None:
    claim = loop_of(2, 48)
    turns = [(claim(0), claim(1)) for _ in range(CHUNKS)]
    assert [i for first, _ in turns for i in first] == list(range(24))
    assert [i for _, second in turns for i in second] == list(range(24, 48))
    assert not claim(0) and not claim(1)


def test_a_fast_thread_takes_from_the_end_of_a_slow_ones_run() -> None:
    claim = loop_of(2, 48)
    slow = claim(0)
    fast = [claim(1) for _ in range(2 * CHUNKS - 1)]
    assert slow == range(4)
    assert [i for chunk in fast[:CHUNKS] for i in chunk] == list(range(24, 48))
    assert [chunk.start for chunk in fast[CHUNKS:]] == [20, 16, 12, 8, 4]
    assert not claim(1) and not claim(0)


def test_one_thread_does_all_at_once() -> None:
    claim = loop_of(1, 48)
    assert claim(0) == range(48) and not claim(0)


def test_more_threads_than_counters_do_their_runs_at_once() -> None:
    claim = loop_of(MAX_THREADS, 48)
    assert claim(3) == range(24, 32) and not claim(3)


def test_layers_of_one_shape_share_their_code() -> None:
    layers = [nn.Conv2d(32, 32, 3, padding=1, groups=32, bias=False) for _ in range(3)]
    program = compiled(relax_of(seeded(nn.Sequential(*layers)), (1, 32, 9, 9)))
    kernel = "depthwise_conv2d_9x9x32"  # the last one's result has no border
    assert [call.kernel for call in program.calls].count(kernel) == 2
    assembly = lower(program.module, target.resolve("x86").tvm_target()).inspect_source("asm")
    assert len(re.findall(rf"{kernel}:$", assembly, re.MULTILINE)) == 1
