"""Targets as data: ``targets/*.toml`` → frozen TargetSpec → TVM Target; and which one this host is.

Resolving reads text only; TVM is imported by ``TargetSpec.tvm_target`` alone.
"""

from __future__ import annotations

import importlib.resources
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tvm_mobilenet.errors import BadInput, last_line
from tvm_mobilenet.hardware import cpu, gpu
from tvm_mobilenet.hardware.core import SCHEDULED, Core
from tvm_mobilenet.hardware.cores import usable_cores

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

if TYPE_CHECKING:
    from tvm.target import Target

Family = Literal["x86", "arm", "cuda"]

# What a bare family means where it is not this host.
FAMILY_DEFAULTS: dict[Family, str] = {"arm": "arm-rpi4", "cuda": "cuda-sm_80"}

# The key of TVM's target, which also names the folder of schedules, that makes a family.
FAMILY_OF_KEY: dict[str, Family] = {"x86": "x86", "arm_cpu": "arm", "cuda": "cuda"}

# What the schedules' model of a GPU reads, beside its multiprocessors, the device's cores.
GPU_FACTS = (
    "registers",
    "max_threads",
    "fma_lanes",
    "mma_cycles",
    "clock_mhz",
    "memory_gb_s",
    "l2_bytes",
)

TABLES = ("target", "device", "core", "gpu", "tune", "build")
# Every key a table may have, with the type of its value; [target] is TVM's own to check.
KEYS: dict[str, dict[str, type]] = {
    "device": {
        "name": str,
        "cores": int,
        "rpc_key": str,
        "vector_width": int,
        "cpu_features": list,
        "vendor": str,
        "cpu_family": int,
        "host_triple": str,
    },
    "core": {field.name: int for field in fields(Core)},
    "gpu": {"tensor_cores": list, **dict.fromkeys(GPU_FACTS, int)},
    "tune": {"trials_per_task": int, "timeout_s": int},
    "build": {"cross_compiler": str, "linker": str},
}
MAY_BE_ZERO = {("core", "window")}
REQUIRED_OF_DEVICE = ("name", "cores", "vector_width")


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
        return [one.name for one in fields(Core) if one.name not in self.facts]

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
    """The newest known target whose code a GPU of `arch` runs; the family's default for None.

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
        tables = tomllib.loads(content)
    except tomllib.TOMLDecodeError as error:
        raise BadInput(f"{source}: not valid TOML: {error}") from None
    _check_tables(tables, source)
    device, build, tune = tables["device"], tables.get("build", {}), tables.get("tune", {})
    target = _with_cores(tables["target"], device["cores"], source)
    family, card = _family(target, source), _gpu(tables, source)
    return TargetSpec(
        name=name,
        family=family,
        target=target,
        device=device["name"],
        num_cores=device["cores"],
        vector_width=device["vector_width"],
        cpu_features=tuple(device.get("cpu_features", ())),
        vendor=device.get("vendor"),
        cpu_family=device.get("cpu_family"),
        rpc_key=device.get("rpc_key"),
        cross_compiler=build.get("cross_compiler"),
        linker=build.get("linker"),
        trials_per_task=tune.get("trials_per_task"),
        timeout_s=tune.get("timeout_s"),
        facts=_gpu_facts(tables, source) if card else _core_facts(tables, family, source),
        gpu=card,
    )


def _gpu(tables: Mapping[str, Any], source: str) -> Gpu | None:
    target, device, table = tables["target"], tables["device"], tables.get("gpu", {})
    if target.get("kind") != "cuda":
        return None
    missing = ["[device] host_triple"] if "host_triple" not in device else []
    missing += [f"[gpu] {key}" for key in KEYS["gpu"] if key not in table]
    if missing:
        raise BadInput(f"{source}: a GPU's target must also say {', '.join(missing)}")
    if not gpu.is_arch(target.get("arch")):
        raise BadInput(
            f"{source}: [target] arch: expected one as in sm_90, got {target.get('arch')!r}"
        )
    return Gpu(target["arch"], device["host_triple"], tuple(table["tensor_cores"]))


def _gpu_facts(tables: Mapping[str, Any], source: str) -> dict[str, int]:
    if "core" in tables:
        raise BadInput(f"{source}: [core] is of CPUs; a GPU's facts are in [gpu]")
    return {key: tables["gpu"][key] for key in GPU_FACTS}


def _core_facts(tables: Mapping[str, Any], family: Family, source: str) -> dict[str, int]:
    if "gpu" in tables or "host_triple" in tables["device"]:
        raise BadInput(f'{source}: [gpu] and [device] host_triple are for targets of kind "cuda"')
    facts: dict[str, int] = dict(tables.get("core", {}))
    missing = [name for name in SCHEDULED if name not in facts]
    if missing and family == "arm":
        raise BadInput(
            f"{source}: [core] must also say {', '.join(missing)}: the ARM schedules go by them"
        )
    if "issue" in facts:
        facts.setdefault("vector_issue", facts["issue"])
    return facts


def _from_path(path: Path) -> TargetSpec:
    try:
        content = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise BadInput(f"target file {path}: {reason}") from None
    return parse(content, path.stem, str(path))


def _check_tables(tables: Mapping[str, Any], source: str) -> None:
    _refuse_unknown(tables, TABLES, "table", source)
    for table in tables:
        if not isinstance(tables[table], dict):
            raise BadInput(f"{source}: {table}: expected a table, [{table}], got {tables[table]!r}")
    for table in ("target", "device"):
        if table not in tables:
            raise BadInput(f"{source}: the table [{table}] is missing")
    for table, keys in KEYS.items():
        values = tables.get(table, {})
        _refuse_unknown(values, tuple(keys), f"key in [{table}]", source)
        for key, value in values.items():
            least = 0 if (table, key) in MAY_BE_ZERO else 1
            _check_type(value, keys[key], f"[{table}] {key}", source, least)
    for key in REQUIRED_OF_DEVICE:
        if key not in tables["device"]:
            raise BadInput(f"{source}: [device] {key} is missing")


def _refuse_unknown(
    values: Mapping[str, Any], known_names: tuple[str, ...], what: str, source: str
) -> None:
    unknown = [name for name in values if name not in known_names]
    if unknown:
        raise BadInput(
            f"{source}: unknown {what}: {', '.join(unknown)}; there are {', '.join(known_names)}"
        )


def _check_type(value: object, kind: type, what: str, source: str, least: int = 1) -> None:
    kinds = {str: "a text", int: f"a whole number of at least {least}", list: "a list of texts"}
    good = type(value) is kind
    if isinstance(value, list):
        good = good and all(isinstance(one, str) for one in value)
    elif isinstance(value, int):
        good = good and value >= least
    if not good:
        raise BadInput(f"{source}: {what}: expected {kinds[kind]}, got {value!r}")


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
