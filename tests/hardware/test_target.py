"""Target files are read strictly, TVM and LLVM take each of them, and hosts find their own."""

from __future__ import annotations

import dataclasses
import importlib.resources
from pathlib import Path
from typing import Any

import pytest

from tvm_mobilenet.errors import BadInput
from tvm_mobilenet.hardware import target
from tvm_mobilenet.hardware.target import HostCpu

# /proc/cpuinfo's name of a feature → LLVM's, where they differ
LLVM_NAMES = {"abm": "lzcnt", "bmi1": "bmi", "avx_vnni": "avxvnni"}
# What LLVM may put into plain float code on its own: a bundle must ask the CPU for all of these.
CODEGEN_PREFIXES = ("avx", "fma", "f16c", "bmi", "lzcnt", "movbe", "popcnt", "gfni", "vaes")

AVX2 = ("avx", "avx2", "fma", "f16c", "bmi1", "bmi2", "abm", "movbe", "popcnt")
SKYLAKE = (*AVX2, "avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl")
ICELAKE = (
    *SKYLAKE, "avx512ifma", "avx512vbmi", "avx512_vbmi2", "avx512_vnni", "avx512_bitalg",
    "avx512_vpopcntdq", "gfni", "vaes", "vpclmulqdq",
)  # fmt: skip
ZEN4 = (*ICELAKE, "avx512_bf16")
ZEN5 = (*ZEN4, "avx512_vp2intersect", "avx_vnni")
AMX = ("amx_tile", "amx_int8", "amx_bf16")
NO_AMX = (*ICELAKE, "avx512_bf16", "avx_vnni", "avx512_fp16")
SAPPHIRE_RAPIDS = (*NO_AMX, *AMX)

GOOD = """
[target]
kind = "llvm"
mcpu = "znver3"
keys = ["x86", "cpu"]
mtriple = "x86_64-linux-gnu"
[device]
name = "my desktop"
cores = 8
vector_width = 8
rpc_key = "desktop"
[tune]
trials_per_task = 64
[build]
cross_compiler = "x86_64-linux-gnu-gcc"
"""


def llvm_features(spec: target.TargetSpec) -> set[str]:
    from tvm.target import codegen

    return set(codegen.llvm_get_cpu_features(spec.tvm_target()))


def in_llvm(feature: str) -> str:
    plain = feature.replace("avx512_", "avx512").replace("amx_", "amx-")
    return LLVM_NAMES.get(feature, plain)


@pytest.mark.parametrize("name", target.known())
def test_tvm_takes_every_target(name: str) -> None:
    spec = target.resolve(name)
    made = spec.tvm_target()
    assert spec.name == name and name.startswith(spec.family)
    assert made.kind.name == spec.target["kind"]
    if spec.gpu is not None:
        assert made.attrs["arch"] == spec.gpu.arch and name.endswith(spec.gpu.arch)
        return
    assert {key: made.attrs[key] for key in ("mcpu", "num-cores")} == {
        "mcpu": spec.target["mcpu"],
        "num-cores": spec.num_cores,
    }


@pytest.mark.parametrize("name", [name for name in target.known() if name.startswith("x86")])
def test_llvm_uses_the_features_asked_for_and_no_others(name: str) -> None:
    spec = target.resolve(name)
    asked = {in_llvm(feature) for feature in spec.cpu_features}
    used = llvm_features(spec)
    assert asked <= used
    assert {feature for feature in used if feature.startswith(CODEGEN_PREFIXES)} <= asked
    assert spec.vector_width == (16 if "avx512f" in used else 8)


def test_every_target_file_says_what_it_is_for() -> None:
    for name in target.known():
        file = importlib.resources.files("targets").joinpath(f"{name}.toml")
        assert file.read_text("utf-8").startswith("# ")


def test_a_file_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "desktop.toml"
    path.write_text(GOOD)
    spec = target.resolve(str(path))
    assert dataclasses.asdict(spec) == {
        "name": "desktop",
        "family": "x86",
        "target": {
            "kind": "llvm",
            "mcpu": "znver3",
            "keys": ["x86", "cpu"],
            "mtriple": "x86_64-linux-gnu",
            "num-cores": 8,
        },
        "device": "my desktop",
        "num_cores": 8,
        "vector_width": 8,
        "cpu_features": (),
        "vendor": None,
        "cpu_family": None,
        "rpc_key": "desktop",
        "cross_compiler": "x86_64-linux-gnu-gcc",
        "linker": None,
        "trials_per_task": 64,
        "timeout_s": None,
        "facts": {},
        "gpu": None,
    }


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        (
            "[tune]",
            "[tuning]",
            "tuning: unknown key; there are target, device, core, gpu, tune, build",
        ),
        ("rpc_key", "rpckey", r"device\.rpckey: unknown key; there are name, cores"),
        ("trials_per_task", "trials", r"tune\.trials: unknown key"),
        ("cores = 8", "cores = 0", r"device\.cores: expected a whole number .*, got 0"),
        ("cores = 8", "cores = true", r"device\.cores: expected a whole number .*, got true"),
        ('"desktop"', "7", r"device\.rpc_key: expected a string, got 7"),
        (
            "cores = 8",
            'cores = 8\ncpu_features = ["avx2", 2]',
            r"device\.cpu_features\[1\]: expected a string",
        ),
        ("cores = 8", "cores = 8\ncpu_features = " + "[" * 100_000, "nested too deeply"),
        ("cores = 8", "", r"device\.cores: missing"),
        ("[device]", "[build]", "not valid TOML"),
        (
            "[tune]",
            "[core]\nissue = 0\n[tune]",
            r"core\.issue: expected a whole number of at least 1",
        ),
        ('kind = "llvm"', 'kind = "llvm', "not valid TOML: .*line 3"),
        (
            'kind = "llvm"',
            'kind = "llvm"\nnum-cores = 4',
            "expected the 8 of .* cores, got 4",
        ),
        ('["x86", "cpu"]', '["cpu"]', "x86, arm_cpu, cuda"),
    ],
)
def test_bad_files_are_one_line(old: str, new: str, says: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(GOOD.replace(old, new, 1))
    with pytest.raises(BadInput, match=says) as caught:
        target.resolve(str(path))
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)


