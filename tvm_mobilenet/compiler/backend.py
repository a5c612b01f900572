"""What differs from one kind of target to another: the legalization, and how code is made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeAlias

import tvm
from tvm.target import Target

from tvm_mobilenet.compiler.dump import IrDump
from tvm_mobilenet.compiler.memory_plan import KernelCall
from tvm_mobilenet.compiler.options import CompileOptions

if TYPE_CHECKING:
    from tvm_mobilenet.compiler.cpu.native_code import NativeCode
    from tvm_mobilenet.compiler.cuda.library import GpuCode

    Code: TypeAlias = NativeCode | tvm.runtime.Executable | GpuCode


class Program(Protocol):
    """What a bundle tells of a compiled network."""

    @property
    def calls(self) -> tuple[KernelCall, ...]: ...  # in order of execution
    @property
    def parameters(self) -> bytes: ...
    @property
    def workspace_bytes(self) -> int: ...


@dataclass(frozen=True)
class Finished:
    """Native code, not linked yet, and the program that it is of."""

    code: Code
    program: Program


class Backend(Protocol):
    """One way to compile: CPUs by a static program or a virtual machine's, GPUs by CUDA."""

    @property
    def target(self) -> Target: ...

    def legalize(self) -> tvm.transform.Pass:
        """The pass that makes layers into calls of our kernels."""

    def finish(self, mod: tvm.IRModule, dump: IrDump) -> Finished:
        """Calls of scheduled kernels → native code. Raises BadInput for what has no kernel."""


def backend_of(options: CompileOptions) -> Backend:
    """The backend of a target; raises BadInput where TVM does not know the target."""
    if options.spec.gpu is not None:
        from tvm_mobilenet.compiler.cuda.backend import CudaBackend

        return CudaBackend(options)
    from tvm_mobilenet.compiler.cpu.backends import StaticBackend, VmBackend

    return VmBackend(options) if options.executor == "vm" else StaticBackend(options)
