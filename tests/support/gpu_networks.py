"""Networks compiled for GPUs, and run on the emulated one: what the tests of CUDA share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import tvm
from numpy.typing import NDArray
from support import cuda_emulator, network_kernels
from torch.nn import functional
from tvm.target import Target

from schedules.cuda.fusion import Pair
from schedules.cuda.tiles import tiles_of
from schedules.cuda.workload import Convolution
from tvm_mobilenet import bundle, models
from tvm_mobilenet.compiler import pipeline
from tvm_mobilenet.compiler.backend import backend_of
from tvm_mobilenet.compiler.cuda import library, nvcc, program
from tvm_mobilenet.compiler.cuda.backend import schedule_the_rest
from tvm_mobilenet.compiler.cuda.lowering import lower
from tvm_mobilenet.compiler.graph.legalize_gpu import Fusion, legalize_gpu
from tvm_mobilenet.compiler.options import CompileOptions
from tvm_mobilenet.compiler.precision import TOLERANCES, Precision
from tvm_mobilenet.hardware import gpu, target
from tvm_mobilenet.kernels.gpu.image import TILE
from tvm_mobilenet.models import MobileNetConfig, stages
from tvm_mobilenet.numerics import relative_error
from tvm_mobilenet.runtime import session

Array = NDArray[np.float32]
KERNEL_TARGET = "cuda-sm_86"  # of ``kernel``
Pairs = Callable[[Sequence[Convolution]], list[Pair]]
Scheduler = Callable[[tvm.IRModule, Target], tvm.IRModule]


@dataclass(frozen=True)
class Network:
    """A Relax module with what it computes, by PyTorch in float64."""

    module: tvm.IRModule
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    reference: Callable[[Array], NDArray[np.float64]]
    model: dict[str, Any] = field(default_factory=dict)


def mobilenet(alpha: float, resolution: int, batch: int = 1) -> Network:
    """One of the MobileNets, batch norm folded, random weights."""
    config = models.config_from("mobilenet_v1", alpha, resolution)
    module, weights = relax_module(config, batch)

    def reference(x: Array) -> NDArray[np.float64]:
        y = torch.from_numpy(x).double()
        for layer, given in zip(stages.layers(config), weights, strict=True):
            weight, bias = (torch.from_numpy(array).double() for array in given)
            if layer.op == "fully_connected":
                return (y.mean((2, 3)) @ weight + bias).numpy()
            around = layer.kernel // 2
            y = functional.relu(
                functional.conv2d(y, weight, bias, layer.stride, around, groups=layer.groups)
            )
        raise AssertionError("no classifier")

    return Network(module, (batch, *config.input_shape), (batch, 1000), reference, asdict(config))


@cache
def relax_module(
    config: MobileNetConfig, batch: int
) -> tuple[tvm.IRModule, list[tuple[Array, Array]]]:
    return network_kernels.relax_module(config, batch)


def by_default(mod: tvm.IRModule, kind: Target) -> tvm.IRModule:
    return pipeline.schedule_kernels(mod, kind)[0]


def alone(_: Sequence[Convolution]) -> list[Pair]:
    return []


def separable(chain: Sequence[Convolution]) -> list[Pair]:
    """Every depthwise convolution with the 1x1 convolution after it."""
    return [Pair(first) for first, layer in enumerate(chain[:-1]) if layer.depthwise]


def pointwise_depthwise(chain: Sequence[Convolution]) -> list[Pair]:
    """Every 1x1 convolution with the depthwise one after it, by the smallest tiles but one."""
    return [
        Pair(first - 1, tiles_of(layer, TILE)[:2][-1])
        for first, layer in enumerate(chain)
        if first and layer.depthwise
    ]


@cache
def chain() -> list[Convolution]:
    """What the legalization of 1.0-224, one image, asks to be paired."""
    asked: list[list[Convolution]] = []

    def look(chain: Sequence[Convolution]) -> list[Pair]:
        asked.append(list(chain))
        return []

    pipeline.lower_graph(mobilenet(1.0, 224).module, unpooled("fp16", look))
    (chain,) = asked
    return chain


def unpooled(precision: str, pairs: Pairs) -> tvm.transform.Pass:
    return legalize_gpu(precision, Fusion(pairs, lambda *_: False))


def planned(
    network: Network,
    name: str,
    precision: str,
    fuse: Pairs | None = None,
    schedule: Scheduler = by_default,
    pooled: Callable[[int, int, int, int], bool] = lambda *_: False,
) -> tuple[program.GpuProgram, Target]:
    """The network's program for a target; ``fuse`` and ``pooled`` overrule the models."""
    spec = target.resolve(name)
    kind = spec.tvm_target()
    legalize = backend_of(CompileOptions(spec, cast(Precision, precision))).legalize()
    if fuse is not None:
        legalize = legalize_gpu(precision, Fusion(fuse, pooled))
    lowered = pipeline.lower_graph(network.module, legalize)
    return program.make_program(schedule(lowered, kind)), kind


