"""Targets as data: ``targets/*.toml`` → frozen TargetSpec → TVM Target; and which one this host is.

Resolving reads text only; TVM is imported by ``TargetSpec.tvm_target`` alone.
"""

from __future__ import annotations

import importlib.resources
import os
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields, make_dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tvm_mobilenet import files, strict
from tvm_mobilenet.errors import BadInput, last_line
from tvm_mobilenet.hardware import cpu, gpu
from tvm_mobilenet.hardware.core import SCHEDULED, Core
from tvm_mobilenet.hardware.cores import usable_cores
from tvm_mobilenet.strict import AtLeast, Count

if TYPE_CHECKING:
    from tvm.target import Target

Family = Literal["x86", "arm", "cuda"]

# What a bare family means where it is not this host.
FAMILY_DEFAULTS: dict[Family, str] = {"arm": "arm-rpi4", "cuda": "cuda-sm_80"}

# The key of TVM's target, which also names the folder of schedules, that makes a family.
FAMILY_OF_KEY: dict[str, Family] = {"x86": "x86", "arm_cpu": "arm", "cuda": "cuda"}

# The tables of a target file, as they are read; TVM checks [target] itself.


@dataclass(frozen=True)
class DeviceTable:
    name: str
    cores: Count
    vector_width: Count
    rpc_key: str | None = None
    cpu_features: tuple[str, ...] = ()
    vendor: str | None = None
    cpu_family: Count | None = None
    host_triple: str | None = None


@dataclass(frozen=True)
class GpuTable:
    """``registers`` and ``max_threads`` are of a multiprocessor, of which the device has cores."""

    tensor_cores: tuple[str, ...]
    registers: Count
    max_threads: Count
    fma_lanes: Count
    mma_cycles: Count
    clock_mhz: Count
    memory_gb_s: Count
    l2_bytes: Count


@dataclass(frozen=True)
class TuneTable:
    trials_per_task: Count | None = None
    timeout_s: Count | None = None


@dataclass(frozen=True)
class BuildTable:
    cross_compiler: str | None = None
    linker: str | None = None


# The facts of a ``Core``, of which a file need not say all.
WHOLE = {"window": Annotated[int, AtLeast(0)]}  # every other number is at least 1
CoreTable: Any = make_dataclass(
    "CoreTable", [(one.name, WHOLE.get(one.name, Count) | None, None) for one in fields(Core)]
)


@dataclass(frozen=True)
class TargetFile:
    target: Mapping[str, Any]
    device: DeviceTable
    core: CoreTable = None
    gpu: GpuTable | None = None
    tune: TuneTable = TuneTable()
    build: BuildTable = BuildTable()


# What the schedules' model of a GPU reads, beside its multiprocessors, the device's cores.
GPU_FACTS = tuple(one.name for one in fields(GpuTable) if one.name != "tensor_cores")


@dataclass(frozen=True)
class Gpu:
    """What a target file says of a GPU.

    ``arch`` is as in sm_90, ``host_triple`` LLVM's for the CPU beside it; ``tensor_cores`` are
    the types that its tensor cores multiply.
    """

    arch: str
    host_triple: str
    tensor_cores: tuple[str, ...]


@dataclass(frozen=True)
class TargetSpec:
    """What a target file says.

    ``target`` is the dict for TVM's ``Target`` (the file's, with ``num-cores`` from its cores);
    ``cpu_features`` are named as in /proc/cpuinfo; ``vector_width`` is in float32 lanes.
    ``vendor`` and ``cpu_family`` tell CPUs with equal features apart, None where any will do.
    ``cross_compiler`` None means the host's own, ``linker`` None the one it links with by itself.
    ``facts`` are the numbers of [core] or [gpu], for the models of it. ``trials_per_task``,
    ``timeout_s`` and ``rpc_key`` are what ``tune`` does where its flags do not say.
    ``gpu`` is None for a CPU; for a GPU, ``num_cores`` counts its multiprocessors.
    """

    name: str
    family: Family
    target: dict[str, Any]
    device: str
    num_cores: int
    vector_width: int
    cpu_features: tuple[str, ...] = ()
    vendor: str | None = None
    cpu_family: int | None = None
    rpc_key: str | None = None
    cross_compiler: str | None = None
    linker: str | None = None
    trials_per_task: int | None = None
    timeout_s: int | None = None
    facts: Mapping[str, int] = field(default_factory=dict)
    gpu: Gpu | None = None

    @property
    def triple(self) -> str:
        """LLVM's triple of the CPU that runs the library, or the host's half of it."""
        return self.gpu.host_triple if self.gpu else str(self.target["mtriple"])

    @property
    def core(self) -> Core | None:
        """What the model of ``tune --measure model`` needs; None where the file says less."""
        if self.gpu is not None or self.missing_core_facts():
            return None
        return Core(**self.facts)

    def missing_core_facts(self) -> list[str]:
        """What [core] would have to say too, for a model of the core."""
        return [
            one.name
            for one in fields(Core)
            if one.name not in self.facts and one.default is MISSING
        ]

    def tvm_config(self) -> dict[str, Any]:
        """The dict for TVM's ``Target``: ``target``, and the facts that schedules read from it."""
        if not self.facts:
            return dict(self.target)
        from schedules.facts import FACTS

        facts = dict(self.facts)
        if self.gpu is not None:
            facts["multiprocessors"] = self.num_cores
        return {**self.target, FACTS: facts}

    def tvm_target(self) -> Target:
        """The TVM target. Imports TVM; raises BadInput for what TVM or LLVM does not know."""
        from tvm.target import Target

        try:
            target = Target(self.tvm_config())
        except (TypeError, ValueError) as error:
            raise BadInput(
                f"target {self.name}: TVM refuses its [target] table: {last_line(error)}"
            ) from error
        if self.target.get("kind") == "llvm":
            _check_llvm(self.name, self.target)
        return target

    def with_cores(self, cores: int) -> TargetSpec:
        """The same target with another number of cores."""
        return replace(self, num_cores=cores, target={**self.target, "num-cores": cores})

    def missing_features(self, features: frozenset[str]) -> list[str]:
        """The features this target's code may use that a CPU with ``features`` lacks."""
        return [name for name in self.cpu_features if name not in features]


