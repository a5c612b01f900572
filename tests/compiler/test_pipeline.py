"""The compile pipeline: its phases, the kernels it finds, and that each of them has its rule."""

from __future__ import annotations

import re
from collections import Counter
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import tvm
from support import network_kernels, tile_cases
from support.kernel_cases import Case
from support.network_kernels import VARIANTS
from support.odd_kernels import CASES, FAST_PRODUCTS, IN_BF16
from support.static_programs import relax_of
from torch import nn
from tvm.script import tirx as T

from schedules import RULES
from tvm_mobilenet import models
from tvm_mobilenet.compiler import pipeline
from tvm_mobilenet.compiler.dump import IrDump
from tvm_mobilenet.compiler.graph.legalize_cpu import CpuKernels, legalize
from tvm_mobilenet.compiler.options import CompileOptions
from tvm_mobilenet.errors import RunFailed
from tvm_mobilenet.hardware import target
from tvm_mobilenet.kernels.cpu.layout import Blocked, pack
from tvm_mobilenet.models import stages
from tvm_mobilenet.scheduling.rules import default_schedule, find_rule, rule_of

ROOT = Path(__file__).parents[2]
LARGEST = models.config_from("mobilenet_v1", 1.0, 224)
SMALL = models.config_from("mobilenet_v1", 0.25, 32)
X86 = [name for name in target.known() if name.startswith("x86-")]


@pytest.fixture(scope="module")
def lowered() -> tvm.IRModule:
    return pipeline.lower_graph(network_kernels.relax_module(LARGEST)[0], legalize(CpuKernels(16)))


def test_nine_depthwise_workloads(lowered: tvm.IRModule) -> None:
    kernels = pipeline.extract_kernels(lowered)
    rules = Counter(rule_of(kernel.func) for kernel in kernels)
    assert rules == {
        "stem_conv2d": 1,
        "depthwise_conv2d": 9,
        "pointwise_conv2d": 9,
        "global_avg_pool2d": 1,
        "dense": 1,
    }
    assert sum(kernel.count for kernel in kernels) == 29
    counts = Counter(kernel.count for kernel in kernels)
    assert counts == {5: 2, 1: 19}, "five equal blocks of 14x14x512"
    assert len({kernel.name for kernel in kernels}) == len(kernels)


def test_kernels_come_in_order_of_execution(lowered: tvm.IRModule) -> None:
    rules = [rule_of(kernel.func) for kernel in pipeline.extract_kernels(lowered)]
    assert rules[:3] == ["stem_conv2d", "depthwise_conv2d", "pointwise_conv2d"]
    assert rules[-2:] == ["global_avg_pool2d", "dense"]


def test_flops_are_those_of_the_stage_table(lowered: tvm.IRModule) -> None:
    layers = stages.layers(LARGEST)
    wanted = 2 * sum(layer.multiply_adds for layer in layers)
    kernels = pipeline.extract_kernels(lowered)
    found = sum(kernel.flops * kernel.count for kernel in kernels)
    # above it: bias, activation, pooling, and the classifier's fill-up to whole panels
    assert wanted < found < 1.03 * wanted


def test_only_what_the_network_calls_is_in_the_module(lowered: tvm.IRModule) -> None:
    names = {gvar.name_hint for gvar in lowered.get_global_vars()}
    assert names == {"main", *(kernel.name for kernel in pipeline.extract_kernels(lowered))}


@pytest.mark.parametrize("vector_width", [8, 16])
def test_the_phases_are_dumped_in_order(tmp_path: Path, vector_width: int) -> None:
    spec = target.resolve("x86-64-v3" if vector_width == 8 else "x86-skylake-avx512")
    module, _ = network_kernels.relax_module(SMALL)
    folder = tmp_path / "new" / "ir"
    pipeline.compile_network(module, CompileOptions(spec), dump=IrDump(folder))
    files = sorted(folder.iterdir())
    graph = [f"{name}.py" for name, _ in pipeline.graph_phases(legalize(CpuKernels(vector_width)))]
    code = ["schedule.py", "static.py", "lowered.py", "assembly.s"]
    assert [file.name for file in files] == [
        f"{number:02d}-{name}" for number, name in enumerate(["import.py", *graph, *code])
    ]
    text = {file.stem[3:]: file.read_text() for file in files}
    assert "R.nn.conv2d" in text["import"]
    assert "R.nn.conv2d" not in text["legalize"]
    assert "schedule_rule" in text["legalize"]
    assert "schedule_rule" not in text["schedule"]
    assert "T.vectorized" in text["schedule"]
    assert "infer" in text["static"]
    assert "T.vectorized" not in text["lowered"], "loops over lanes are vectors by then"
    assert re.search(r"vfmadd\w+ps.*%[yz]mm", text["assembly"])


def test_no_dump_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    pipeline.lower_graph(network_kernels.relax_module(SMALL)[0], legalize(CpuKernels(8)))
    assert list(tmp_path.iterdir()) == []


# Rules


def rules_of_the_computes() -> list[str]:
    cases: list[Case] = [*CASES, *FAST_PRODUCTS, *IN_BF16, *tile_cases.CASES]
    return sorted({str(rule_of(case.func())) for case in cases})


