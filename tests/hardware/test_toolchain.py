"""Compilers that are not installed: said before any work, in one line that says what to do."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pytest

from tvm_mobilenet import compile as compile_stage
from tvm_mobilenet.errors import BadInput
from tvm_mobilenet.hardware import target, toolchain
from tvm_mobilenet.network.source import NetworkSpec


@pytest.mark.parametrize(
    ("compiler", "package"),
    [
        ("aarch64-linux-gnu-gcc", "gcc-aarch64-linux-gnu"),
        ("aarch64-linux-gnu-gcc-12", "gcc-12-aarch64-linux-gnu"),
        ("aarch64-linux-gnu-g++", "g++-aarch64-linux-gnu"),
        ("arm-linux-gnueabihf-gcc", "gcc-arm-linux-gnueabihf"),
        ("aarch64-linux-android24-clang", "google-android-ndk-installer"),
        ("gcc", "gcc"),
        ("gcc-12", "gcc-12"),
        ("cc", "gcc"),
        ("c++", "g++"),
        ("clang", "clang"),
        ("clang++-19", "clang-19"),
        ("aarch64-linux-gnu-clang", None),
        ("oa64-clang", None),
        ("/opt/cross/gcc", None),
        ("icx", None),
    ],
)
def test_the_package_of_a_compiler(compiler: str, package: str | None) -> None:
    assert toolchain.package_of(compiler) == package


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("arm-rpi4", "aarch64-linux-gnu-gcc is not installed; apt-get install gcc-aarch64"),
        ("arm-android", "apt-get install google-android-ndk-installer, and put the NDK's toolch"),
        ("arm-apple-m1", "oa64-clang is not installed; put it on PATH, or name another"),
        ("cuda-sm_87", "aarch64-linux-gnu-gcc is not installed; apt-get install gcc-aarch64"),
    ],
)
def test_a_missing_compiler_is_said_before_any_work(
    name: str,
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def started(_: object) -> None:
        raise AssertionError("the network was opened first")

    monkeypatch.setattr(NetworkSpec, "open", started)
    monkeypatch.setattr(shutil, "which", lambda _: None)
    assert compile_stage.main(["--target", name, "-o", str(tmp_path / "b")]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert error.startswith(f"error: target {name}: ") and says in error
    assert not list(tmp_path.iterdir())


def test_the_linker_of_a_target_is_called() -> None:
    spec = target.resolve("x86-64-v3")
    assert toolchain.link_command(spec)[1:] == ("-shared",)
    lld = dataclasses.replace(spec, linker="lld")
    assert toolchain.link_command(lld)[1:] == ("-shared", "-fuse-ld=lld")


@pytest.mark.skipif(shutil.which("ld.gold") is None, reason="apt-get install binutils")
def test_gcc_takes_the_linker(tmp_path: Path) -> None:
    """gold leaves its name in what it links; one that is not there is an error of gcc's."""
    from tvm.script import tirx as T

    from tvm_mobilenet.compiler.cpu.lowering import lower
    from tvm_mobilenet.compiler.linking import link
    from tvm_mobilenet.errors import RunFailed

    @T.prim_func
    def main(x: T.Buffer((4,), "float32")) -> None:  # type: ignore[valid-type]
        for i in range(4):
            x[i] = T.float32(1)

    import tvm

    spec = dataclasses.replace(target.resolve("x86-64-v3"), linker="gold")
    code = lower(tvm.IRModule({"main": main}), spec.tvm_target())
    link(code, tmp_path / "gold.so", spec)
    assert b".note.gnu.gold-version" in (tmp_path / "gold.so").read_bytes()
    with pytest.raises(RunFailed, match=r"cannot link the library: .+") as caught:
        link(code, tmp_path / "other.so", dataclasses.replace(spec, linker="nonesuch"))
    assert "\n" not in str(caught.value)


def test_compiling_c_says_the_same(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="nonesuch-gcc is not installed; apt-get install gcc-nones"):
        toolchain.compile_c(tmp_path / "a.c", tmp_path / "a", "nonesuch-gcc", ())