@dataclass(frozen=True)
class HostCpu:
    """What tells one host from another: architecture, features, vendor, family, usable cores."""

    architecture: str
    features: frozenset[str]
    vendor: str | None
    cpu_family: int | None
    cores: int


def known() -> list[str]:
    """The names of the targets that come with the project, sorted."""
    files = importlib.resources.files("targets").iterdir()
    return sorted(file.name[: -len(".toml")] for file in files if file.name.endswith(".toml"))


def resolve(text: str) -> TargetSpec:
    """The target that ``--target`` names: a family, a name in ``targets/``, or a TOML file.

    ``x86`` is the target that fits this host best, ``cuda`` the one for its GPU. Raises
    BadInput, with the known names, for anything else.
    """
    if text.endswith(".toml") or os.sep in text:
        return _from_path(Path(text))
    if text == "x86":
        return detect_host()
    if text == "cuda":
        return detect_gpu(gpu.present_arch())
    name = next((FAMILY_DEFAULTS[family] for family in FAMILY_DEFAULTS if family == text), text)
    names = known()
    if name not in names:
        raise BadInput(
            f"unknown target {text!r}; known: x86 (this host), cuda (its GPU), {', '.join(names)}, "
            "or a .toml file"
        )
    content = importlib.resources.files("targets").joinpath(f"{name}.toml").read_text("utf-8")
    return parse(content, name, f"targets/{name}.toml")


def detect_host(host: HostCpu | None = None) -> TargetSpec:
    """The known target that fits ``host`` (this machine) best, with the cores it really has.

    A target fits where the host has all its features. Of those that fit, one of the host's vendor
    comes first, then one of its CPU family, then the one with most features: a name tells nothing,
    hypervisors invent it. Raises BadInput where no target fits.
    """
    host = read_host() if host is None else host
    if host.architecture != "x86_64":
        raise BadInput(
            f"target x86 is for this host only where that is x86-64; it is {host.architecture}: "
            f"name one of {', '.join(known())}"
        )
    specs = [resolve(name) for name in known() if name.startswith("x86-")]
    fitting = [spec for spec in specs if not spec.missing_features(host.features)]
    if not fitting:
        least = min(specs, key=lambda spec: len(spec.cpu_features))
        lacking = ", ".join(least.missing_features(host.features))
        raise BadInput(
            f"no x86 target fits this host: even {least.name} needs {lacking}; "
            "name a target to compile for another machine"
        )

    def fit(spec: TargetSpec) -> tuple[bool, bool, int]:
        vendor = spec.vendor is not None and spec.vendor == host.vendor
        return (vendor, vendor and spec.cpu_family == host.cpu_family, len(spec.cpu_features))

    return max(fitting, key=fit).with_cores(host.cores)


def detect_gpu(arch: str | None) -> TargetSpec:
    """The newest known target whose code a GPU of ``arch`` runs; the family's default for None.

    Raises BadInput where the GPU is older than every target.
    """
    if arch is None:
        return resolve(FAMILY_DEFAULTS["cuda"])
    names = [name for name in known() if name.startswith("cuda-")]
    fitting = [name for name in names if gpu.capability(name) <= gpu.capability(arch)]
    if not fitting:
        raise BadInput(f"no cuda target fits this GPU: {arch} is older than {', '.join(names)}")
    return resolve(max(fitting, key=gpu.capability))