@pytest.mark.parametrize("table", ["target", "device"])
def test_missing_tables(table: str) -> None:
    text = "device = 3" if table == "target" else GOOD.split("[device]")[0]
    with pytest.raises(BadInput, match=r"target: missing|device: missing"):
        target.parse(text, "bad", "bad.toml")


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('"znver3"', '"znver99"', "LLVM knows no mcpu 'znver99' for x86_64-linux-gnu"),
        ('kind = "llvm"', 'kind = "llvm"\nmattr = ["+warp"]', "LLVM knows no feature '.warp'"),
        ('kind = "llvm"', 'kind = "llvm"\nmspeed = 9', "TVM refuses"),
    ],
)
def test_what_tvm_or_llvm_does_not_know(old: str, new: str, says: str) -> None:
    spec = target.parse(GOOD.replace(old, new, 1), "desktop", "desktop.toml")
    with pytest.raises(BadInput, match=says) as caught:
        spec.tvm_target()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["x87", "x86-znver9", "", "arm-nonesuch"])
def test_unknown_target_lists_the_known(text: str) -> None:
    with pytest.raises(BadInput, match="x86-znver4") as caught:
        target.resolve(text)
    assert "\n" not in str(caught.value)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="No such file"):
        target.resolve(str(tmp_path / "absent.toml"))
    with pytest.raises(BadInput, match="Is a directory"):
        target.resolve(f"{tmp_path}/")
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(BadInput, match="not UTF-8"):
        target.resolve(str(tmp_path / "binary.toml"))


def host(features: tuple[str, ...], vendor: str, family: int, cores: int = 3) -> HostCpu:
    return HostCpu("x86_64", frozenset({*features, "sse2"}), vendor, family, cores)


@pytest.mark.parametrize(
    ("found", "name"),
    [
        (host(AVX2, "GenuineIntel", 6), "x86-64-v3"),
        (host(AVX2, "AuthenticAMD", 25), "x86-64-v3"),  # Zen 3: Zen 4's family, no AVX-512
        (host(SKYLAKE, "GenuineIntel", 6), "x86-skylake-avx512"),
        (host(ICELAKE, "GenuineIntel", 6), "x86-icelake"),
        (host(SAPPHIRE_RAPIDS, "GenuineIntel", 6), "x86-sapphirerapids"),
        (host(NO_AMX, "GenuineIntel", 6), "x86-icelake"),  # whose hypervisor hides it
        (host(ZEN4, "AuthenticAMD", 25), "x86-znver4"),
        (host(ZEN5, "AuthenticAMD", 26), "x86-znver5"),
        (host(ZEN4, "AuthenticAMD", 26), "x86-znver4"),  # Zen 5 whose hypervisor hides features
        (host((*ZEN5, "avx10"), "AuthenticAMD", 27), "x86-znver5"),  # one that is not out yet
        (host(ICELAKE, "CentaurHauls", 7), "x86-icelake"),
    ],
)
def test_hosts_find_their_target(found: HostCpu, name: str) -> None:
    spec = target.detect_host(found)
    assert spec.name == name
    assert spec.num_cores == spec.target["num-cores"] == 3


def test_host_too_old() -> None:
    with pytest.raises(BadInput, match="even x86-64-v3 needs avx2, fma"):
        target.detect_host(host(("avx", "popcnt"), "GenuineIntel", 6))


def test_host_of_another_architecture() -> None:
    with pytest.raises(BadInput, match="it is aarch64"):
        target.detect_host(HostCpu("aarch64", frozenset({"asimd"}), None, None, 4))


def test_reads_a_hypervisors_cpuinfo() -> None:
    core = "vendor_id\t: AuthenticAMD\ncpu family\t: 26\nmodel name\t: AMD EPYC\nflags\t\t: {}\n"
    # a feature that one core lacks is no feature of the machine
    found = target.read_host(core.format("fpu avx2 fma") + "\n" + core.format("fpu avx2"))
    assert (found.vendor, found.cpu_family) == ("AuthenticAMD", 26)
    assert found.features == {"fpu", "avx2"}
    assert found.cores >= 1
    assert target.read_host("").vendor is None


@pytest.mark.isa("avx2")
def test_this_host() -> None:
    spec = target.resolve("x86")
    assert spec.name in target.known()
    assert not spec.missing_features(target.read_host().features)


def test_resolving_imports_no_tvm(python: Any) -> None:
    code = (
        "import sys; from tvm_mobilenet.hardware import target;"
        "[target.resolve(name) for name in target.known()]; target.read_host();"
        "sys.exit('tvm' in sys.modules or 'torch' in sys.modules)"
    )
    assert python("-c", code).returncode == 0
