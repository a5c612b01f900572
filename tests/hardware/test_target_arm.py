"""The ARM targets: LLVM takes each, bundles ask the CPU for what LLVM may use, and no more."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tvm_mobilenet import bundle
from tvm_mobilenet.errors import BadInput
from tvm_mobilenet.hardware import cpu, target
from tvm_mobilenet.hardware.target import TargetSpec

ARM = [name for name in target.known() if name.startswith("arm-")]
NAMES = [
    "arm-android", "arm-apple-m1", "arm-apple-m2", "arm-graviton2", "arm-graviton3",
    "arm-jetson-orin", "arm-rk3566", "arm-rpi2-armv7", "arm-rpi3", "arm-rpi4", "arm-rpi5",
]  # fmt: skip

# What LLVM may put into float code by itself → Linux's name of it
CPUINFO_NAMES = {
    "neon": "asimd",
    "fullfp16": "asimdhp",
    "dotprod": "asimddp",
    "rdm": "asimdrdm",
    "lse": "atomics",
    "rcpc": "lrcpc",
    "fp16fml": "asimdfhm",
    "complxnum": "fcma",
    "i8mm": "i8mm",
    "bf16": "bf16",
    "sve": "sve",
    "aes": "aes",
    "sha2": "sha2",
    "sha3": "sha3",
    "crc": "crc32",
}

CPUINFO = "processor : {core}\nFeatures : {features}\nCPU implementer : 0x41\n"
A53 = "fp asimd evtstrm crc32 cpuid"
A76 = (
    "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop "
    "asimddp"
)
A7 = "half thumb fastmult vfp edsp neon vfpv3 tls vfpv4 idiva idivt vfpd32 lpae evtstrm"


def llvm_features(spec: TargetSpec) -> set[str]:
    from tvm.target import codegen

    return set(codegen.llvm_get_cpu_features(spec.tvm_target()))


def test_the_targets() -> None:
    assert ARM == NAMES
    assert target.resolve("arm").name == "arm-rpi4"


@pytest.mark.parametrize("name", ARM)
def test_llvm_and_tvm_take_it(name: str) -> None:
    spec = target.resolve(name)
    assert spec.family == "arm" and spec.vector_width == 4
    assert list(spec.tvm_target().keys) == ["arm_cpu", "cpu"]
    assert "neon" in llvm_features(spec)


@pytest.mark.parametrize("name", [name for name in ARM if "armv7" not in name])
def test_a_bundle_asks_for_what_llvm_may_use(name: str) -> None:
    spec = target.resolve(name)
    used = {CPUINFO_NAMES[one] for one in llvm_features(spec) if one in CPUINFO_NAMES}
    if spec.cpu_features:  # every Mac has what an M1 has
        assert used <= set(spec.cpu_features)
    assert "sve" not in used, "NEON kernels; SVE's registers would be another target"


@pytest.mark.parametrize(
    ("name", "features", "runs"),
    [
        ("arm-rpi3", A53, True),
        ("arm-rpi4", A53, True),
        ("arm-android", A53, True),
        ("arm-rpi5", A53, False),
        ("arm-rpi5", A76, True),
        ("arm-jetson-orin", A76, True),
        ("arm-rk3566", A76, True),
        ("arm-graviton2", A76, True),
        ("arm-graviton3", A76, False),
        ("arm-rpi4", A76, True),
        ("arm-rpi2-armv7", A7, True),
        ("arm-rpi2-armv7", A53, False),
    ],
)
def test_which_device_has_the_features(name: str, features: str, runs: bool) -> None:
    cpuinfo = "\n".join(CPUINFO.format(core=core, features=features) for core in range(4))
    missing = target.resolve(name).missing_features(cpu.parse_features(cpuinfo))
    assert (not missing) == runs


def test_a_little_core_decides() -> None:
    cpuinfo = CPUINFO.format(core=0, features=A53) + CPUINFO.format(core=4, features=A76)
    missing = target.resolve("arm-rpi5").missing_features(cpu.parse_features(cpuinfo))
    assert {"asimdhp", "asimddp"} <= set(missing)


@pytest.mark.parametrize("name", ARM)
def test_the_architecture_is_the_machines(name: str) -> None:
    machine = cpu.architecture_of(target.resolve(name).target["mtriple"])
    assert machine == ("armv7l" if "armv7" in name else "aarch64")


def test_a_bundle_of_another_architecture_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from support import tiny_bundle

    monkeypatch.setattr(cpu, "host_architecture", lambda: "riscv64")
    path = tmp_path / "b"
    tiny_bundle.write(path, target=bundle.Target("arm-rpi4", "aarch64-linux-gnu"))
    with pytest.raises(BadInput, match="this machine is riscv64"):
        bundle.open_bundle(path)


@pytest.mark.skipif(shutil.which("aarch64-linux-android24-clang") is not None, reason="NDK there")
def test_a_missing_linker_is_one_line(tmp_path: Path) -> None:
    from tvm_mobilenet.compiler import linking

    with pytest.raises(BadInput, match=r"aarch64-linux-android24-clang.*not installed") as caught:
        linking.link(
            None,
            tmp_path / "model.so",
            target.resolve("arm-android"),
        )
    assert "\n" not in str(caught.value)


# Facts of what is around a core, of which one system on a chip has more than another.
OF_THE_CHIP = {"clock_mhz", "l2_bytes", "l2_bandwidth", "memory_bandwidth"}


def test_targets_of_one_core_say_the_same_of_it() -> None:
    by_core: dict[str, list[TargetSpec]] = {}
    for spec in map(target.resolve, target.known()):
        if spec.gpu is None:
            by_core.setdefault(spec.target["mcpu"], []).append(spec)
    assert [one.name for one in by_core["cortex-a53"]] == ["arm-android", "arm-rpi3"]
    for first, *others in by_core.values():
        for other in others:
            shared = (first.facts.keys() & other.facts.keys()) - OF_THE_CHIP
            assert shared, f"{first.name} and {other.name} have no fact to compare"
            for fact in shared:
                assert first.facts[fact] == other.facts[fact], f"{fact} of {other.name}"
