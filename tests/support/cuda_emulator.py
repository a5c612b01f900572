"""A GPU that is this CPU, so that a kernel's numbers can be checked where there is no GPU.

What is emulated is the CUDA C++ that nvcc gets, whole: threads are fibers, barriers and warp
instructions are theirs (cuda_emulation/kernels.h), and the driver that host.c talks to is one that
runs them (cuda_emulation/driver.cpp). Nothing of TVM's IR is taken on trust.

``emulated_driver`` is a driver for one network. ``machine`` is a whole machine: a driver that runs
whatever is loaded, and the nvcc that makes it.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from support import shared
from support.shared import made_once

from tvm_mobilenet.compiler.cuda import nvcc
from tvm_mobilenet.hardware import gpu

LIBRARY = "libcuda_emulated.so"
MAGIC = b"EMULATED"  # what driver.cpp knows an image by
FOLDER = Path(__file__).parent / "cuda_emulation"
FLAGS = ("-std=c++17", "-O0", "-march=native", "-ffp-contract=off", "-w", "-fPIC")
SHARED = ("-shared",)
ARCHITECTURES = ("sm_75", "sm_80", "sm_86", "sm_87", "sm_89", "sm_90")
STAND_IN = """#!/bin/sh
case "$1" in
  --version) echo "Cuda compilation tools, release 13.0, V13.0.0" ;;
  --list-gpu-code) echo {architectures} ;;
  *) exec {compiler} "$@" ;;
esac
"""
ASSEMBLY = re.compile(
    r"(?:__asm__ __volatile__|\basm)\(\s*(\"(?:[^\"\\]|\\.)*\"\s*)+(?P<operands>:.*?)\);", re.S
)
OPERAND = re.compile(
    r"\"[=+]?[rf]\"\((?P<value>(?:[^()]|\((?:[^()]|\((?:[^()]|\([^()]*\))*\))*\))*)\)"
)


def emulated_driver(source: str, folder: Path) -> Path:
    """A network's CUDA C++ as a driver library of its own in ``folder``."""
    parts = [compiled_once("fibers"), compiled_once("driver")]
    made = kernels_once(source, "driver", *SHARED, *parts)
    return Path(shutil.copy(made, folder / LIBRARY))


@dataclass(frozen=True)
class Machine:
    """Folders: of the driver, libcuda.so.1, for LD_LIBRARY_PATH; and of nvcc, for PATH."""

    driver: Path
    nvcc: Path


def machine(folder: Path) -> Machine:
    """Make them; nvcc in ``folder``, and one driver for all that run together."""
    place = shared.folder() / "driver"
    place.mkdir(exist_ok=True)
    made_once(f"{place.name}/{gpu.DRIVER}", link_driver)
    made = Machine(place, folder / "nvcc")
    made.nvcc.mkdir()
    program = made.nvcc / nvcc.NVCC
    stand_in = Path(__file__).with_name("emulated_nvcc.py")
    compiler = f'"{sys.executable}" "{stand_in}" "{made.nvcc}"'
    program.write_text(STAND_IN.format(architectures=" ".join(ARCHITECTURES), compiler=compiler))
    program.chmod(0o755)
    return made


def link_driver(made: Path) -> None:
    # it stays loaded, and what is left in its memory with it
    compile_cpp([*SHARED, "-Wl,-z,nodelete", "-o", made, compiled_once("driver")])


def module_image(source: str, compiled: Path) -> bytes:
    """A module for ``machine``'s driver, as cuModuleLoadData takes it.

    ``compiled`` is its nvcc's folder, where what a source became is kept.
    """
    library = kept_library(source, compiled)
    if not library.exists():
        fibers = compiled_once("fibers")
        made = kernels_once(source, "module", *SHARED, "-fno-gnu-unique", fibers)
        draft = Path(shutil.copy(made, library.with_suffix(f".{os.getpid()}")))
        draft.replace(library)
    code = library.read_bytes()
    return MAGIC + len(code).to_bytes(8, "little") + code


def kept_library(source: str, compiled: Path) -> Path:
    """Where that is kept."""
    return compiled / f"{digest(source)}.so"


def kernels_once(source: str, kind: str, *arguments: str | Path) -> Path:
    """The kernels of a CUDA C++ source, compiled with these arguments, which make a ``kind``."""

    def make(made: Path) -> None:
        kernels = made.with_suffix(".cpp")
        kernels.write_text(on_cpu(source), encoding="utf-8")
        compile_cpp(["-o", made, kernels, *arguments])

    return made_once(f"{kind}-{digest(source)}.so", make)


def digest(source: str) -> str:
    return hashlib.sha256(source.encode()).hexdigest()[:16]


def compiled_once(name: str) -> Path:
    """The object file of a source in FOLDER."""
    return made_once(
        f"{name}.o", lambda made: compile_cpp(["-c", "-o", made, FOLDER / f"{name}.cpp"])
    )


def compile_cpp(arguments: Sequence[str | Path]) -> None:
    """By the host's compiler, as kernels for the emulated GPU are."""
    subprocess.run(["g++", *FLAGS, f"-I{FOLDER}", *map(str, arguments)], check=True)


def on_cpu(source: str) -> str:
    """The kernels of a CUDA C++ source as C++ over kernels.h."""
    # what TVM's own header defines kernels.h does; after it come helpers and kernels
    kernels = source[source.rindex("#endif") + len("#endif") :]
    kernels = re.sub(r"unsigned int addr = __cvta_generic_to_shared\(", "auto addr = (", kernels)
    kernels = re.sub(r"__shared__ (alignas\(\d+\))", r"\1 __shared__", kernels)
    kernels = ASSEMBLY.sub(instruction, kernels)
    counts = {
        name: parameters.count(",") + 1
        for name, parameters in re.findall(r"(\w+_kernel)\(([^)]*)\);", kernels)
    }
    table = "\n".join(f"  if (f == (void *){name}) return {n};" for name, n in counts.items())
    return (
        '#include "kernels.h"\n#define uint unsigned\n'
        + kernels
        + f'\nextern "C" int emulated_argument_count(void *f) {{\n{table}\n  return -1;\n}}\n'
    )


def instruction(found: re.Match[str]) -> str:
    """The call that stands for one piece of inline PTX."""
    operands = [one["value"] for one in OPERAND.finditer(found["operands"])]
    if "ldmatrix.sync.aligned.m8n8.x4.shared.b16" in found[0]:
        return f"emulated_ldmatrix(&({operands[0]}), addr);"
    if "cvt.rna.tf32.f32" in found[0]:
        return f"{operands[0]} = emulated_cvt_rna_tf32({operands[1]});"
    if "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32" in found[0]:
        d, a, b = (operands[place] for place in (0, 4, 8))
        return f"emulated_mma_tf32(&({d}), &({a}), &({b}));"
    shape = re.search(r"mma\.sync\.aligned\.m16n8k(16|8)\.row\.col\.f32\.f16\.f16\.f32", found[0])
    assert shape is not None, f"no emulation of {found[0]}"
    # four of D, then A, then B, then the four of D again, which the sum is added to
    a = {"16": 4, "8": 2}[shape[1]]
    return f"emulated_mma<{shape[1]}>(&({operands[0]}), &({operands[4]}), &({operands[4 + a]}));"
