"""How threads share a kernel: every iteration once, whoever comes when, and by whom it is done."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
import tvm
import tvm_ffi
from hypothesis import given
from hypothesis import strategies as st
from support.static_programs import compiled, relax_of, seeded
from torch import nn
from tvm import sym, tirx
from tvm.ir import Call, Expr, GlobalVar, TensorLoad
from tvm.script import tirx as T

from tvm_mobilenet.compiler.cpu.lowering import lower
from tvm_mobilenet.compiler.cpu.sharing import (
    BEHIND,
    CHUNKS,
    CURSOR,
    END,
    FIRST,
    INT32,
    LINE,
    MANY,
    ROUNDS,
    claim_function,
    number_threads,
)
from tvm_mobilenet.hardware import target
from tvm_mobilenet.library.description import NATIVE

MOST = 4
MAX_THREADS = 6  # more than there are counters for

Claim = Callable[[int], list[int] | None]


@cache
def library() -> tvm.runtime.Module:
    """``claim`` as a function of tensors: cursor, counters, then ``thread`` to ``behind``."""
    machine = target.resolve("x86").tvm_target()
    claim = GlobalVar("claim")
    cursor = tirx.decl_buffer((CURSOR,), "int32", "cursor")
    counters = tirx.decl_buffer((MOST * LINE,), "int32", "counters")
    numbers = tirx.decl_buffer((5,), "int32", "numbers")
    thread, threads, *loop = (tirx.BufferLoad(numbers, [i]) for i in range(5))
    arguments = [cursor.data, counters.data, thread, threads, T.int32(MOST), *loop]
    body = tirx.Evaluate(Call(claim, arguments, ret_ty=INT32))
    entry = tirx.PrimFunc([cursor, counters, numbers], body).with_attr("global_symbol", "entry")
    return lower(tvm.IRModule({GlobalVar("entry"): entry, claim: claim_function(machine)}), machine)


def numbers_of(place: int, threads: int) -> tuple[int, int]:
    """The thread and how many there are, as the thread at ``place`` computes them.

    It executes its run of a parallel loop over nothing, of the length that TVM gives each.
    """
    share, *_, thread, count = number_threads()[0]
    length = -(-MANY // threads)
    last, iterations = min((place + 1) * length, MANY) - 1, min(length, MANY - place * length)

    def value(load: TensorLoad) -> Expr:
        assert load.source.same_as(share.buffer)
        return T.int32((last, iterations)[int(load.indices[0])])

    found = [tvm_ffi.structural_map(one.value, (TensorLoad, value)) for one in (thread, count)]
    number, known = (int(sym.Analyzer().simplify(one)) for one in found)
    return number, known


def test_as_many_threads_as_the_library_takes_know_their_numbers() -> None:
    """The last one's run is the shortest, so that its division is the first to err."""
    text = (NATIVE / "internal.h").read_text()
    (most,) = map(int, re.findall(r"TMN_MOST_THREADS = (\d+)", text))
    for threads in {*range(1, most, 13), most - 1, most}:
        assert numbers_of(threads - 1, threads) == (threads - 1, threads)
        assert numbers_of(0, threads) == (0, threads)
    assert numbers_of(839, 840) != (839, 840), "more of them would not"


def loop_of(threads: int, rounds: int, rows: int, behind: int = BEHIND) -> Claim:
    """One kernel's loop: the iterations thread i gets when it next asks, None where all are taken.

    It has ``rows`` in each of so many ``rounds``; a plain loop is one round.
    """
    counters = tvm.runtime.tensor(np.zeros(MOST * LINE, np.int32))
    cursors = [tvm.runtime.tensor(np.zeros(CURSOR, np.int32)) for _ in range(threads)]

    def claim(thread: int) -> list[int] | None:
        loop = [thread, threads, rounds * rows, rows, behind]
        library()["entry"](cursors[thread], counters, tvm.runtime.tensor(np.array(loop, np.int32)))
        first, end, turns = cursors[thread].numpy()[[FIRST, END, ROUNDS]]
        if turns == 0:
            assert first == end, "a loop without rounds has nothing to do either"
            return None
        return [i + turn * rows for turn in range(turns) for i in range(first, end)]

    return claim


def all_of(claim: Claim, thread: int) -> list[int]:
    """What a thread gets that is alone to ask."""
    done: list[int] = []
    while (chunk := claim(thread)) is not None:
        done += chunk
    return done


