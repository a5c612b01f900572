"""What a kernel must compute, by NumPy: every layer of the networks has it, and TVM agrees."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tvm
from numpy.typing import NDArray
from support import network_kernels, odd_kernels, tile_cases
from support.arrays import Array
from support.kernel_cases import Case, Packing, Unpacking
from support.network_kernels import Workload
from tvm import tirx

from schedules import RULES
from tvm_mobilenet import models
from tvm_mobilenet.compiler.cpu.lowering import lower
from tvm_mobilenet.compiler.precision import TOLERANCES
from tvm_mobilenet.hardware import target
from tvm_mobilenet.kernels.cpu.layout import Blocked, Halo
from tvm_mobilenet.scheduling.space import workload_module
from tvm_mobilenet.tuning.workers import case, kernel_form, reference
from tvm_mobilenet.tuning.workers.arguments import arguments_of

SMALL = (models.config_from("mobilenet_v1", 0.5, 32),)
LARGEST = network_kernels.Workload("", models.config_from("mobilenet_v1", 1.0, 224), 0)


def build(module: tvm.IRModule) -> Any:
    """As TVM compiles it, with nothing of ours."""
    return tvm.compile(module, target="llvm")


def lower_for_x86(module: tvm.IRModule) -> Any:
    """By our passes: what is of 16 bits needs them."""
    return lower(module, target.resolve("x86-64-v3").tvm_target())


def both(
    func: tirx.PrimFunc,
    rng: np.random.Generator,
    compiled: Callable[[tvm.IRModule], Any] = build,
) -> tuple[Array, Array]:
    """What the unscheduled function writes, and what the reference says."""
    module = tvm.IRModule({"main": func})
    arrays = case.random_values(arguments_of(module), int(rng.integers(1 << 30)))
    tensors = [tvm.runtime.tensor(array) for array in arrays]
    compiled(module)["main"](*tensors)
    return tensors[-1].numpy(), reference.output(func, arrays[:-1], arrays[-1])


@pytest.mark.in_turns(6)
@pytest.mark.parametrize("vector_width", [4, 16])
@pytest.mark.parametrize("workload", network_kernels.distinct(SMALL), ids=lambda one: one.id)
def test_every_layer_of_a_network(
    workload: Workload, vector_width: int, rng: np.random.Generator
) -> None:
    func = network_kernels.kernel(workload, vector_width).func
    found, expected = both(func, rng)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.in_turns(6)
@pytest.mark.parametrize(
    "one",
    [
        *odd_kernels.CASES,
        *odd_kernels.FAST_PRODUCTS,
        *odd_kernels.SEPARABLE,
        *odd_kernels.OVERLAPPING,
        *odd_kernels.RUNS,
    ],
    ids=lambda one: one.id,
)
def test_odd_kernels(one: Case, rng: np.random.Generator) -> None:
    found, expected = both(one.func().with_attr("global_symbol", "main"), rng)
    if found.dtype == np.uint8:
        assert case.wrong([found], [expected], 0.0) == ("", 0.0)
        assert np.count_nonzero((found > 0) & (found < 255)) > found.size / 4, (
            "not at the ends alone"
        )
    else:
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.in_turns(6)
@pytest.mark.parametrize("one", odd_kernels.SIGNED, ids=lambda one: one.id)
def test_odd_kernels_over_int8(one: Case, rng: np.random.Generator) -> None:
    found, expected = both(one.func().with_attr("global_symbol", "main"), rng)
    if found.dtype == np.int8:
        assert case.wrong([found], [expected], 0.0) == ("", 0.0)
        inside = np.count_nonzero((found > -128) & (found < 127))
        assert inside > found.size / 4, "not at the ends alone"
    else:
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.in_turns(2)
@pytest.mark.parametrize("one", tile_cases.CASES, ids=lambda one: one.id)
def test_odd_kernels_by_tiles(one: Case, rng: np.random.Generator) -> None:
    """As any CPU computes what stands for the products of tiles."""
    found, expected = both(one.func().with_attr("global_symbol", "main"), rng, lower_for_x86)
    allowed = 0.0 if found.dtype == np.uint8 else TOLERANCES["bf16"]
    reason, error = case.wrong([found], [expected], allowed)
    assert reason == ""
    assert error <= 2**-8
    assert np.unique(expected.astype(float)).size > 1


@pytest.mark.in_turns(6)
@pytest.mark.parametrize(
    "one", [*odd_kernels.IN_BF16, *odd_kernels.IN_MATRICES], ids=lambda one: one.id
)
def test_odd_kernels_in_bf16(one: Case, rng: np.random.Generator) -> None:
    found, expected = both(one.func().with_attr("global_symbol", "main"), rng, lower_for_x86)
    reason, error = case.wrong([found], [expected], TOLERANCES["bf16"])
    assert reason == ""
    assert error <= 2**-8, "the same numbers, or the next"
    assert np.unique(expected.astype(float)).size > 1


@pytest.mark.parametrize("one", odd_kernels.IN_FP16[::2], ids=lambda one: one.id)
@pytest.mark.isa("f16c")
def test_odd_kernels_in_fp16(one: Case, rng: np.random.Generator) -> None:
    found, expected = both(one.func().with_attr("global_symbol", "main"), rng, lower_for_x86)
    reason, error = case.wrong([found], [expected], TOLERANCES["fp16"])
    assert reason == ""
    assert error <= 2**-8
    assert np.unique(expected.astype(float)).size > 1


def test_a_reference_for_every_rule() -> None:
    assert set(RULES["x86"]) | set(RULES["arm_cpu"]) == set(reference.REFERENCES)


@pytest.mark.parametrize("kind", [Packing, Unpacking])
def test_layouts(kind: type[Packing] | type[Unpacking], rng: np.random.Generator) -> None:
    func = kind(Blocked(2, 19, 5, 7, 8, Halo(1, 2, 0, 1))).func()
    func = func.with_attr("global_symbol", "main")
    found, expected = both(func, rng)
    np.testing.assert_array_equal(found[..., : 7 if kind is Unpacking else None], expected)


def test_the_largest_kernels_take_less_than_a_second(rng: np.random.Generator) -> None:
    kernels = network_kernels.network(LARGEST.config, 16)[:4]
    for kernel in kernels:
        arguments = arguments_of(workload_module(kernel.func))
        start = time.process_time()
        _, source = case.make(kernel.func, arguments, 0, lambda _: pytest.fail("not needed"))
        assert source == case.INDEPENDENT
        assert time.process_time() - start < 5, "on a busy machine, all threads counted"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda right: np.rint(right), ""),
        (lambda right: np.floor(right), "apart"),
        (lambda right: np.where(right > 200, 0, np.rint(right)), "apart"),
    ],
    ids=["nearest", "truncated", "wrapped"],
)
def test_bytes_are_the_integers_next_to_what_they_stand_for(
    change: Callable[[NDArray[Any]], NDArray[Any]], reason: str, rng: np.random.Generator
) -> None:
    right = rng.uniform(0, 255, 1000)
    right[:10] = 7.5  # either is right
    wrong, _ = case.wrong([change(right).astype(np.uint8)], [right], 0.0)
    assert (reason in wrong) if reason else not wrong


def test_of_bytes_from_two_kernels_few_differ_by_one() -> None:
    right = np.arange(200, dtype=np.uint8)

    def wrong(places: list[int], by: int) -> str:
        output = right.copy()
        output[places] += np.uint8(by)
        return case.wrong([output], [right], 0.0)[0]

    assert wrong([], 0) == wrong([3, 9], 1) == ""
    assert wrong([3, 9, 30], 1) == "3 of 200 integers are 1 from the right one, at most 2"
    assert wrong([3], 2) == "an integer 2.00 apart, at most 1.00"


def test_an_unknown_kind_of_kernel_is_checked_against_its_unscheduled_form() -> None:
    from support.tuning_kernels import matmul

    func = matmul(8, 32, 16).func
    ran: list[Any] = []
    values, source = case.make(func, arguments_of(workload_module(func)), 0, ran.append)
    assert source == case.UNSCHEDULED and ran == [values]


def test_another_form_of_a_known_rule_is_not_taken_for_it() -> None:
    from support.tuning_kernels import matmul

    func = matmul(8, 32, 16, "dense").func
    arrays = [np.zeros([int(dim) for dim in param.shape], np.float32) for param in func.params]
    with pytest.raises(
        kernel_form.NoReference, match="dense in a form the reference does not know"
    ):
        reference.output(func, arrays[:-1], arrays[-1])


def test_what_is_measured_cold_and_which_integers_are_right() -> None:
    """Weights and constants come from beyond L2; a tensor beside them was written just now."""
    extended = next(one for one in odd_kernels.ELEMENTWISE if one.id.endswith("channels"))
    roles = [one.role for one in arguments_of(tvm.IRModule({"main": extended.func()}))]
    assert roles == ["input", "constant", "output"]
    residual = odd_kernels.EXTENDED[0].func()
    roles = [one.role for one in arguments_of(tvm.IRModule({"main": residual}))]
    assert roles == ["input", "constant", "constant", "input", "output"]
    shuffled = arguments_of(tvm.IRModule({"main": odd_kernels.CHANNELS[0].func()}))
    assert [one.role for one in shuffled] == ["input", "input", "output"]
    resized = arguments_of(tvm.IRModule({"main": odd_kernels.LARGER[0].func()}))
    values = case.random_values(resized, 3)
    assert values[1].max() < 3
    assert values[3].max() < 5
