"""Bundles on disk: written whole, checked before anything of them is loaded."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import tiny_bundle

from tvm_mobilenet import bundle, tvm_runtime
from tvm_mobilenet.benchmark.cases import bundle_candidate
from tvm_mobilenet.errors import BadInput, RunFailed
from tvm_mobilenet.hardware import cpu


def edit_manifest(path: Path, **changes: Any) -> None:
    file = path / "manifest.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


@pytest.mark.parametrize("name", ["tiny", "tiny.tar", "new/folders/tiny"])
def test_round_trip(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    written = tiny_bundle.write(path, two_outputs=True)
    with bundle.open_bundle(path) as opened:
        assert opened.manifest == written
        assert opened.library.read_bytes() == b"not a library"
        assert opened.parameters.read_bytes() == b"\1\2\3"
        assert opened.tolerance() == 1e-5
        x = opened.sample_input()
        np.testing.assert_array_equal(x, tiny_bundle.sample_input())
        logits, doubled = opened.expected_outputs()
        np.testing.assert_array_equal(logits, tiny_bundle.reference(x))
        np.testing.assert_array_equal(doubled, 2 * x)
    assert written.parameters_bytes == 3
    assert set(written.files) == {*bundle.required_files(1, 2)}
    # nothing is left beside it
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_a_tar_is_unpacked_until_closed(tmp_path: Path) -> None:
    tiny_bundle.write(tmp_path / "tiny.tar")
    opened = bundle.open_bundle(tmp_path / "tiny.tar")
    assert opened.library.is_file()
    opened.close()
    assert not opened.folder.exists()
    opened.close()  # once more does no harm


@pytest.mark.parametrize("prefix", ["", "./", "folder/"])
def test_a_tar_made_by_hand(tmp_path: Path, prefix: str) -> None:
    tiny_bundle.write(tmp_path / "tiny")
    with tarfile.open(tmp_path / "hand.tar", "w") as archive:
        for file in (tmp_path / "tiny").iterdir():
            archive.add(file, prefix + file.name)
    with bundle.open_bundle(tmp_path / "hand.tar") as opened:
        assert opened.manifest.precision == "fp32"


# What is wrong with the bundle, how it came so, and what the line says of it


def truncate(path: Path) -> None:
    library = path / "model.so"
    library.write_bytes(library.read_bytes()[:-1])


def change_parameters(path: Path) -> None:
    (path / "parameters.bin").write_bytes(b"\1\2\4")


def list_no_library(path: Path) -> None:
    files = json.loads((path / "manifest.json").read_text())["files"]
    del files["model.so"]
    edit_manifest(path, files=files)


def list_a_file_outside(path: Path) -> None:
    files = json.loads((path / "manifest.json").read_text())["files"]
    edit_manifest(path, files=files | {"../secret": "0"})


def folder_for_a_file(path: Path) -> None:
    (path / "tolerance").unlink()
    (path / "tolerance").mkdir()


def binary_manifest(path: Path) -> None:
    (path / "manifest.json").write_bytes(b"\xff\xfe")


def other_architecture(path: Path) -> None:
    target = {"name": "arm-rpi4", "triple": "riscv64-linux-gnu", "gpu_arch": None}
    edit_manifest(path, target=target)


FAULTS: dict[str, tuple[Callable[[Path], None], str]] = {
    "truncated library": (truncate, "model.so is not the file that was compiled (SHA-256"),
    "changed parameters": (change_parameters, "parameters.bin is not the file that was compiled"),
    "missing file": (lambda path: (path / "sample_input.npy").unlink(), "sample_input.npy is miss"),
    "missing manifest": (lambda path: (path / "manifest.json").unlink(), "holds no manifest.json"),
    "binary manifest": (binary_manifest, "manifest.json: "),
    "library not listed": (list_no_library, "files does not list model.so"),
    "file outside": (list_a_file_outside, "'../secret' is not a file of a bundle"),
    "unreadable file": (folder_for_a_file, "tolerance cannot be read: Is a directory"),
    "newer format": (lambda path: edit_manifest(path, format_version=7), "7 is newer than"),
    "other architecture": (other_architecture, "made for riscv64 (arm-rpi4), this machine is"),
    "other TVM": (
        lambda path: edit_manifest(path, tvm_version="0.28.0", executor="vm"),
        "compiled by TVM 0.28.0",
    ),
    "missing CPU feature": (
        lambda path: edit_manifest(path, cpu_features=["avx9000"]),
        "has no avx9000; compile it for this machine's target",
    ),
    "size of parameters": (lambda path: edit_manifest(path, parameters_bytes=4), "has 3 bytes"),
}


@pytest.mark.parametrize(("damage", "message"), FAULTS.values(), ids=FAULTS.keys())
def test_a_damaged_bundle_is_refused(
    tmp_path: Path, damage: Callable[[Path], None], message: str
) -> None:
    path = tmp_path / "tiny"
    tiny_bundle.write(path)
    damage(path)
    with pytest.raises(BadInput) as error:
        bundle.open_bundle(path)
    assert message in str(error.value)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_cpu_without_the_instructions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny_bundle.write(tmp_path / "tiny", cpu_features=("avx2", "fma"))
    monkeypatch.setattr(cpu, "host_features", lambda: frozenset({"avx2", "fma", "avx512f"}))
    bundle.open_bundle(tmp_path / "tiny")
    monkeypatch.setattr(cpu, "host_features", lambda: frozenset({"avx2"}))
    with pytest.raises(BadInput, match="has no fma"):
        bundle.open_bundle(tmp_path / "tiny")


def test_a_post_release_of_tvm_is_the_same_tvm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny_bundle.write(tmp_path / "tiny")
    monkeypatch.setattr(tvm_runtime, "version", lambda: "0.27.1")
    bundle.open_bundle(tmp_path / "tiny")
    monkeypatch.setattr(tvm_runtime, "version", lambda: None)  # a bare runtime library
    bundle.open_bundle(tmp_path / "tiny")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything; run as another user")
def test_a_folder_that_cannot_be_searched(tmp_path: Path) -> None:
    tiny_bundle.write(tmp_path / "closed" / "tiny")
    (tmp_path / "closed").chmod(0)
    try:
        with pytest.raises(BadInput, match="Permission denied"):
            bundle.open_bundle(tmp_path / "closed" / "tiny")
        with pytest.raises(BadInput, match="Permission denied"):
            bundle.check_writable(tmp_path / "closed" / "other")
    finally:
        (tmp_path / "closed").chmod(0o700)


def test_no_bundle_at_all(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no such bundle"):
        bundle.open_bundle(tmp_path / "absent")
    (tmp_path / "text.tar").write_text("hello")
    with pytest.raises(BadInput, match=r"not a readable bundle .* expected a directory or a .tar"):
        bundle.open_bundle(tmp_path / "text.tar")
    with pytest.raises(BadInput, match=f"^{'x' * 300}: cannot be read: File name too long$"):
        bundle.open_bundle("x" * 300)


def test_a_truncated_tar(tmp_path: Path) -> None:
    path = tmp_path / "tiny.tar"
    tiny_bundle.write(path)
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(BadInput, match=r"tiny\.tar: "):
        bundle.open_bundle(path)


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


@pytest.mark.parametrize(
    "unusual",
    [
        member("../evil"),
        member("folder/../../evil"),
        member("/tmp/evil"),
        member("model.so", tarfile.SYMTYPE, "/etc/passwd"),
        member("model.so", tarfile.LNKTYPE, "../evil"),
        member("model.so", tarfile.FIFOTYPE),
    ],
    ids=lambda info: f"{info.name}-{info.type.decode()}",
)
def test_a_tar_that_would_write_elsewhere(
    tmp_path: Path, unusual: tarfile.TarInfo, monkeypatch: pytest.MonkeyPatch
) -> None:
    unpacked = tmp_path / "unpacked"
    unpacked.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(unpacked))
    path = tmp_path / "evil.tar"
    with tarfile.open(path, "w") as archive:
        archive.addfile(unusual, io.BytesIO())
    with pytest.raises(BadInput, match="not opened"):
        bundle.open_bundle(path)
    assert list(unpacked.iterdir()) == []
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["evil.tar", "unpacked"]


@pytest.mark.parametrize("name", ["tiny", "tiny.tar"])
def test_a_bundle_is_replaced(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    tiny_bundle.write(path, library=b"first")
    tiny_bundle.write(path, library=b"second")
    with bundle.open_bundle(path) as opened:
        assert opened.library.read_bytes() == b"second"
    assert [entry.name for entry in tmp_path.iterdir()] == [name]


def test_a_tar_gives_way_to_a_folder(tmp_path: Path) -> None:
    tiny_bundle.write(tmp_path / "first.tar")
    (tmp_path / "first.tar").rename(tmp_path / "tiny")
    tiny_bundle.write(tmp_path / "tiny")
    assert (tmp_path / "tiny" / "model.so").is_file()


def test_a_link_to_a_bundle_stays_a_link(tmp_path: Path) -> None:
    tiny_bundle.write(tmp_path / "real", library=b"first")
    (tmp_path / "latest").symlink_to("real")
    tiny_bundle.write(tmp_path / "latest", library=b"second")
    assert (tmp_path / "latest").is_symlink()
    assert (tmp_path / "real" / "model.so").read_bytes() == b"second"


def test_what_is_not_a_bundle_is_left_alone(tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    notes.mkdir()
    bundle.check_writable(notes)  # empty
    (notes / "todo.txt").write_text("mine")
    with pytest.raises(BadInput, match="exists and is not a bundle"):
        bundle.check_writable(notes)
    with pytest.raises(BadInput, match="exists and is not a bundle"):
        bundle.check_writable(notes / "todo.txt")
    with pytest.raises(BadInput, match="exists and is not a bundle"):
        tiny_bundle.write(notes)
    assert (notes / "todo.txt").read_text() == "mine"


def test_a_bundle_with_the_users_own_file_in_it_is_left_alone(tmp_path: Path) -> None:
    tiny_bundle.write(tmp_path / "tiny")
    (tmp_path / "tiny" / "notes.txt").write_text("mine")
    assert bundle.is_bundle(tmp_path / "tiny")
    with pytest.raises(BadInput, match="exists and is not a bundle"):
        bundle.check_writable(tmp_path / "tiny")


def test_where_nothing_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match="cannot write into"):
        bundle.check_writable(tmp_path / "file" / "tiny")
    with pytest.raises(BadInput, match="cannot write into"):
        bundle.check_writable("/proc/tiny")
    with pytest.raises(BadInput, match="File name too long; choose another path"):
        bundle.check_writable(tmp_path / ("x" * 250))  # beside it there is a longer one for a while


def test_a_write_that_fails_leaves_the_old_bundle(tmp_path: Path) -> None:
    path = tmp_path / "tiny"
    tiny_bundle.write(path, library=b"first")
    x = tiny_bundle.sample_input()
    with pytest.raises(RunFailed, match="could not be written"):
        bundle.write(
            path,
            tiny_bundle.manifest(),
            library=tmp_path / "absent.so",
            parameters=tiny_bundle.WEIGHTS,
            sample_inputs=[x],
            expected_outputs=[tiny_bundle.reference(x)],
            licenses="",
        )
    assert bundle.open_bundle(path).library.read_bytes() == b"first"
    assert [entry.name for entry in tmp_path.iterdir()] == ["tiny"]


def test_arrays_other_than_the_manifests_are_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="logits: expected float32 of shape 1x3, got"):
        bundle.write(
            tmp_path / "tiny",
            tiny_bundle.manifest(),
            library=tmp_path / "absent.so",
            parameters=tiny_bundle.WEIGHTS,
            sample_inputs=[tiny_bundle.sample_input()],
            expected_outputs=[np.zeros((1, 4), np.float32)],
            licenses="",
        )


@pytest.mark.parametrize("name", ["tiny", "tiny.tar"])
def test_an_accuracy_is_recorded_and_nothing_else_changes(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    below = {"lib/libtiny.so": b"not a library", "lib/cmake/tiny/tinyConfig.cmake": b"# none\n"}
    before = tiny_bundle.write(path, package=below)
    found = bundle.Accuracy(354, 360, "digits test set")
    bundle.record_accuracy(path, found)
    with bundle.open_bundle(path) as opened:
        assert opened.manifest == dataclasses.replace(before, accuracy=found)
        np.testing.assert_array_equal(opened.sample_input(), tiny_bundle.sample_input())
    assert bundle_candidate(path).accuracy == found
    with pytest.raises(BadInput, match="accuracy: expected 0 to 3 correct images, got 4"):
        bundle.record_accuracy(path, bundle.Accuracy(4, 3, "x"))
    assert [one.name for one in tmp_path.iterdir()] == [name]