@given(
    st.data(),
    st.integers(1, MAX_THREADS),
    st.integers(1, 40),
    st.integers(1, 60),
    st.sampled_from([1, BEHIND, MANY]),
)
def test_every_iteration_is_done_once_in_whatever_order_threads_come(
    data: st.DataObject, threads: int, rounds: int, rows: int, behind: int
) -> None:
    claim = loop_of(threads, rounds, rows, behind)
    busy, done = list(range(threads)), []
    while busy:
        thread = data.draw(st.sampled_from(busy))
        chunk = claim(thread)
        if chunk is None:
            busy.remove(thread)
            assert claim(thread) is None, "and none after that"
        else:
            done += chunk
    assert sorted(done) == list(range(rounds * rows))


def test_threads_of_one_speed_keep_to_their_runs() -> None:
    claim = loop_of(2, 1, 48)
    turns = [(claim(0), claim(1)) for _ in range(CHUNKS)]
    assert [i for first, _ in turns for i in first or []] == list(range(24))
    assert [i for _, second in turns for i in second or []] == list(range(24, 48))
    assert claim(0) is None and claim(1) is None


def test_a_fast_thread_steals_from_the_end_of_a_slow_threads_rows() -> None:
    claim = loop_of(2, 1, 48)
    slow = claim(0)
    fast = [claim(1) or [] for _ in range(2 * CHUNKS - 1)]
    assert slow == [0, 1, 2]
    assert [i for chunk in fast[:CHUNKS] for i in chunk] == list(range(24, 48))
    assert [chunk[0] for chunk in fast[CHUNKS:]] == [21, 18, 15, 12, 9, 6, 3]
    assert claim(1) is None and claim(0) is None


@pytest.mark.parametrize(("begun", "helped"), [(CHUNKS - BEHIND, True), (CHUNKS - 1, False)])
def test_work_is_stolen_only_from_a_thread_clearly_behind(begun: int, helped: bool) -> None:
    """What it takes from another it would have to bring over from that one's cache."""
    claim = loop_of(2, 1, 48)
    for _ in range(begun):
        assert claim(0) is not None
    assert (set(all_of(claim, 1)) > set(range(24, 48))) is helped


def test_no_thread_does_the_rows_that_another_keeps() -> None:
    claim = loop_of(2, 12, 6, behind=MANY)
    assert {i % 6 for i in all_of(claim, 1)} == {3, 4, 5}
    assert {i % 6 for i in all_of(claim, 0)} == {0, 1, 2}


def test_a_thread_has_the_same_rows_in_every_round() -> None:
    claim = loop_of(3, 20, 6, behind=MANY)
    for thread in range(3):
        rows = {i % 6 for i in all_of(claim, thread)}
        assert rows == {2 * thread, 2 * thread + 1}


def test_the_remainder_row_rotates_between_threads() -> None:
    """Of seven rows two threads have three and a half: the middle one in every other round."""
    claim = loop_of(2, CHUNKS, 7, behind=MANY)
    first, second = all_of(claim, 0), all_of(claim, 1)
    assert len(first) == len(second) == 7 * CHUNKS // 2
    assert {i // 7 % 2 for i in first if i % 7 == 3} == {1}
    assert {i // 7 % 2 for i in second if i % 7 == 3} == {0}


def test_fewer_rows_than_threads_are_shared_as_they_come() -> None:
    claim = loop_of(4, 12, 2, behind=MANY)
    assert [all_of(claim, thread) for thread in range(4)] == [
        list(range(6 * thread, 6 * thread + 6)) for thread in range(4)
    ]


def test_one_thread_does_all_at_once() -> None:
    claim = loop_of(1, 6, 8)
    assert claim(0) == list(range(48)) and claim(0) is None


def test_more_threads_than_counters_do_their_runs_at_once() -> None:
    claim = loop_of(MAX_THREADS, 1, 48)
    assert claim(3) == list(range(24, 32)) and claim(3) is None


def test_layers_of_one_shape_share_their_code() -> None:
    layers = [nn.Conv2d(32, 32, 3, padding=1, groups=32, bias=False) for _ in range(3)]
    program = compiled(relax_of(seeded(nn.Sequential(*layers)), (1, 32, 9, 9)))
    kernel = "depthwise_conv2d_9x9x32"  # the last one's result has no border
    assert [call.kernel for call in program.calls].count(kernel) == 2
    assembly = lower(program.module, target.resolve("x86").tvm_target()).inspect_source("asm")
    assert len(re.findall(rf"{kernel}:$", assembly, re.MULTILINE)) == 1
