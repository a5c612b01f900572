"""The emulated tiles of AMX: what LLVM's assembler makes of its instructions is understood, and
each computes what Intel says. With AMX in the CPU the same tests hold the CPU's own to that.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Sequence

import ml_dtypes
import numpy as np
import pytest
import tvm
from numpy.typing import NDArray
from support.tile_cases import HAS_TILES, spec_that_runs, tile_unit, tiles
from tvm.script import tirx as T

from tvm_mobilenet.compiler.cpu.lowering import lower
from tvm_mobilenet.compiler.cpu.tiles import configuration_of
from tvm_mobilenet.hardware import cpu

Bytes = NDArray[np.uint8]
Numbers = NDArray[np.float64]
CLOBBERED = ("rax", "rbx", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "memory")
# A function of LLVM's language: a configuration is at rdi, what is read at rsi, results at rdx.
PROBE = """
define linkonce_odr i32 @probe(ptr %a, ptr %b, ptr %c) alwaysinline nounwind {{
  call void asm sideeffect "{code}", "{{rdi}},{{rsi}},{{rdx}},{clobbered}"(ptr %a, ptr %b, ptr %c)
  ret i32 0
}}
"""
READ, WRITTEN = 8192, 32768
ROWS, ROW_BYTES = 16, 64
BASES = ("rax", "rbx", "rbp", "rsi", "r8", "r12", "r13", "r15")


def run(code: Sequence[str], shapes: list[tuple[int, int]], read: Bytes) -> Bytes:
    """Assemble and run, with tiles of these rows and bytes; what is written, zeros elsewhere."""
    # below what the function may keep under its stack pointer
    lines = ["leaq -512(%rsp), %rsp", "pushq %rbp", *code, "popq %rbp", "leaq 512(%rsp), %rsp"]
    source = PROBE.format(
        code="\\0A".join(lines).replace("$", "$$"),
        clobbered=",".join(f"~{{{name}}}" for name in CLOBBERED),
    )

    @T.prim_func(s_tir=True)
    def main(
        configuration: T.Buffer((64,), "uint8"),  # type: ignore[valid-type]
        read: T.Buffer((READ,), "uint8"),  # type: ignore[valid-type]
        written: T.Buffer((WRITTEN,), "uint8"),  # type: ignore[valid-type]
    ) -> None:
        T.func_attr({"global_symbol": "main"})
        with T.attr(T.int32(0), "pragma_import_llvm", source):
            T.evaluate(T.call_extern("int32", "probe", configuration.data, read.data, written.data))

    library = lower(tvm.IRModule({"main": main}), spec_that_runs().tvm_target())
    configuration = np.frombuffer(configuration_of(shapes), np.uint8)
    arrays = [configuration, read, np.zeros(WRITTEN, np.uint8)]
    given = [tvm.runtime.tensor(array.copy()) for array in arrays]
    with tiles():
        library["main"](*given)
    result: Bytes = given[-1].numpy()
    return result


def test_every_way_to_say_an_address(rng: np.random.Generator) -> None:
    """Any base, index, factor and distance, in loads as in stores: each tile is copied whole."""
    read = rng.integers(0, 256, READ, dtype=np.uint8)
    code, expected = ["ldtilecfg (%rdi)"], np.zeros(WRITTEN, np.uint8)
    place, number = 0, 0
    for base in BASES:
        for distance in (0, 8, -64, 4096):
            if base == "rsi" and distance:
                continue
            index = "r9" if base != "r9" else "r10"
            factor, tile, start = (1, 2, 4, 8)[number % 4], number % 8, 16 * number
            kept = base in ("rsi",)
            code += [f"movq ${ROW_BYTES // factor}, %{index}"]
            code += [] if kept else [f"leaq {start - distance}(%rsi), %{base}"]
            start = 0 if kept else start
            load = "tileloaddt1" if number % 2 else "tileloadd"
            code += [f"{load} {distance}(%{base},%{index},{factor}), %tmm{tile}"]
            if number % 3 == 0:  # a store by as many ways
                code += [f"leaq {place - distance}(%rdx), %{base}"] if not kept else []
                to = f"{distance}(%{base},%{index},{factor})" if not kept else f"{place}(%rdx,%r9)"
                code += [f"tilestored %tmm{tile}, {to.replace('%r9)', f'%{index},{factor})')}"]
            else:
                code += [f"tilestored %tmm{tile}, {place}(%rdx,%{index},{factor})"]
            expected[place : place + 1024] = read[start : start + 1024]
            place, number = place + 1024, number + 1
    assert place <= WRITTEN
    found = run([*code, "tilerelease"], [(ROWS, ROW_BYTES)] * 8, read)
    np.testing.assert_array_equal(found, expected)


def test_configurations_and_tiles_that_are_not_whole(rng: np.random.Generator) -> None:
    """Rows and bytes past a tile's shape are not read or written; zeroing; a row for all."""
    read = rng.integers(0, 256, READ, dtype=np.uint8)
    shapes = [(5, 36), (16, 64), (3, 8)]
    code = [
        "ldtilecfg (%rdi)",
        "sttilecfg (%rdx)",
        "ldtilecfg (%rdx)",
        "movq $100, %rax",
        "tileloadd 3(%rsi,%rax), %tmm0",
        "tilestored %tmm0, 64(%rdx,%rax)",
        "tileloadd 7(%rsi), %tmm2",  # no index: every row is the first
        "movq $8, %r14",
        "tilestored %tmm2, 1024(%rdx,%r14)",
        "tileloadd (%rsi,%rax), %tmm1",
        "tilezero %tmm1",
        "movq $64, %rax",
        "leaq (%rsp), %rbp",
        "sttilecfg -64(%rsp)",
        "movups -64(%rbp), %xmm0",
        "movups %xmm0, 2048(%rdx)",
        "movb $1, 3072(%rdx)",
        "tilestored %tmm1, 3072(%rdx,%rax)",
        "tilerelease",
        "sttilecfg 8192(%rdx)",
    ]
    expected = np.zeros(WRITTEN, np.uint8)
    expected[:64] = np.frombuffer(configuration_of(shapes), np.uint8)
    for row in range(5):
        expected[64 + 100 * row :][:36] = read[3 + 100 * row :][:36]
    for row in range(3):
        expected[1024 + 8 * row :][:8] = read[7:15]
    expected[2048] = 1
    np.testing.assert_array_equal(run(code, shapes, read), expected)


