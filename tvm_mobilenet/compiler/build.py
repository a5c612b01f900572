"""Network + target + records → native code: the compiled program, and the shared library of it."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tvm_mobilenet.compiler.precision import check as check_precision
from tvm_mobilenet.errors import BadInput, RunFailed, last_line
from tvm_mobilenet.hardware import cpu
from tvm_mobilenet.hardware.target import TargetSpec
from tvm_mobilenet.hardware.toolchain import package_of

if TYPE_CHECKING:
    import tvm

    from tvm_mobilenet.compiler.cpu.static_program import StaticProgram
    from tvm_mobilenet.compiler.cpu.vm_program import VmProgram
    from tvm_mobilenet.compiler.cuda.library import GpuCode
    from tvm_mobilenet.compiler.cuda.program import GpuProgram
    from tvm_mobilenet.compiler.pipeline import ScheduleSource
    from tvm_mobilenet.database.lines import RecordInfo

EXECUTORS = ("static", "vm")  # of networks on CPUs


@dataclass(frozen=True)
class Compiled:
    """`tuned` has the record of each kernel that was scheduled from one."""

    module: tvm.runtime.Module | tvm.runtime.Executable | GpuCode
    program: StaticProgram | VmProgram | GpuProgram
    tuned: dict[str, RecordInfo]


def build_network(
    module: tvm.IRModule,
    spec: TargetSpec,
    records: ScheduleSource | None = None,
    dump_ir: Path | None = None,
    strassen: bool = True,
    precision: str = "fp32",
    executor: str = "static",
) -> Compiled:
    """Compile the importer's Relax `module` for `spec`; its phases are written to `dump_ir`.

    Without `strassen` every 1x1 convolution is computed directly, as on a GPU in any case.
    `precision` is fp32, or on a GPU tf32 or fp16: of activations and weights, or only of what is
    multiplied; sums are float32 in any case. `executor` is static, or on a CPU vm. Raises BadInput
    for a precision or an executor that `spec` does not have.
    """
    check_precision(precision, spec)
    check_executor(executor, spec)
    if spec.gpu is not None:
        from tvm_mobilenet.compiler.cuda.build import compile_for_gpu
        from tvm_mobilenet.compiler.pipeline import IrDump

        code, tuned = compile_for_gpu(module, spec, precision, records, IrDump(dump_ir))
        return Compiled(code, code.program, tuned)
    from tvm_mobilenet.compiler.cpu.lowering import lower
    from tvm_mobilenet.compiler.pipeline import IrDump, compile_graph, schedule_graph

    target = spec.tvm_target()
    dump = IrDump(dump_ir)
    if executor == "vm":
        from tvm_mobilenet.compiler.cpu.vm_program import build_vm

        graph, tuned = schedule_graph(module, target, spec.vector_width, records, dump, strassen)
        return Compiled(*build_vm(graph, target), tuned)
    program, tuned = compile_graph(module, target, spec.vector_width, records, dump, strassen)
    return Compiled(lower(program.module, target), program, tuned)


def check_executor(executor: str, spec: TargetSpec) -> None:
    """Raise BadInput where networks for `spec` are not run like that."""
    if executor not in EXECUTORS:
        raise BadInput(f"executor: wanted {' or '.join(EXECUTORS)}, came {executor!r}")
    if spec.gpu is not None and executor != "static":
        raise BadInput(
            f"target {spec.name}: on a GPU a network is one CUDA graph, not a program for the "
            "virtual machine; leave out --executor"
        )


def link(
    module: tvm.runtime.Module | tvm.runtime.Executable | GpuCode, library: Path, spec: TargetSpec
) -> None:
    """Write the shared library. Raises BadInput without a linker, RunFailed where linking fails."""
    from tvm_mobilenet.compiler.cuda import library as gpu_library

    if isinstance(module, gpu_library.GpuCode):
        gpu_library.link(module, library, spec.name, host_compiler(spec))
        return

    from tvm.support import cc

    compiler = spec.cross_compiler or cc.get_cc()
    if compiler is None or shutil.which(compiler) is None:
        package = package_of(compiler or "cc")
        advice = f"; apt-get install {package}" if package else ""
        raise BadInput(
            f"target {spec.name}: wanted the linker {compiler or 'cc'}, it is not installed{advice}"
        )
    try:
        module.export_library(str(library), fcompile=cc.cross_compiler(compiler))
    except RuntimeError as error:
        raise RunFailed(
            f"target {spec.name}: {compiler} cannot link the library: {last_line(error)}"
        ) from error


def host_compiler(spec: TargetSpec) -> str | None:
    """What compiles a GPU library's host half: this machine's own where it is of the same kind."""
    same = cpu.architecture_of(spec.triple) == cpu.host_architecture()
    return None if same else spec.cross_compiler