@pytest.mark.parametrize("name", X86)
def test_every_x86_target_resolves_every_rule(name: str) -> None:
    """TVM warns once of a rule it does not find, and goes on with the kernel unscheduled."""
    tvm_target = target.resolve(name).tvm_target()
    rules = rules_of_the_computes()
    assert rules == sorted(RULES["x86"]), "every rule is some compute's"
    for rule in rules:
        assert find_rule(rule, tvm_target) is RULES["x86"][rule]
        keys = [str(key) for key in tvm_target.keys]
        hooks = [f"s_tir.meta_schedule.{key}.{rule}" for key in keys]
        assert any(tvm.get_global_func(hook, allow_missing=True) for hook in hooks)


def test_every_kernel_of_every_variant_has_a_rule(lowered: tvm.IRModule) -> None:
    tvm_target = target.resolve("x86-64-v3").tvm_target()
    for kernel in pipeline.extract_kernels(lowered):
        rule = rule_of(kernel.func)
        assert rule is not None
        assert find_rule(rule, tvm_target) is RULES["x86"][rule]
    names = {
        name.partition("-")[0] for config in VARIANTS for name in network_kernels.names(config)
    }
    assert names == {"stem", "depthwise", "pointwise", "pool", "dense"}


@T.prim_func(s_tir=True)
def of_unknown_rule(a: T.Buffer((4,), "float32"), b: T.Buffer((4,), "float32")) -> None:  # type: ignore[valid-type]
    for i in range(4):
        with T.sblock("copy"):
            vi = T.axis.spatial(4, i)
            T.sblock_attr({"schedule_rule": "no_such_rule"})
            b[vi] = a[vi]


def test_an_unknown_rule_fails() -> None:
    tvm_target = target.resolve("x86-64-v3").tvm_target()
    with pytest.raises(RunFailed, match="no schedule rule 'no_such_rule' for the target keys x86"):
        default_schedule(of_unknown_rule, tvm_target)


def test_a_target_without_schedules_fails() -> None:
    func = pack(Blocked(1, 4, 2, 2, 4)).with_attr("global_symbol", "main")
    with pytest.raises(RunFailed, match=r"no schedule rule 'layout' for the target keys cpu"):
        default_schedule(func, tvm.target.Target({"kind": "llvm"}))


def test_a_function_without_a_rule_has_no_default_schedule() -> None:
    (schedule,) = [
        default_schedule(
            pack(Blocked(1, 4, 2, 2, 4)).with_attr("global_symbol", "main"),
            target.resolve("x86-64-v3").tvm_target(),
        )
    ]
    scheduled = schedule.mod["main"]
    assert rule_of(scheduled) is None
    with pytest.raises(RunFailed, match="no block names a schedule rule"):
        default_schedule(scheduled, target.resolve("x86-64-v3").tvm_target())


class OneRecord:
    """Knows a schedule for the stem alone."""

    def __init__(self, tvm_target: tvm.target.Target) -> None:
        self.target = tvm_target
        self.info = object()

    def schedule_for(self, func: Any) -> Any:
        if rule_of(func) != "stem_conv2d":
            return None, None
        return default_schedule(func, self.target), self.info


def test_records_come_before_the_default(lowered: tvm.IRModule) -> None:
    tvm_target = target.resolve("x86-skylake-avx512").tvm_target()
    source = OneRecord(tvm_target)
    scheduled, tuned = pipeline.schedule_kernels(lowered, tvm_target, source)
    (stem,) = tuned
    assert stem.startswith("stem")
    assert tuned[stem] is source.info
    assert {gvar.name_hint for gvar in scheduled.get_global_vars()} == {
        gvar.name_hint for gvar in lowered.get_global_vars()
    }


# Versions: a newer apache-tvm-ffi, which pip picks by itself, crashes in ms.TuneContext


def test_the_pinned_tvm_is_installed() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    pins = dict(re.findall(r'"(apache-tvm(?:-ffi)?)==([\w.]+)"', text))
    assert sorted(pins) == ["apache-tvm", "apache-tvm-ffi"]
    assert {name: version(name) for name in pins} == pins


def test_a_tune_context_can_be_made(python: Any) -> None:
    """In a process of its own, since where it fails it takes the process with it."""
    code = (
        # ms.TuneContext imports every tensor intrinsic TVM ships, which takes 20 s
        "import sys, types; sys.modules['tvm.s_tir.tensor_intrin'] = types.ModuleType('none');"
        "from tvm_mobilenet import tvm_runtime; tvm_runtime.compiler();"  # without PyTorch
        "import tvm; from tvm.s_tir import meta_schedule as ms;"
        "from tvm_mobilenet.kernels.cpu.layout import Blocked, pack;"
        "f = pack(Blocked(1, 4, 2, 2, 4)).with_attr('global_symbol', 'main');"
        "from tvm_mobilenet.hardware import target;"
        "t = target.resolve('x86-64-v3').tvm_target();"
        "ms.TuneContext(tvm.IRModule({'main': f}), target=t, space_generator='post-order-apply');"
        "print('made')"
    )
    done = python("-c", code)
    assert (done.returncode, done.stdout) == (0, "made\n"), done.stderr[-500:]


def test_kernels_that_are_not_ours_are_named() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(2), nn.Softmax(dim=-1))
    options = CompileOptions(target.resolve("x86"))
    found = pipeline.compile_network(relax_of(module, (1, 3, 6, 6)), options)
    assert [name for name in found.others if "softmax" in name] == list(found.others)
    assert {call.kernel for call in found.program.calls} > found.others
