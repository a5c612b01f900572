"""A target is one TOML file: its facts reach the schedules, and a missing one is one line."""

from __future__ import annotations

import ast
import dataclasses
import functools
import pickle
import re
from pathlib import Path

import pytest
from support import gpu_networks, network_kernels
from tvm.target import Target

from schedules.arm_cpu import cores
from schedules.cuda import device
from tvm_mobilenet import compile as compile_stage
from tvm_mobilenet import tune
from tvm_mobilenet.compiler import pipeline
from tvm_mobilenet.compiler.cpu.lowering import lower
from tvm_mobilenet.compiler.cuda.lowering import lower as lower_for_gpu
from tvm_mobilenet.compiler.options import CompileOptions
from tvm_mobilenet.database import meta
from tvm_mobilenet.errors import BadInput
from tvm_mobilenet.hardware import target
from tvm_mobilenet.hardware.core import SCHEDULED, Core
from tvm_mobilenet.hardware.target import GPU_FACTS, Gpu, TargetSpec
from tvm_mobilenet.scheduling.rules import default_schedule
from tvm_mobilenet.tuning.workers.messages import Settings

REPOSITORY = Path(__file__).parents[2]
# Read by target.py itself: which of our targets a host is, whose triple a library has, and what the
# target of TVM carries.
READ_IN_TARGET = ("vendor", "cpu_family", "host_triple", "facts")

# A core that no file of ours is for: an in-order Cortex-A55.
ARM = """
[target]
kind = "llvm"
mcpu = "cortex-a55"
mattr = ["+neon"]
keys = ["arm_cpu", "cpu"]
mtriple = "aarch64-linux-gnu"

[device]
name = "a board of my own"
cores = 4
vector_width = 4
rpc_key = "own"

[core]
issue = 2
vector_issue = 1
window = 0
fmas = 1
fma_latency = 4
loads = 1
l1_bytes = 32768
l2_bytes = 131072

[tune]
trials_per_task = 7
timeout_s = 3

[build]
cross_compiler = "aarch64-linux-gnu-gcc"
"""

# GPUs newer than all that ours are for.
GPU = """
[target]
kind = "cuda"
arch = "{arch}"
keys = ["cuda", "gpu"]

[device]
name = "a newer GPU"
cores = 148
vector_width = 32
host_triple = "x86_64-linux-gnu"

[gpu]
tensor_cores = ["fp16", "tf32"]
registers = 65536
max_threads = 2048
fma_lanes = 128
mma_cycles = 8
clock_mhz = 1900
memory_gb_s = 8000
l2_bytes = 132120576
"""


def write(folder: Path, text: str, name: str = "own") -> TargetSpec:
    path = folder / f"{name}.toml"
    path.write_text(text)
    return target.resolve(str(path))


def schedule(spec: TargetSpec, name: str) -> str:
    """A 1x1 convolution of 1.0-224 as the target's default schedule has it."""
    kernel = next(
        one for one in network_kernels.distinct() if one.id.startswith("pointwise-14x14x512_512")
    )
    func = network_kernels.kernel(kernel, spec.vector_width).func
    func = func.with_attr("global_symbol", name)
    return str(default_schedule(func, spec.tvm_target()).mod.script())


def test_an_arm_core_goes_by_its_own_facts(tmp_path: Path) -> None:
    spec = write(tmp_path, ARM)
    core = cores.core_of(spec.tvm_target())
    assert (core.in_order, core.vector_issue, core.l2_bytes) == (True, 1, 131072)
    own = schedule(spec, "main")
    assert own != schedule(target.resolve("arm-rpi4"), "main"), "an A72's model"
    larger = write(tmp_path, ARM.replace("131072", "2097152"))
    assert own != schedule(larger, "main"), "a larger L2 changes nothing"


def test_code_for_an_arm_core_of_ones_own(tmp_path: Path) -> None:
    spec = write(tmp_path, ARM)
    kernel = network_kernels.kernel(network_kernels.distinct()[0], spec.vector_width)
    func = kernel.func.with_attr("global_symbol", "main")
    scheduled = default_schedule(func, spec.tvm_target()).mod
    assembly = lower(scheduled, spec.tvm_target()).inspect_source("asm")
    assert re.search(r"fmla\s+v\d+\.4s", assembly)


@pytest.mark.parametrize("arch", ["sm_100", "sm_120"])
def test_kernels_for_a_gpu_of_ones_own(arch: str, tmp_path: Path) -> None:
    spec = write(tmp_path, GPU.format(arch=arch), f"my-{arch}")
    gpu = device.device_of(spec.tvm_target())
    assert (f"sm_{gpu.capability}", gpu.multiprocessors) == (arch, 148)
    module = gpu_networks.mobilenet(0.25, 32).module
    kernels = pipeline.kernels_of(module, CompileOptions(spec, "fp16"))
    kernel = next(one for one in kernels if one.name.startswith("pointwise"))
    func = kernel.func.with_attr("global_symbol", "main")
    scheduled = default_schedule(func, spec.tvm_target()).mod
    source, _ = lower_for_gpu({"main": scheduled["main"]}, spec.tvm_target())
    assert "mma.sync" in source