# a product's pixels and weights, as instructions have them
SIGNS = {
    "tdpbssd": (np.int8, np.int8),
    "tdpbsud": (np.int8, np.uint8),
    "tdpbusd": (np.uint8, np.int8),
    "tdpbuud": (np.uint8, np.uint8),
}


def product(instruction: str, pixels: int, steps: int, lanes: int, read: Bytes) -> Bytes:
    """Twice: sums of READ, and the product of what follows them; the sums as bytes."""
    shapes = [(pixels, 4 * lanes), (pixels, 4 * steps), (steps, 4 * lanes)]
    code = [
        "ldtilecfg (%rdi)",
        "movq $64, %rax",
        "tileloadd (%rsi,%rax), %tmm0",
        "tileloadd 1024(%rsi,%rax), %tmm1",
        "tileloadd 2048(%rsi,%rax), %tmm2",
        f"{instruction} %tmm2, %tmm1, %tmm0",
        f"{instruction} %tmm2, %tmm1, %tmm0",
        "tilestored %tmm0, (%rdx,%rax)",
        "tilerelease",
    ]
    return run(code, shapes, read)


@pytest.mark.parametrize("instruction", SIGNS)
@pytest.mark.parametrize(("pixels", "steps", "lanes"), [(16, 16, 16), (7, 9, 5)])
def test_products_of_bytes(
    instruction: str, pixels: int, steps: int, lanes: int, rng: np.random.Generator
) -> None:
    read = rng.integers(0, 256, READ, dtype=np.uint8)
    found = product(instruction, pixels, steps, lanes, read)
    of_pixels, of_weights = SIGNS[instruction]
    sums, data, weights = (read[1024 * i :][:1024].reshape(16, 64) for i in range(3))
    data = data[:pixels, : 4 * steps].view(of_pixels).astype(np.int64)
    weights = weights[:steps, : 4 * lanes].view(of_weights).astype(np.int64)
    by_channel = weights.reshape(steps, lanes, 4).swapaxes(1, 2).reshape(4 * steps, lanes)
    total = sums[:pixels, : 4 * lanes].copy().view(np.int32) + 2 * (data @ by_channel)
    expected = np.zeros((16, 16), np.int32)
    expected[:pixels, :lanes] = total.astype(np.int32)  # modulo 2³²
    np.testing.assert_array_equal(found[:1024].view(np.int32).reshape(16, 16), expected)


