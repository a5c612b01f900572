"""Opening a bundle: nothing in it is loaded before everything in it is checked."""

from __future__ import annotations

import contextlib
import os
import shutil
import tarfile
import weakref
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tvm_mobilenet import files, tvm_runtime
from tvm_mobilenet.bundle import signing
from tvm_mobilenet.bundle.layout import (
    FILE_NAME,
    LIBRARY,
    MANIFEST,
    PARAMETERS,
    SIGNATURE,
    TOLERANCE,
    describe_array,
    expected_output_name,
    required_files,
    sample_input_name,
    sha256_of,
)
from tvm_mobilenet.bundle.manifest import Manifest, ManifestError, TensorInfo, from_json
from tvm_mobilenet.errors import BadInput
from tvm_mobilenet.hardware import cpu

ANY_ARCHITECTURE = "any"
CHECKS_WEIGHTS = "static"  # the executor whose libraries know their weights
NEEDS_TVM = "vm"  # the executor whose libraries call TVM's runtime


class Bundle:
    """A bundle whose checks have passed. Close it, or use it as a context manager."""

    def __init__(
        self, path: Path, folder: Path, manifest: Manifest, temporary: Path | None
    ) -> None:
        self.path = path
        self.folder = folder
        self.manifest = manifest
        self._remove = None
        if temporary is not None:
            self._remove = weakref.finalize(self, shutil.rmtree, temporary, ignore_errors=True)

    @property
    def library(self) -> Path:
        return self.folder / LIBRARY

    @property
    def parameters(self) -> Path:
        return self.folder / PARAMETERS

    @property
    def signed(self) -> bool:
        """Whether somebody signed it; by whom only a key tells."""
        return (self.folder / SIGNATURE).is_file()

    def sample_input(self) -> NDArray[Any]:
        """The first input, of the manifest's shape and dtype; most networks have no other."""
        return self.sample_inputs()[0]

    def sample_inputs(self) -> tuple[NDArray[Any], ...]:
        """An array of the manifest's shape and dtype for each input."""
        inputs = self.manifest.inputs
        return tuple(self._array(sample_input_name(i), one) for i, one in enumerate(inputs))

    def expected_outputs(self) -> tuple[NDArray[Any], ...]:
        """What the reference gave for the sample input, one array per output."""
        outputs = self.manifest.outputs
        return tuple(
            self._array(expected_output_name(i), output) for i, output in enumerate(outputs)
        )

    def tolerance(self) -> float:
        """The largest relative difference ‖a - b‖ / ‖b‖ from the expected output that is right."""
        text = (self.folder / TOLERANCE).read_text(encoding="utf-8", errors="replace").strip()
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not 0 < value < float("inf"):
            raise BadInput(f"{self.path}: tolerance: expected a positive number, got {text[:40]!r}")
        return value

    def close(self) -> None:
        """Remove what a .tar was unpacked into."""
        if self._remove is not None:
            self._remove()

    def __enter__(self) -> Bundle:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _array(self, name: str, info: TensorInfo) -> NDArray[Any]:
        try:
            array: NDArray[Any] = np.load(self.folder / name, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise BadInput(f"{self.path}: {name} is not a numpy array: {error}") from error
        if (array.shape, array.dtype) != (info.shape, np.dtype(info.dtype)):
            raise BadInput(
                f"{self.path}: {name}: expected {describe_array(info.shape, info.dtype)}, "
                f"got {describe_array(array.shape, array.dtype)}; compile it again"
            )
        return array


def open_bundle(
    path: str | Path,
    for_architecture: str | None = None,
    *,
    verify_key: str | Path | None = None,
    to_load: bool = False,
) -> Bundle:
    """Open the bundle at ``path``, a directory or a .tar, after every check.

    In this order: readable, signed by ``verify_key`` where that is given, its format, made for this
    architecture and for instructions that this CPU has, compiled by the TVM that is installed if it
    needs that, every file there and unchanged. Nothing in it has run by then. Raises BadInput, one
    line, where a check fails.

    One that is opened ``to_load`` its library leaves the weights, which are most of it, to the hash
    that the library knows them by; that is no seal, so with a key their SHA-256 is compared too.

    A bundle that is to run on another machine, such as a device that it will be sent to, is opened
    ``for_architecture`` (``aarch64``, or ANY_ARCHITECTURE): of the machine's checks that is then
    the only one.
    """
    path = Path(path)
    with contextlib.ExitStack() as on_error:
        folder, temporary = path, None
        if not os.path.isdir(path):  # Path.is_dir raises where a folder above cannot be searched
            temporary = files.make_temporary_folder()
            on_error.callback(shutil.rmtree, temporary, ignore_errors=True)
            folder = _unpack(path, temporary)
        manifest = _read_manifest(path, folder, None if verify_key is None else Path(verify_key))
        if for_architecture is None:
            _check_machine(path, manifest)
            _check_tvm_version(path, manifest)
        elif for_architecture != ANY_ARCHITECTURE:
            _check_architecture(path, manifest, for_architecture, "expected")
        bundle = Bundle(path, folder, manifest, temporary)
        by_library = to_load and verify_key is None and manifest.executor == CHECKS_WEIGHTS
        _check_files(path, folder, manifest, left_out=(PARAMETERS,) if by_library else ())
        on_error.pop_all()
    return bundle


def _unpack(path: Path, temporary: Path) -> Path:
    """Unpack the .tar into ``temporary``; the folder in it that holds the manifest."""
    try:
        with tarfile.open(path, "r:") as archive:
            for member in archive:
                _unpack_member(path, archive, member, temporary)
    except FileNotFoundError:
        raise BadInput(
            f"{path}: no such bundle; expected a directory or a .tar made by 'compile'"
        ) from None
    except OSError as error:
        if error.errno in files.NO_ROOM:
            raise BadInput(
                f"{path}: cannot be unpacked into {files.temporary_root()}: {error.strerror}; make "
                "room, or set TMPDIR to another folder"
            ) from error
        raise BadInput(f"{path}: cannot be read: {error.strerror or error}") from error
    except tarfile.TarError as error:
        raise BadInput(
            f"{path}: not a readable bundle ({error}); expected a directory or a .tar made by "
            "'compile'"
        ) from error
    # "tar cf b.tar folder" has the folder's name in front, "tar cf b.tar -C folder ." has not
    entries = list(temporary.iterdir())
    if len(entries) == 1 and entries[0].is_dir():
        return entries[0]
    return temporary


def _unpack_member(
    path: Path, archive: tarfile.TarFile, member: tarfile.TarInfo, temporary: Path
) -> None:
    """Unpack one regular file; refuse links, devices, and names that lead out of ``temporary``.

    By hand, not by ``extractall(filter="data")``: Debian 12's Python 3.11.2 has no such filter,
    and a bundle needs less than the filter lets through. Modes and owners are not restored.
    """
    if member.isdir():
        return
    if member.name.startswith("/") or ".." in Path(member.name).parts:
        raise BadInput(f"{path}: {member.name!r} points outside the bundle; not opened")
    content = archive.extractfile(member) if member.isreg() else None
    # a sparse file could unpack to any size
    if content is None or member.issparse():
        raise BadInput(f"{path}: {member.name!r} is not a regular file; not opened")
    file = temporary / member.name
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("wb") as stream:
        shutil.copyfileobj(content, stream)


def _read_manifest(path: Path, folder: Path, verify_key: Path | None) -> Manifest:
    try:
        content = (folder / MANIFEST).read_bytes()
    except FileNotFoundError:
        raise BadInput(
            f"{path}: holds no {MANIFEST}; expected a bundle made by 'compile'"
        ) from None
    except OSError as error:
        raise BadInput(f"{path}: {MANIFEST} cannot be read: {error.strerror}") from error
    if verify_key is not None:
        signing.check(path, folder, content, verify_key)
    try:
        return from_json(content.decode("utf-8"))
    except UnicodeDecodeError:
        raise BadInput(f"{path}: {MANIFEST}: not UTF-8 text") from None
    except ManifestError as error:
        raise BadInput(f"{path}: {MANIFEST}: {error}") from error


def _check_machine(path: Path, manifest: Manifest) -> None:
    _check_architecture(path, manifest, cpu.host_architecture(), "this machine is")
    missing = sorted(set(manifest.cpu_features) - cpu.host_features())
    if missing:
        raise BadInput(
            f"{path}: made for {manifest.target.name}, this CPU ({cpu.host_model()}) has no "
            f"{', '.join(missing)}; compile it for this machine's target"
        )


def _check_architecture(path: Path, manifest: Manifest, expected: str, who: str) -> None:
    made_for = cpu.architecture_of(manifest.target.triple)
    if made_for != expected:
        raise BadInput(
            f"{path}: made for {made_for} ({manifest.target.name}), {who} {expected}; "
            "compile it for that"
        )


def _check_tvm_version(path: Path, manifest: Manifest) -> None:
    if manifest.executor != NEEDS_TVM:
        return
    installed = tvm_runtime.version()
    if installed is None:  # a bare runtime library does not tell its version
        return
    if not tvm_runtime.run_the_same(manifest.tvm_version, installed):
        raise BadInput(
            f"{path}: compiled by TVM {manifest.tvm_version}, TVM {installed} is installed; "
            f"compile it again, or pip install apache-tvm=={manifest.tvm_version}"
        )


def _check_files(
    path: Path, folder: Path, manifest: Manifest, left_out: Collection[str] = ()
) -> None:
    embedded = manifest.embedded_weights
    for name in required_files(len(manifest.inputs), len(manifest.outputs), embedded=embedded):
        if name not in manifest.files:
            raise BadInput(f"{path}: {MANIFEST}: files does not list {name}; compile it again")
    for name in manifest.files:
        if not FILE_NAME.fullmatch(name):
            raise BadInput(f"{path}: {MANIFEST}: files: {name!r} is not a file of a bundle")
        if name not in left_out:
            _check_file(path, folder, manifest, name)
    if embedded:
        return
    try:
        size = (folder / PARAMETERS).stat().st_size
    except OSError as error:
        raise BadInput(f"{path}: {PARAMETERS} cannot be read: {error.strerror}") from error
    if size != manifest.parameters_bytes:
        raise BadInput(
            f"{path}: {PARAMETERS} has {size} bytes, {MANIFEST} says {manifest.parameters_bytes}; "
            "compile it again"
        )


def _check_file(path: Path, folder: Path, manifest: Manifest, name: str) -> None:
    expected = manifest.files[name]
    try:
        got = sha256_of(folder / name)
    except FileNotFoundError:
        raise BadInput(f"{path}: {name} is missing; copy the bundle again, or compile it") from None
    except OSError as error:
        raise BadInput(f"{path}: {name} cannot be read: {error.strerror}") from error
    if got != expected:
        raise BadInput(
            f"{path}: {name} is not the file that was compiled (SHA-256 {got[:12]}…, expected "
            f"{expected[:12]}…); copy the bundle again, or compile it"
        )