@pytest.mark.parametrize("fact", SCHEDULED)
def test_a_missing_fact_of_an_arm_core_is_one_line(fact: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=rf"\[core\] must also say {fact}: ") as caught:
        write(tmp_path, re.sub(rf"^{fact} = .*\n", "", ARM, flags=re.MULTILINE))
    assert "\n" not in str(caught.value)


def test_an_arm_target_without_a_core_is_one_line(tmp_path: Path) -> None:
    head, _, rest = ARM.partition("[core]")
    with pytest.raises(BadInput, match=r"\[core\] must also say issue, window, .*l2_bytes"):
        write(tmp_path, head + "[tune]" + rest.partition("[tune]")[2])


def test_missing_facts_of_a_gpu_are_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = GPU.format(arch="sm_100").replace("max_threads = 2048\n", "")
    path = tmp_path / "mine.toml"
    path.write_text(text)
    assert compile_stage.main(["--target", str(path)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "gpu.max_threads: missing" in error


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (f"{ARM}\n[gpu]{GPU.split('[gpu]')[1]}", r"\[gpu\] .* for targets of kind .cuda."),
        (GPU.format(arch="sm_100") + "\n[core]\nissue = 2\n", r"\[core\] is of CPUs"),
        (GPU.format(arch="compute_100"), r"arch: expected one as in sm_90, got 'compute_100'"),
        (ARM.replace("loads = 1", "loads = 0"), r"core\.loads: expected a whole number"),
        (ARM.replace("rpc_key", "shared_memory"), r"device\.shared_memory: unknown key"),
    ],
)
def test_what_nobody_would_read_is_refused(text: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=says):
        write(tmp_path, text)


def test_a_core_that_does_not_say_issues_vectors_as_it_issues_all(tmp_path: Path) -> None:
    spec = write(tmp_path, ARM.replace("vector_issue = 1\n", ""))
    assert cores.core_of(spec.tvm_target()).vector_issue == 2


def test_facts_survive_the_way_to_a_worker_and_are_no_part_of_an_identity(tmp_path: Path) -> None:
    spec = write(tmp_path, ARM)
    settings = pickle.loads(pickle.dumps(Settings(target=spec.tvm_config())))
    assert cores.core_of(Target(settings.target)) == cores.core_of(spec.tvm_target())
    assert cores.core_of(Target(spec.tvm_target().export())) == cores.core_of(spec.tvm_target())
    assert meta.identity(spec.tvm_config()) == meta.identity(spec.target)


def test_what_the_schedules_read_is_what_a_target_must_say() -> None:
    assert set(cores.FACTS) <= {*SCHEDULED, "vector_issue"}
    assert set(device.FACTS) == {*GPU_FACTS, "multiprocessors"}


@pytest.mark.parametrize(
    "name",
    [
        *(field.name for kind in (TargetSpec, Gpu, Core) for field in dataclasses.fields(kind)),
        *GPU_FACTS,
    ],
)
def test_every_field_of_a_target_is_read(name: str) -> None:
    own = REPOSITORY / "tvm_mobilenet" / "hardware" / "target.py"
    files = [
        file
        for folder in ("tvm_mobilenet", "schedules")
        for file in (REPOSITORY / folder).rglob("*.py")
        if file != own
    ]
    assert len(files) > 100
    readers = [own] if name in READ_IN_TARGET else files
    assert any(name in attributes_read(file) for file in readers)


@functools.cache
def attributes_read(file: Path) -> set[str]:
    tree = ast.parse(file.read_text("utf-8"))
    return {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load)
    }


# What ``tune`` takes from the file where its flags do not say


def test_tune_takes_its_defaults_from_the_target(tmp_path: Path) -> None:
    spec = write(tmp_path, ARM)

    def filled_in(spec: TargetSpec, **flags: object) -> tuple[object, object, object]:
        args = tune.make_parser().parse_args(["--target", "arm-rpi4"])
        vars(args).update(flags)
        request = tune.make_request(args, spec)
        conditions = request.conditions
        return request.budget.trials_per_task, conditions.timeout_s, conditions.key

    said = {"trials_per_task": 2, "timeout": 60.0, "rpc_tracker": "desk", "rpc_key": "key"}
    assert filled_in(spec, rpc_tracker="desk") == (7, 3, "own")
    assert filled_in(spec, **said) == (2, 60.0, "key")
    assert filled_in(spec) == (7, 3, None), "a key is of a tracker"
    assert filled_in(target.resolve("x86-64-v3")) == (None, tune.TIMEOUT_S, None)
