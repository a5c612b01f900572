"""Our networks beside PyTorch's on an NVIDIA GPU, side by side in one run: results JSON.

Two steps, because a GPU machine may have neither TVM nor a package registry:

    python benchmarks/cuda.py build --target cuda-sm_90 -o build/cuda.tar     # here; needs nvcc
    python benchmarks/cuda.py run build/cuda.tar --json results.json          # there

``run`` needs this repository, numpy, the NVIDIA driver and, for the peers, PyTorch with CUDA. Each
network is verified first. Then the engines take turns, round by round: ``tvm`` is ours, ``torch``
eager PyTorch with cuDNN, channels last, in a CUDA graph, and ``torch-compile`` its max-autotune
mode, which makes CUDA graphs itself. An engine's plain row is end to end, from an array on the host
to one on the host; the row named ``(device)`` is the kernels alone, by the GPU's clock, back to
back.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from tvm_mobilenet import models
from tvm_mobilenet.errors import RunFailed, TvmMobilenetError, first_line
from tvm_mobilenet.models.variants import ALPHAS, RESOLUTIONS
from tvm_mobilenet.numerics import relative_error
from tvm_mobilenet.provenance import describe_machine, now, this_command
from tvm_mobilenet.results import schema, statistics
from tvm_mobilenet.runtime import session
from tvm_mobilenet.runtime.cuda import CudaExecutor

ROUNDS = statistics.BLOCKS
END_TO_END_RUNS, DEVICE_RUNS = 20, 40  # in a round
WARM_UP_RUNS = 50
Array = Any


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    steps = parser.add_subparsers(required=True)
    build = steps.add_parser("build")
    build.add_argument("--target", default="cuda-sm_90")
    build.add_argument("--alphas", type=floats, default=ALPHAS)
    build.add_argument("--resolutions", type=ints, default=RESOLUTIONS)
    build.add_argument("--batches", type=ints, default=(1, 64))
    build.add_argument("--precisions", type=lambda text: text.split(","), default=["fp32", "fp16"])
    build.add_argument("-o", "--output", type=Path, default=Path("build/cuda.tar"))
    build.set_defaults(step=build_bundles)
    run = steps.add_parser("run")
    run.add_argument("bundles", type=Path)
    run.add_argument("--json", type=Path, default=Path("cuda-results.json"))
    run.add_argument("--peers", type=lambda text: text.split(","), default=list(PEERS))
    run.add_argument("--rounds", type=int, default=ROUNDS)
    run.add_argument("--launches", action="store_true", help="print what each of ours takes alone")
    run.set_defaults(step=run_bundles)
    args = parser.parse_args()
    try:
        return int(args.step(args))
    except TvmMobilenetError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_status


def floats(text: str) -> tuple[float, ...]:
    return tuple(map(float, text.split(",")))


def ints(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split(",")))


def build_bundles(args: argparse.Namespace) -> int:
    """All bundles in one .tar; equal weights, which resolutions share, are in it once."""
    from tvm_mobilenet.building.bundles import build_bundle
    from tvm_mobilenet.compiler.options import CompileOptions
    from tvm_mobilenet.hardware import target
    from tvm_mobilenet.network import source
    from tvm_mobilenet.network.torch_process import TorchProcess

    spec = target.resolve(args.target)
    pytorch = TorchProcess()
    args.output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        for alpha, size, batch, precision in itertools.product(
            args.alphas, args.resolutions, args.batches, args.precisions
        ):
            # batches of many images for the largest network alone
            if batch > 1 and (alpha, size) != (max(args.alphas), max(args.resolutions)):
                continue
            config = models.config_from("mobilenet_v1", alpha, size)
            name = f"{alpha:g}-{size}-b{batch}-{precision}"
            network = source.from_config(config, batch, pytorch)
            build_bundle(network, CompileOptions(spec, precision), Path(folder, name))
            print(name, flush=True)
        link_equal_files(Path(folder))
        with tarfile.open(args.output, "w") as archive:
            archive.add(folder, arcname=".")
    print(f"{args.output}: {args.output.stat().st_size / 1e6:.1f} MB")
    return 0


def link_equal_files(folder: Path) -> None:
    first: dict[bytes, Path] = {}
    for file in sorted(folder.rglob("parameters.bin")):
        same = first.setdefault(file.read_bytes(), file)
        if same is not file:
            file.unlink()
            file.hardlink_to(same)


class Engine(Protocol):
    """One network on the GPU, ready; times in ms."""

    name: str
    version: str

    def infer(self, x: Array) -> Array: ...

    def device_times(self, runs: int) -> list[float]: ...


class Ours:
    name = "tvm"

    def __init__(self, loaded: session.Session) -> None:
        self.session = loaded
        self.version = loaded.manifest.tvm_version

    def infer(self, x: Array) -> Array:
        np.copyto(self.session.input, x)
        self.session.infer_in_place()
        return self.session.output

    def device_times(self, runs: int) -> list[float]:
        executor = self.session.executor
        assert isinstance(executor, CudaExecutor)
        return [float(ms) for ms in executor.kernel_milliseconds(runs)]


class Torch:
    """Eager PyTorch in a CUDA graph of our own, over pinned memory on the host as ours."""

    name = "torch"

    def __init__(self, loaded: session.Session) -> None:
        import torch

        self.torch: Any = torch
        self.version = str(torch.__version__)
        manifest = loaded.manifest
        tf32 = manifest.precision == "tf32"
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32
        torch.backends.cudnn.benchmark = True
        dtype = torch.float16 if manifest.precision == "fp16" else torch.float32
        network: Any = models.build(models.from_dict(dict(manifest.model))).eval()
        self.network = network.to("cuda", dtype).to(memory_format=torch.channels_last)
        shape = manifest.inputs[0].shape
        self.pinned = torch.empty(shape, pin_memory=True)
        self.given = torch.empty(shape, device="cuda")
        self.result = torch.empty(manifest.outputs[0].shape, pin_memory=True)
        self.dtype = dtype
        self.prepare()

    def forward(self) -> Any:
        x = self.given.to(self.dtype).contiguous(memory_format=self.torch.channels_last)
        return self.network(x).float()

    def prepare(self) -> None:
        stream: Any = self.torch.cuda.Stream()
        with self.torch.inference_mode(), self.torch.cuda.stream(stream):
            for _ in range(3):
                self.forward()
            stream.synchronize()
            self.graph = self.torch.cuda.CUDAGraph()
            with self.torch.cuda.graph(self.graph, stream=stream):
                self.output = self.forward()

    def replay(self) -> None:
        self.graph.replay()

    def infer(self, x: Array) -> Array:
        self.pinned.numpy()[:] = x
        self.given.copy_(self.pinned, non_blocking=True)
        self.replay()
        self.result.copy_(self.output, non_blocking=True)
        self.torch.cuda.synchronize()
        return self.result.numpy()

    def device_times(self, runs: int) -> list[float]:
        events = [self.torch.cuda.Event(enable_timing=True) for _ in range(runs + 1)]
        for event in events:
            self.replay()
            event.record()
        self.torch.cuda.synchronize()
        return [float(a.elapsed_time(b)) for a, b in itertools.pairwise(events)]


class TorchCompile(Torch):
    name = "torch-compile"

    def prepare(self) -> None:
        self.compiled = self.torch.compile(self.forward, mode="max-autotune")
        for _ in range(5):
            self.replay()

    def replay(self) -> None:
        with self.torch.inference_mode():
            self.output = self.compiled()


PEERS: dict[str, Callable[[session.Session], Engine]] = {
    "torch": Torch,
    "torch-compile": TorchCompile,
}


def run_bundles(args: argparse.Namespace) -> int:
    rows: list[schema.ResultRow] = []
    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(args.bundles) as archive:
            archive.extractall(folder, filter="data")
        for path in sorted(Path(folder).iterdir()):
            with session.load(path) as loaded:
                rows += side_by_side(loaded, args.peers, args.rounds)
                if args.launches:
                    print_launches(path.name, loaded)
            print_network(path.name, rows)
            results = schema.Results(describe_machine(), tuple(rows), this_command(), now())
            schema.dump(results, args.json)  # after every network: a lease may end
    if not any(row.status == "ok" for row in rows):
        raise RunFailed(f"{args.bundles}: nothing was measured")
    return 0


def side_by_side(
    loaded: session.Session, peers: list[str], rounds: int
) -> Iterator[schema.ResultRow]:
    """Rows of every engine on one network, verified, measured in turns."""
    x, (expected,) = loaded.bundle.sample_input(), loaded.bundle.expected_outputs()
    ready: list[tuple[Engine, float]] = []
    for make in (Ours, *(PEERS[name] for name in peers)):
        try:
            engine = make(loaded)
        except (ImportError, RuntimeError, AssertionError) as error:
            yield row(loaded, make.name, None, None, [], first_line(error))  # type: ignore[attr-defined]
            continue
        found = np.array(engine.infer(x))
        difference = relative_error(found, expected)
        if not difference <= loaded.bundle.tolerance():
            reason = f"differs from the reference by {difference:.1e}"
            yield row(loaded, engine.name, engine.version, None, [], reason)
            continue
        ready.append((engine, float(np.abs(found - expected).max())))
    samples: dict[str, list[float]] = {}
    for engine, _ in ready:
        for _ in range(WARM_UP_RUNS):
            engine.infer(x)
    for _ in range(rounds):
        for engine, _ in ready:
            samples.setdefault(engine.name, []).extend(end_to_end(engine, x))
            device = engine.device_times(DEVICE_RUNS)
            samples.setdefault(f"{engine.name} (device)", []).extend(device)
    for engine, largest in ready:
        for name in (engine.name, f"{engine.name} (device)"):
            yield row(loaded, name, engine.version, largest, samples[name], None)


def end_to_end(engine: Engine, x: Array) -> Iterator[float]:
    for _ in range(END_TO_END_RUNS):
        start = time.perf_counter()
        engine.infer(x)
        yield 1e3 * (time.perf_counter() - start)


def row(
    loaded: session.Session,
    engine: str,
    version: str | None,
    difference: float | None,
    samples: list[float],
    reason: str | None,
) -> schema.ResultRow:
    manifest = loaded.manifest
    batch, _, resolution, _ = manifest.inputs[0].shape
    return schema.ResultRow(
        model=models.name_of(models.from_dict(dict(manifest.model))),
        alpha=float(manifest.model["alpha"]),
        resolution=resolution,
        batch=batch,
        precision=manifest.precision,  # type: ignore[arg-type]
        engine=engine,
        engine_version=version,
        target=manifest.target.name,
        threads=1,
        how="native",
        tuned=engine.startswith("tvm") and any(layer.tuned for layer in manifest.layers),
        latency_ms=statistics.summarize(samples) if samples else None,
        samples_ms=tuple(samples),
        load_ms=None,
        first_run_ms=None,
        peak_rss_mb=None,
        artifact_mb=None,
        max_abs_diff=difference,
        reference="pytorch",
        status="not run" if reason else "ok",
        reason=reason,
    )


def print_network(name: str, rows: list[schema.ResultRow]) -> None:
    key = dataclasses.astuple(rows[-1])[:5]
    for one in rows:
        if dataclasses.astuple(one)[:5] == key:
            us = "not run" if one.latency_ms is None else f"{1e3 * one.latency_ms.p50:9.1f} µs"
            print(f"{name:24s} {one.engine:24s} {us}  {one.reason or ''}", flush=True)


def print_launches(name: str, loaded: session.Session) -> None:
    """Of every launch by itself, once: with a pause around it that the graph does not have."""
    layers, executor = loaded.manifest.layers, loaded.executor
    assert isinstance(executor, CudaExecutor)
    for layer, ms in zip(layers, executor.launch_milliseconds(len(layers)), strict=True):
        print(f"{name:24s} {layer.workload:40s} {1e3 * ms:9.1f} µs alone")


if __name__ == "__main__":
    sys.exit(main())