LEAST = 2.0**-126  # of normal float32 numbers


def flushed(values: Numbers) -> Numbers:
    """Rounded to float32, ties to even; zero for what is no normal number."""
    rounded = values.astype(np.float32).astype(np.float64)
    return np.where(np.abs(rounded) < LEAST, 0 * rounded, rounded)


@pytest.mark.parametrize("kind", ["usual", "cancelling", "tiny"])
def test_products_of_bf16(kind: str, rng: np.random.Generator) -> None:
    """Even and odd places are summed apart, a rounding for each product, and then together."""
    halves = ml_dtypes.bfloat16
    size = {"usual": 2.0**3, "cancelling": 2.0**8, "tiny": 1.0}[kind]
    data, weights = (rng.uniform(-size, size, (16, 32)).astype(halves) for _ in range(2))
    sums = rng.uniform(-1, 1, (16, 16)).astype(np.float32)
    if kind == "cancelling":  # where an order of its own would show
        weights[1::2] = -weights[::2]
    if kind == "tiny":  # denormal factors and sums, and products that are
        data = (data.astype(np.float32) * 2.0**-64).astype(halves)
        weights = (weights.astype(np.float32) * 2.0**-60).astype(halves)
        data[:, ::5] = np.uint16(3).view(halves)  # a denormal bfloat16
        sums *= np.float32(2.0**-127)
    read = np.zeros(READ, np.uint8)
    for place, array in enumerate((sums, data, weights)):
        read[1024 * place :][:1024] = array.reshape(-1).view(np.uint8)
    found = product("tdpbf16ps", 16, 16, 16, read)[:1024].view(np.float32).reshape(16, 16)

    a = flushed(data.astype(np.float64)).reshape(16, 16, 2)
    b = flushed(weights.astype(np.float64)).reshape(16, 16, 2)
    expected = flushed(sums.astype(np.float64))
    for _ in range(2):
        parts = np.zeros((2, 16, 16))
        for step in range(16):
            for i in range(2):  # float64 holds such a product and sum exactly
                parts[i] = flushed(parts[i] + a[:, step, None, i] * b[None, step, :, i])
        expected = flushed(expected + flushed(parts[0] + parts[1]))
    np.testing.assert_array_equal(found.astype(np.float64), expected)
    assert np.count_nonzero(expected) > 40


# What must not be done: the program ends as on a CPU that refuses it.
REFUSED = """
import ctypes, mmap, signal, sys
signal.signal(signal.SIGALRM, signal.SIG_DFL); signal.alarm(20)
unit = ctypes.CDLL(sys.argv[1])
assert unit.amx_emulate() == 0
memory = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
memory.write(bytes.fromhex(sys.argv[2]) + b"\\xc3")
start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
ctypes.CFUNCTYPE(None)(start)()
"""


@pytest.mark.skipif(HAS_TILES, reason="this CPU has AMX: nothing is emulated")
@pytest.mark.parametrize(
    "code",
    ["0f0b", "c4e27b49c0", "c4e2715ec2"],
    ids=["no instruction", "tilezero, not configured", "tdpbusd, not configured"],
)
def test_other_invalid_instructions_stay_invalid(code: str) -> None:
    command = [sys.executable, "-c", REFUSED, str(tile_unit().library), code]
    assert subprocess.run(command, check=False).returncode == -signal.SIGILL


def test_permission() -> None:
    assert cpu.permit_tiles() == HAS_TILES