def read_host(cpuinfo: str | None = None) -> HostCpu:
    """This machine; ``cpuinfo`` stands in for the text of /proc/cpuinfo."""
    cpuinfo = cpu.read_cpuinfo() if cpuinfo is None else cpuinfo
    fields = cpu.first_fields(cpuinfo)
    family = fields.get("cpu family", "")
    return HostCpu(
        architecture=cpu.host_architecture(),
        features=cpu.parse_features(cpuinfo),
        vendor=fields.get("vendor_id"),
        cpu_family=int(family) if family.isdecimal() else None,
        cores=len(usable_cores()),
    )


def parse(content: str, name: str, source: str) -> TargetSpec:
    """The target in the TOML text ``content``; ``source`` names it in errors.

    Raises BadInput for malformed TOML, and for a key that is unknown, missing or of another type.
    """
    try:
        file = strict.read(TargetFile, strict.parse_toml(content))
    except strict.Unexpected as error:
        raise BadInput(f"{source}: {error}") from None
    family, card = _family(file.target, source), _gpu(file, source)
    return TargetSpec(
        name=name,
        family=family,
        target=_with_cores(file.target, file.device.cores, source),
        device=file.device.name,
        num_cores=file.device.cores,
        vector_width=file.device.vector_width,
        cpu_features=file.device.cpu_features,
        vendor=file.device.vendor,
        cpu_family=file.device.cpu_family,
        rpc_key=file.device.rpc_key,
        cross_compiler=file.build.cross_compiler,
        linker=file.build.linker,
        trials_per_task=file.tune.trials_per_task,
        timeout_s=file.tune.timeout_s,
        facts=_gpu_facts(file, source) if card else _core_facts(file, family, source),
        gpu=card,
    )


def _gpu(file: TargetFile, source: str) -> Gpu | None:
    if file.target.get("kind") != "cuda":
        return None
    if file.gpu is None or file.device.host_triple is None:
        raise BadInput(f"{source}: a GPU's target must also say [device] host_triple and [gpu]")
    arch = file.target.get("arch")
    if not gpu.is_arch(arch):
        raise BadInput(f"{source}: target.arch: expected one as in sm_90, got {arch!r}")
    return Gpu(str(arch), file.device.host_triple, file.gpu.tensor_cores)


def _gpu_facts(file: TargetFile, source: str) -> dict[str, int]:
    if file.core is not None:
        raise BadInput(f"{source}: [core] is of CPUs; a GPU's facts are in [gpu]")
    return {key: getattr(file.gpu, key) for key in GPU_FACTS}


def _core_facts(file: TargetFile, family: Family, source: str) -> dict[str, int]:
    if file.gpu is not None or file.device.host_triple is not None:
        raise BadInput(f'{source}: [gpu] and [device] host_triple are for targets of kind "cuda"')
    told = {} if file.core is None else asdict(file.core)
    facts = {name: value for name, value in told.items() if value is not None}
    missing = [name for name in SCHEDULED if name not in facts]
    if missing and family == "arm":
        raise BadInput(
            f"{source}: [core] must also say {', '.join(missing)}: the ARM schedules go by them"
        )
    if "issue" in facts:
        facts.setdefault("vector_issue", facts["issue"])
    return facts


def _from_path(path: Path) -> TargetSpec:
    return parse(files.read_text(path, f"target file {path}"), path.stem, str(path))


def _with_cores(target: Mapping[str, Any], cores: int, source: str) -> dict[str, Any]:
    written = target.get("num-cores", cores)
    if written != cores:
        raise BadInput(
            f"{source}: [target] num-cores: expected the {cores} of [device] cores, got {written!r}"
        )
    return {**target, "num-cores": cores} if target.get("kind") == "llvm" else dict(target)


def _family(target: Mapping[str, Any], source: str) -> Family:
    keys = target.get("keys", [])
    keys = [*(keys if isinstance(keys, list) else [keys]), target.get("kind")]
    for key in keys:
        if key in FAMILY_OF_KEY:
            return FAMILY_OF_KEY[key]
    raise BadInput(
        f"{source}: [target] keys or kind: expected one of {', '.join(FAMILY_OF_KEY)}, which says "
        f"whose schedules serve, got {', '.join(map(str, keys))}"
    )


def _check_llvm(name: str, target: Mapping[str, Any]) -> None:
    """LLVM only warns of a CPU or feature it does not know, and compiles for the least one."""
    from tvm.target import Target, codegen

    triple, mcpu = target.get("mtriple", ""), target.get("mcpu")
    if mcpu is not None and not codegen.llvm_is_valid_cpu(mcpu, triple):
        raise BadInput(f"target {name}: LLVM knows no mcpu {mcpu!r} for {triple or 'this host'}")
    for feature in target.get("mattr", []):
        if feature.startswith("-"):
            continue
        alone = Target({**target, "mattr": [feature]})
        if feature.lstrip("+") not in codegen.llvm_get_cpu_features(alone):
            raise BadInput(f"target {name}: LLVM knows no feature {feature!r} in mattr")
