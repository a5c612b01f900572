"""The network as launches: which kernel, on what grid, and where each of its arguments lies.

A network of static shape needs nothing else: every tensor has a fixed place in one planned
workspace, and the host's half (host.c) captures the launches once, as one CUDA graph.
"""

from __future__ import annotations

from dataclasses import dataclass

import tvm
from tvm import tirx

from tvm_mobilenet.compiler import memory_plan
from tvm_mobilenet.compiler.cuda.lowering import DeviceKernel
from tvm_mobilenet.compiler.memory_plan import KernelCall, nbytes, plan_memory

ALIGNMENT = 256  # bytes: what cudaMalloc gives, and twice a 128-byte cache line
# as host.c numbers the buffers: the inputs follow, then the outputs
PARAMETERS, WORKSPACE, INPUTS = range(3)


@dataclass(frozen=True)
class HostPlace:
    """A buffer, as host.c numbers them, and a byte offset in it."""

    buffer: int
    offset: int = 0


@dataclass(frozen=True)
class Launch:
    """One call of a kernel; ``places`` are its tensors in the order of its TensorIR function."""

    kernel: str
    places: tuple[HostPlace, ...]


@dataclass(frozen=True)
class GpuProgram:
    """What a library for a GPU is made of.

    ``functions`` are the scheduled kernels by name; ``buffer_bytes`` the sizes of all buffers, of
    which so many are ``inputs``.
    """

    functions: dict[str, tirx.PrimFunc]
    steps: tuple[Launch, ...]
    parameters: bytes
    buffer_bytes: tuple[int, ...]
    calls: tuple[KernelCall, ...]
    inputs: int = 1

    @property
    def workspace_bytes(self) -> int:
        return self.buffer_bytes[WORKSPACE]


def make_program(mod: tvm.IRModule) -> GpuProgram:
    """From a Relax module whose ``main`` is kernel calls and reshapes only.

    Raises BadInput for one with an operator that has no kernel.
    """
    plan = plan_memory(mod, ALIGNMENT)
    inputs = map(memory_plan.input_buffer, range(len(plan.inputs)))
    outputs = map(memory_plan.output, range(len(plan.outputs)))
    numbers = {
        memory_plan.PARAMETERS: PARAMETERS,
        memory_plan.WORKSPACE: WORKSPACE,
        **{name: INPUTS + index for index, name in enumerate((*inputs, *outputs))},
    }
    steps = tuple(
        Launch(
            step.call.kernel,
            tuple(HostPlace(numbers[place.buffer], place.offset) for place in step.places),
        )
        for step in plan.steps
    )
    sizes = [plan.workspace_bytes, *map(nbytes, plan.inputs), *map(nbytes, plan.outputs)]
    return GpuProgram(
        {
            str(gvar.name_hint): func
            for gvar, func in mod.functions.items()
            if isinstance(func, tirx.PrimFunc)
        },
        steps,
        plan.parameters,
        tuple(max(size, 1) for size in [len(plan.parameters), *sizes]),
        plan.calls,
        len(plan.inputs),
    )


def plan_header(program: GpuProgram, kernels: dict[str, DeviceKernel], arch: str) -> str:
    """plan.h, what host.c knows of this network."""
    capability = int(arch.removeprefix("sm_"))
    lines = []
    for step in program.steps:
        kernel = kernels[step.kernel]
        places = [step.places[place] for place in kernel.parameters]
        given = ", ".join(f"{{{place.buffer}, {place.offset}}}" for place in places)
        grid, block = (", ".join(map(str, size)) for size in (kernel.grid, kernel.block))
        lines.append(f'{{"{kernel.name}", {{{grid}}}, {{{block}}}, {len(places)}, {{{given}}}}},')
    sizes = ", ".join(map(str, program.buffer_bytes))
    return "\n".join(
        [
            f"enum {{ ARCH_MAJOR = {capability // 10}, ARCH_MINOR = {capability % 10} }};",
            f"enum {{ BUFFERS = {len(program.buffer_bytes)}, LAUNCHES = {len(program.steps)} }};",
            f"enum {{ OUTPUTS = INPUTS + {program.inputs} }};",
            f"static const size_t buffer_bytes[BUFFERS] = {{{sizes}}};",
            "static const Launch launches[LAUNCHES] = {",
            *lines,
            "};",
            "",
        ]
    )
