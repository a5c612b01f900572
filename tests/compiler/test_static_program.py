"""The static executor: where tensors lie, and what the one function computes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tvm
from hypothesis import given
from hypothesis import strategies as st
from support.static_programs import Array, arguments, execute
from tvm import relax, tirx
from tvm.script import tirx as T

from tvm_mobilenet.compiler.cpu.lowering import lower
from tvm_mobilenet.compiler.cpu.sharing import Counters
from tvm_mobilenet.compiler.cpu.static_program import ALIGNMENT, StaticProgram, make_static
from tvm_mobilenet.compiler.memory_plan import Interval, plan_offsets
from tvm_mobilenet.errors import BadInput
from tvm_mobilenet.hardware import target

intervals = st.lists(
    st.builds(
        lambda size, first, length: Interval(size, first, first + length),
        st.integers(1, 64).map(lambda lines: lines * ALIGNMENT),
        st.integers(0, 12),
        st.integers(0, 5),
    ),
    max_size=12,
)


@given(intervals)
def test_what_lives_together_lies_apart(tensors: list[Interval]) -> None:
    offsets, needed = plan_offsets(tensors, ALIGNMENT)
    assert len(offsets) == len(tensors)
    places = list(zip(tensors, offsets, strict=True))
    for i, (one, at) in enumerate(places):
        for other, other_at in places[:i]:
            if one.first <= other.last and other.first <= one.last:
                assert at + one.size <= other_at or other_at + other.size <= at
    assert all(offset >= 0 and offset % ALIGNMENT == 0 for offset in offsets)
    assert needed == max((at + one.size for one, at in places), default=0)


@given(intervals)
def test_memory_is_between_the_most_alive_and_the_sum(tensors: list[Interval]) -> None:
    _, needed = plan_offsets(tensors, ALIGNMENT)
    alive = [sum(t.size for t in tensors if t.first <= call <= t.last) for call in range(20)]
    assert max(alive) <= needed <= sum(t.size for t in tensors)


def test_a_chain_takes_its_two_largest_neighbours() -> None:
    sizes = [640, 1280, 640, 320, 64]
    chain = [Interval(size, call, call + 1) for call, size in enumerate(sizes)]
    assert plan_offsets(chain, ALIGNMENT)[1] == 640 + 1280


def test_a_chain_of_tensors_has_two_middles() -> None:
    """What threads share by halves is always cut at the same byte."""
    sizes = [640, 1280, 640, 384, 128]
    chain = [Interval(size, call, call + 1) for call, size in enumerate(sizes)]
    offsets, _ = plan_offsets(chain, ALIGNMENT)
    middles = [at + size // 2 for at, size in zip(offsets, sizes, strict=True)]
    assert middles == [320, 640 + 640, 320, 640 + 640, 320]


def test_a_tensor_takes_the_lane_that_fits_it_best() -> None:
    long, short = Interval(1280, 0, 0), Interval(128, 0, 0)
    assert plan_offsets([long, short, Interval(64, 1, 2), Interval(1024, 1, 2)], 64)[1] == 1408


def test_no_tensors() -> None:
    assert plan_offsets([], ALIGNMENT) == ([], 0)


# Programs of kernels that add: small enough to work out, and wrong at once where bytes are mixed up

SHAPE = (3, 7)  # 84 bytes, no multiple of the alignment


@T.prim_func(s_tir=True)
def add(
    a: T.Buffer(SHAPE, "float32"),  # type: ignore[valid-type]
    b: T.Buffer(SHAPE, "float32"),  # type: ignore[valid-type]
    c: T.Buffer(SHAPE, "float32"),  # type: ignore[valid-type]
) -> None:
    for i, j in T.grid(*SHAPE):
        with T.sblock("add"):
            vi, vj = T.axis.remap("SS", [i, j])
            c[vi, vj] = a[vi, vj] + b[vi, vj] * T.float32(2)


Body = Callable[[Any, Callable[..., Any]], Any]


def program_of(body: Body) -> StaticProgram:
    """The program of ``body(x, add)``, where add(a, b) is a + 2 b; it returns the output."""
    builder = relax.BlockBuilder()
    x = relax.Var("x", relax.TensorType(SHAPE, "float32"))
    with builder.function("main", [x]):
        with builder.dataflow():
            gvar = builder.add_func(add.without_attr("global_symbol"), "add")

            def emit(a: Any, b: Any) -> Any:
                out = relax.TensorType(SHAPE, "float32")
                return builder.emit(relax.call_tir(gvar, [a, b], out_ty=out))

            output = builder.emit_output(body(x, emit))
        builder.emit_func_output(output)
    return make_static(builder.finalize(), target.resolve("x86").vector_width)


def run(program: StaticProgram, x: Array, outputs: int = 1) -> list[Array]:
    return execute(program, x, [SHAPE] * outputs)


@pytest.fixture
def x(rng: np.random.Generator) -> Array:
    return rng.standard_normal(SHAPE, dtype=np.float32)


def constant(value: float) -> relax.Constant:
    return relax.const(np.full(SHAPE, value, np.float32))


def close(found: Array, wanted: Array) -> None:
    np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-6)


def test_chain(x: Array) -> None:
    def body(x: Any, add: Callable[..., Any]) -> Any:
        for value in (1.0, 2.0, 3.0, 4.0):
            x = add(x, constant(value))
        return x

    program = program_of(body)
    assert [call.kernel for call in program.calls] == ["add"] * 4
    two_neighbours = 2 * 128  # the last one is the output
    assert program.workspace_bytes == Counters(two_neighbours, kernels=4, threads=1).end
    close(run(program, x)[0], x + 20)


def test_tensors_that_live_long(x: Array) -> None:
    def body(x: Any, add: Callable[..., Any]) -> Any:
        first = add(x, constant(1))
        second = add(first, x)
        third = add(second, first)
        return add(add(third, second), add(x, first))

    first = x + 2
    second = first + 2 * x
    third = second + 2 * first
    close(run(program_of(body), x)[0], third + 2 * second + 2 * (x + 2 * first))


def test_several_outputs_one_of_them_used_inside(x: Array) -> None:
    def body(x: Any, add: Callable[..., Any]) -> Any:
        first = add(x, constant(1))
        second = add(first, constant(2))
        return relax.Tuple([second, first, add(second, first)])

    found = run(program_of(body), x, 3)
    close(found[0], x + 6)
    close(found[1], x + 2)
    close(found[2], x + 6 + 2 * (x + 2))


def test_an_output_reshaped_at_the_end(x: Array) -> None:
    def body(x: Any, add: Callable[..., Any]) -> Any:
        y = relax.op.reshape(add(x, constant(1)), (1, 21, 1))
        return relax.BlockBuilder.current().emit(y)

    (found,) = execute(program_of(body), x, [(1, 21, 1)])
    close(found.reshape(SHAPE), x + 2)


def test_a_reshape_inside_moves_nothing(x: Array) -> None:
    def body(x: Any, add: Callable[..., Any]) -> Any:
        builder = relax.BlockBuilder.current()
        y = add(x, constant(1))
        there = builder.emit(relax.op.reshape(y, (7, 3)))
        back = builder.emit(relax.op.reshape(there, SHAPE))
        z = add(back, constant(1))
        return add(z, y)

    close(run(program_of(body), x)[0], x + 4 + 2 * (x + 2))


def test_constants_lie_aligned_and_once(x: Array) -> None:
    one, two = constant(1), constant(2)

    def body(x: Any, add: Callable[..., Any]) -> Any:
        return add(add(add(x, one), two), one)

    program = program_of(body)
    stored = np.frombuffer(program.parameters, np.float32)
    assert len(program.parameters) == 2 * 128, "each once, filled up to whole cache lines"
    for index, value in enumerate((1, 2)):
        lines = stored[index * 32 : (index + 1) * 32]
        np.testing.assert_array_equal(lines[:21], value)
        assert not lines[21:].any()
    close(run(program, x)[0], x + 8)


def test_nothing_depends_on_what_the_workspace_held(x: Array) -> None:
    def body(x: Any, add: Callable[..., Any]) -> Any:
        return add(add(add(x, constant(1)), x), constant(2))

    program = program_of(body)
    assert program.workspace_bytes > 0
    library = lower(program.module, target.resolve("x86").tvm_target())
    results = []
    for fill in (0x00, 0xFF, 0x7F):  # zeros, NaN, huge values
        given, parameters, _ = arguments(program, x)
        workspace = tvm.runtime.tensor(np.full(program.workspace_bytes, fill, np.uint8))
        output = tvm.runtime.tensor(np.full(SHAPE, np.nan, np.float32))
        library["infer"](given, parameters, workspace, output)
        results.append(output.numpy())
    np.testing.assert_array_equal(results[0], results[1])
    np.testing.assert_array_equal(results[0], results[2])


def test_profile_gives_the_same_and_rising_stamps(x: Array) -> None:
    def body(x: Any, add: Callable[..., Any]) -> Any:
        return add(add(add(x, constant(1)), x), constant(2))

    program = program_of(body)
    library = lower(program.module, target.resolve("x86").tvm_target())
    output = tvm.runtime.tensor(np.full(SHAPE, np.nan, np.float32))
    stamps = tvm.runtime.tensor(np.zeros(len(program.calls) + 1, np.int64))
    library["profile"](*arguments(program, x), output, stamps)
    assert (np.diff(stamps.numpy()) > 0).all()
    np.testing.assert_array_equal(output.numpy(), run(program, x)[0])


def test_calls_tell_their_work() -> None:
    program = program_of(lambda x, add: add(x, constant(1)))
    (call,) = program.calls
    assert (call.kernel, call.flops) == ("add", 2 * 21)
    assert call.nbytes == 3 * 84


GIVEN_OUT: dict[str, tuple[Body, Callable[[Array], list[Array]]]] = {
    "the input": (lambda x, add: relax.Tuple([add(x, x), x]), lambda x: [x * 3, x]),
    "twice": (lambda x, add: relax.Tuple([(y := add(x, x)), y]), lambda x: [x * 3, x * 3]),
    "all kinds": (
        lambda x, add: relax.Tuple([x, (y := add(x, x)), constant(3), y, x]),
        lambda x: [x, x * 3, np.full_like(x, 3), x * 3, x],
    ),
}


@pytest.mark.parametrize("kind", GIVEN_OUT)
def test_what_no_kernel_computes_is_copied(kind: str, x: Array) -> None:
    body, expected = GIVEN_OUT[kind]
    right = expected(x)
    for result, wanted in zip(run(program_of(body), x, len(right)), right, strict=True):
        np.testing.assert_allclose(result, wanted, rtol=1e-6)


def test_an_operator_that_is_no_kernel_is_named() -> None:
    def body(x: Any, add: Callable[..., Any]) -> Any:
        return relax.BlockBuilder.current().emit(relax.op.exp(x))

    with pytest.raises(BadInput, match=r"cannot run relax\.exp"):
        program_of(body)


def test_every_exported_function_is_callable() -> None:
    program = program_of(lambda x, add: add(x, x))
    exported = {
        gvar.name_hint
        for gvar, func in program.module.functions.items()
        if isinstance(func, tirx.PrimFunc) and func.attrs.get("global_symbol") is not None
    }
    assert {"infer", "profile"} <= exported
    assert "add" not in exported, "kernels are called from inside alone"
