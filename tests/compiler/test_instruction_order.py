"""Byte kernels on ARM are ordered by one core's model, of the instructions of their own core."""

from __future__ import annotations

import pytest
import tvm
from support import odd_kernels
from support.kernel_cases import Case
from tvm.target import Target
from tvm.target.codegen import llvm_get_cpu_features

from tvm_mobilenet.compiler.cpu.instruction_order import ORDERED_AS, in_order_of, order_of
from tvm_mobilenet.compiler.cpu.lowering import lower, lower_module
from tvm_mobilenet.core_model import loops
from tvm_mobilenet.hardware import target
from tvm_mobilenet.scheduling.rules import default_schedule


def scheduled(case: Case, machine: Target) -> tvm.IRModule:
    return default_schedule(case.func().with_attr("global_symbol", "main"), machine).mod


@pytest.mark.parametrize(
    "name",
    ["arm-rpi4", "arm-rpi5", "arm-graviton3", "arm-jetson-orin", "arm-apple-m1", "arm-apple-m2"],
)
def test_instructions_are_those_of_the_core(name: str) -> None:
    own = target.resolve(name).tvm_target()
    ordered = in_order_of(own, ORDERED_AS)
    assert set(llvm_get_cpu_features(ordered)) == set(llvm_get_cpu_features(own))
    kept = {key: value for key, value in own.export().items() if key not in ("mcpu", "mattr")}
    assert kept.items() <= ordered.export().items()


@pytest.mark.parametrize(
    ("name", "dtype", "expected"),
    [
        ("arm-rpi5", "int8", ORDERED_AS),
        ("arm-rpi5", "float32", "cortex-a76"),
        ("arm-rk3566", "int8", "cortex-a55"),  # in order
        ("arm-rpi4", "int8", "cortex-a72"),
        ("x86-znver4", "uint8", "znver4"),
    ],
)
def test_only_dot_products_of_bytes(name: str, dtype: str, expected: str) -> None:
    machine = target.resolve(name).tvm_target()
    floats = odd_kernels.CASES[0]
    case = floats if dtype == "float32" else odd_kernels.over_bytes("depthwise", dtype=dtype)
    lowered = lower_module(scheduled(case, machine), machine)
    assert order_of(lowered, machine).attrs["mcpu"] == expected


@pytest.mark.parametrize("name", ["arm-rpi5", "arm-jetson-orin"])
def test_tiles_of_many_rows_stay_in_registers(name: str) -> None:
    machine = target.resolve(name).tvm_target()
    case = odd_kernels.over_bytes("depthwise", dtype="int8", offset=-128)
    loop = loops.hot_loop(lower(scheduled(case, machine), machine).inspect_source("asm"), "aarch64")
    # seven rows of two pixels of eight channels, three rows of taps each
    assert loop.dot_products == 7 * 2 * 2 * 3
    assert not loop.stack_accesses
