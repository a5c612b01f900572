"""A GPU that is this CPU, so that a kernel's numbers can be checked where there is no GPU.

What is emulated is the CUDA C++ that nvcc gets, whole: threads are fibers, barriers and warp
instructions are theirs (cuda_emulation/kernels.h), and the driver that host.c talks to is one that
runs them (cuda_emulation/driver.cpp). Nothing of TVM's IR is taken on trust.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

LIBRARY = "libcuda_emulated.so"
FOLDER = Path(__file__).parent / "cuda_emulation"
ASSEMBLY = re.compile(
    r"(?:__asm__ __volatile__|\basm)\(\s*(\"(?:[^\"\\]|\\.)*\"\s*)+(?P<operands>:.*?)\);", re.S
)
OPERAND = re.compile(
    r"\"[=+]?[rf]\"\((?P<value>(?:[^()]|\((?:[^()]|\((?:[^()]|\([^()]*\))*\))*\))*)\)"
)


def emulated_driver(source: str, folder: Path) -> Path:
    """Compile a network's CUDA C++ into a driver library of its own in `folder`."""
    (folder / "emulated.cpp").write_text(on_cpu(source), encoding="utf-8")
    library = folder / LIBRARY
    subprocess.run(
        [
            "g++",
            "-std=c++17",
            "-O0",
            "-march=native",
            "-ffp-contract=off",
            "-w",
            "-shared",
            "-fPIC",
            f"-I{FOLDER}",
            "-o",
            str(library),
            str(folder / "emulated.cpp"),
            str(FOLDER / "driver.cpp"),
        ],
        check=True,
    )
    return library


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