def kernel(precision: str, name: str) -> pipeline.Kernel:
    """A kernel of the smallest network, the first whose name begins so."""
    spec = target.resolve(KERNEL_TARGET)
    kernels = pipeline.kernels_of(
        mobilenet(0.25, 32).module, CompileOptions(spec, cast(Precision, precision))
    )
    return next(one for one in kernels if one.name.startswith(name))


def emulated(plan: program.GpuProgram, kind: Target, folder: Path) -> library.GpuCode:
    """The code of a program without nvcc, and its emulated driver in ``folder``."""
    source, kernels = lower(plan.functions, kind)
    cuda_emulator.emulated_driver(source, folder)
    nothing = nvcc.Compiled(b"", b"", "", {})
    return library.GpuCode(plan, source, kernels, str(kind.attrs["arch"]), nothing)


def write_bundle(
    code: library.GpuCode, network: Network, folder: Path, precision: str, x: Array
) -> Path:
    """A bundle of the code, with ``x`` as its sample."""
    path, built = folder / "bundle", folder / "model.so"
    library.link(code, built, "test")
    expected = network.reference(x).astype(np.float32)
    bundle.write(
        path,
        manifest_of(code, network, precision),
        library=built,
        parameters=np.frombuffer(code.program.parameters, np.uint8),
        sample_inputs=[x],
        expected_outputs=(expected,),
        tolerance=TOLERANCES[precision],
        licenses="none",
    )
    return path


def manifest_of(code: library.GpuCode, network: Network, precision: str) -> bundle.Manifest:
    layout = "NCHW"[: len(network.output_shape)]
    return bundle.Manifest(
        target=bundle.Target("test", "x86_64-linux-gnu", code.arch),
        cpu_features=(),
        tvm_version=tvm.__version__,
        model=network.model,
        inputs=(bundle.TensorInfo("input", network.input_shape, "float32", "NCHW"),),
        outputs=(bundle.TensorInfo("output", network.output_shape, "float32", layout),),
        precision=precision,
        executor="cuda",
        workspace_bytes=code.program.workspace_bytes,
        layers=tuple(
            bundle.Layer(step.kernel, step.kernel, tuned=False) for step in code.program.steps
        ),
    )


def outputs_of(
    module: tvm.IRModule,
    inputs: Sequence[NDArray[Any]],
    right: Sequence[NDArray[Any]],
    folder: Path,
    monkeypatch: Any,
) -> tuple[NDArray[Any], ...]:
    """What a Relax module gives on the emulated GPU; ``right`` says of what types and shapes."""
    spec = target.resolve("cuda-sm_86")
    kind = spec.tvm_target()
    lowered = pipeline.lower_graph(module, backend_of(CompileOptions(spec)).legalize())
    code = emulated(program.make_program(schedule_the_rest(lowered, kind)), kind, folder)
    library.link(code, folder / "model.so", "test")
    path = folder / "bundle"
    bundle.write(
        path,
        bundle.Manifest(
            target=bundle.Target("test", "x86_64-linux-gnu", code.arch),
            cpu_features=(),
            tvm_version=tvm.__version__,
            model={},
            inputs=_tensors("input", inputs),
            outputs=_tensors("output", right),
            precision="fp32",
            executor="cuda",
            workspace_bytes=1,
        ),
        library=folder / "model.so",
        parameters=np.frombuffer(code.program.parameters or b"\0", np.uint8),
        sample_inputs=inputs,
        expected_outputs=right,
        tolerance=1e-6,
        licenses="none",
    )
    driver = folder / cuda_emulator.LIBRARY
    with emulated_gpu(monkeypatch, driver), session.load(path) as loaded:
        found = loaded.run(*inputs)
    return found if isinstance(found, tuple) else (found,)


def _tensors(name: str, arrays: Sequence[NDArray[Any]]) -> tuple[bundle.TensorInfo, ...]:
    return tuple(
        bundle.TensorInfo(f"{name}{i}", one.shape, str(one.dtype), "NCHW"[: one.ndim])
        for i, one in enumerate(arrays)
    )


@contextmanager
def emulated_gpu(monkeypatch: Any, driver: Path, **settings: str) -> Iterator[None]:
    """Sessions use the emulated driver; ``settings`` are its environment, as sm="80"."""
    with monkeypatch.context() as patch:
        patch.setattr(gpu, "DRIVER", str(driver))
        for name, value in settings.items():
            patch.setenv(f"EMULATED_GPU_{name.upper()}", value)
        yield


def run_emulated(
    network: Network,
    plan: program.GpuProgram,
    kind: Target,
    precision: str,
    folder: Path,
    rng: np.random.Generator,
    monkeypatch: Any,
) -> None:
    """Run the network on the emulated GPU, its threads in either order, and compare."""
    x = rng.standard_normal(network.input_shape, dtype=np.float32)
    code = emulated(plan, kind, folder)
    path = write_bundle(code, network, folder, precision, x)
    expected = network.reference(x)
    for order in ("forward", "backward"):
        driver = folder / cuda_emulator.LIBRARY
        with emulated_gpu(monkeypatch, driver, order=order), session.load(path) as loaded:
            found = loaded.run(x)
        assert isinstance(found, np.ndarray)
        assert relative_error(found, expected) <= TOLERANCES[precision], order
