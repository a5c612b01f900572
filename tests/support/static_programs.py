"""Small networks through the pipeline, from PyTorch by way of ONNX, and run without a bundle."""

from __future__ import annotations

import numpy as np
import torch
import tvm
from numpy.typing import NDArray
from torch import nn

from schedules.cpu.sharing import num_cores
from tvm_mobilenet.compiler import pipeline
from tvm_mobilenet.compiler.cpu.backends import StaticBackend
from tvm_mobilenet.compiler.cpu.lowering import lower
from tvm_mobilenet.compiler.cpu.static_program import StaticProgram, make_static
from tvm_mobilenet.compiler.graph.legalize_cpu import CpuKernels, legalize
from tvm_mobilenet.compiler.options import CompileOptions
from tvm_mobilenet.hardware import target
from tvm_mobilenet.network import onnx_export, relax_import

Array = NDArray[np.float32]
NAN_BYTE = 0xFF  # four of them are a NaN


def relax_of(module: nn.Module, shape: tuple[int, ...]) -> tvm.IRModule:
    """The imported network, weights as ``seeded`` leaves them."""
    return relax_import.import_onnx(onnx_export.export(module.eval(), shape))


def folded(module: nn.Module, shape: tuple[int, ...]) -> tvm.IRModule:
    """The imported network after the pipeline's first phase, as the legalization gets it."""
    (_, passes), *_ = pipeline.graph_phases(
        legalize(CpuKernels(target.resolve("x86").vector_width))
    )
    return tvm.transform.Sequential(passes)(relax_of(module, shape))


def seeded(module: nn.Module) -> nn.Module:
    """The module with random parameters and batch-norm statistics, none of them zero or one."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, tensor in module.state_dict().items():
            if tensor.dtype == torch.float32:
                values = torch.rand(tensor.shape, generator=generator)
                tensor.copy_(values + 0.5 if "running_var" in name else values - 0.4)
    return module.eval()


def expected(module: nn.Module, x: Array) -> list[Array]:
    with torch.inference_mode():
        result = module(torch.from_numpy(x))
    return [one.numpy() for one in (result if isinstance(result, tuple) else (result,))]


def compiled(mod: tvm.IRModule, *, small_weights: bool = False) -> StaticProgram:
    """The network as the compiler has it before it makes code, which ``execute`` does."""
    spec = target.resolve("x86")
    backend = StaticBackend(CompileOptions(spec, small_weights=small_weights))
    lowered = pipeline.lower_graph(mod, backend.legalize())
    scheduled, _ = pipeline.schedule_kernels(lowered, backend.target)
    return make_static(scheduled, spec.vector_width, num_cores(backend.target))


def execute(program: StaticProgram, x: Array, shapes: list[tuple[int, ...]]) -> list[Array]:
    """``infer`` on ``x``: workspace and outputs start as NaN."""
    library = lower(program.module, target.resolve("x86").tvm_target())
    outputs = [tvm.runtime.tensor(np.full(shape, np.nan, np.float32)) for shape in shapes]
    library["infer"](*arguments(program, x), *outputs)
    return [output.numpy() for output in outputs]


def arguments(program: StaticProgram, x: Array) -> list[tvm.runtime.Tensor]:
    """Input, parameters and a poisoned workspace."""
    parameters = np.frombuffer(program.parameters or b"\0", np.uint8)
    workspace = np.full(max(program.workspace_bytes, 1), NAN_BYTE, np.uint8)
    return [tvm.runtime.tensor(array) for array in (x, parameters, workspace)]


def check(module: nn.Module, shape: tuple[int, ...], rng: np.random.Generator) -> StaticProgram:
    """Compile the module, run it on a random input and compare all outputs with PyTorch."""
    seeded(module)
    program = compiled(relax_of(module, shape))
    x = rng.standard_normal(shape, dtype=np.float32)
    wanted = expected(module, x)
    found = execute(program, x, [array.shape for array in wanted])
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)
    return program
