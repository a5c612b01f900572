"""A bundle on disk: the compiled library, its parameters and everything needed to check them.

A directory, or the same as one ``.tar``:

    manifest.json          what it is (``tvm_mobilenet.manifest``), with the hash of every file
    model.so               the compiled library; exports ``infer``
    parameters.bin         the packed weights, raw bytes
    sample_input.npy       an input, and
    expected_output.npy    what the reference gave for it (a second output: expected_output_1.npy)
    tolerance              how far a result may be from that: ‖a - b‖ / ‖b‖
    LICENSES               of the code and weights inside
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import io
import os
import re
import shutil
import tarfile
import tempfile
import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tvm_mobilenet import cpu, tvm_runtime
from tvm_mobilenet.errors import BadInput, RunFailed
from tvm_mobilenet.manifest import (
    FORMAT_VERSION,
    Layer,
    Manifest,
    ManifestError,
    Normalisation,
    Target,
    TensorInfo,
    from_json,
    to_json,
)
from tvm_mobilenet.timestamp import now

__all__ = [
    "ANY_ARCHITECTURE",
    "FORMAT_VERSION",
    "Bundle",
    "Layer",
    "Manifest",
    "Normalisation",
    "Target",
    "TensorInfo",
    "check_writable",
    "is_bundle",
    "open_bundle",
    "write",
]

ANY_ARCHITECTURE = "any"
MANIFEST = "manifest.json"
LIBRARY = "model.so"
PARAMETERS = "parameters.bin"
SAMPLE_INPUT = "sample_input.npy"
TOLERANCE = "tolerance"
LICENSES = "LICENSES"

# a manifest names files of its own directory only: nothing else is ever opened
_FILE_NAME = re.compile(
    r"model\.so|parameters\.bin|sample_input\.npy|expected_output(_[1-9]\d*)?\.npy"
    r"|tolerance|LICENSES"
)


def expected_output_name(index: int) -> str:
    """The file of the expected output number ``index``, counted from 0."""
    return f"expected_output_{index}.npy" if index else "expected_output.npy"


def required_files(outputs: int) -> tuple[str, ...]:
    """The files, beside the manifest, of a bundle with this many outputs."""
    expected = (expected_output_name(index) for index in range(outputs))
    return (LIBRARY, PARAMETERS, SAMPLE_INPUT, *expected, TOLERANCE, LICENSES)


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

    def sample_input(self) -> NDArray[Any]:
        """An input of the manifest's shape and dtype."""
        return self._array(SAMPLE_INPUT, self.manifest.inputs[0])

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
            raise BadInput(f"{self.path}: tolerance: wanted a positive number, came {text[:40]!r}")
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
                f"{self.path}: {name}: wanted {_described(info.shape, info.dtype)}, "
                f"came {_described(array.shape, array.dtype)}; compile it again"
            )
        return array


# Opening


def open_bundle(path: str | Path, for_architecture: str | None = None) -> Bundle:
    """Open the bundle at ``path``, a directory or a .tar, after every check.

    In this order: readable, its format, made for this architecture and for instructions that this
    CPU has, compiled by the TVM that is installed, every file there and unchanged. Nothing in it
    has run by then. Raises BadInput, one line, where a check fails.

    A bundle that is to run on another machine, such as a device that it will be sent to, is opened
    ``for_architecture`` (``aarch64``, or ANY_ARCHITECTURE): of the machine's checks that is then
    the only one.
    """
    path = Path(path)
    with contextlib.ExitStack() as on_error:
        folder, temporary = path, None
        if not os.path.isdir(path):  # Path.is_dir raises where a folder above cannot be searched
            temporary = Path(tempfile.mkdtemp(prefix="tvm-mobilenet-"))
            on_error.callback(shutil.rmtree, temporary, ignore_errors=True)
            folder = _unpack(path, temporary)
        manifest = _read_manifest(path, folder)
        if for_architecture is None:
            _check_machine(path, manifest)
            _check_tvm_version(path, manifest)
        elif for_architecture != ANY_ARCHITECTURE:
            _check_architecture(path, manifest, for_architecture, "wanted")
        _check_files(path, folder, manifest)
        on_error.pop_all()
    return Bundle(path, folder, manifest, temporary)


def _unpack(path: Path, temporary: Path) -> Path:
    """Unpack the .tar into ``temporary``; the folder in it that holds the manifest."""
    try:
        with tarfile.open(path, "r:") as archive:
            for member in archive:
                _unpack_member(path, archive, member, temporary)
    except FileNotFoundError:
        raise BadInput(
            f"{path}: no such bundle; wanted a directory or a .tar made by 'compile'"
        ) from None
    except (tarfile.TarError, OSError) as error:
        raise BadInput(f"{path}: not a readable bundle: {error}") from error
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


def _read_manifest(path: Path, folder: Path) -> Manifest:
    try:
        return from_json((folder / MANIFEST).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BadInput(f"{path}: holds no {MANIFEST}; wanted a bundle made by 'compile'") from None
    except OSError as error:
        raise BadInput(f"{path}: {MANIFEST} cannot be read: {error.strerror}") from error
    except (ManifestError, UnicodeDecodeError) as error:
        raise BadInput(f"{path}: {MANIFEST}: {error}") from error


def _check_machine(path: Path, manifest: Manifest) -> None:
    _check_architecture(path, manifest, cpu.host_architecture(), "this machine is")
    missing = sorted(set(manifest.cpu_features) - cpu.host_features())
    if missing:
        raise BadInput(
            f"{path}: made for {manifest.target.name}, this CPU ({cpu.host_model()}) has no "
            f"{', '.join(missing)}; compile it for this machine's target"
        )


def _check_architecture(path: Path, manifest: Manifest, wanted: str, who: str) -> None:
    made_for = cpu.architecture_of(manifest.target.triple)
    if made_for != wanted:
        raise BadInput(
            f"{path}: made for {made_for} ({manifest.target.name}), {who} {wanted}; "
            "compile it for that"
        )


def _check_tvm_version(path: Path, manifest: Manifest) -> None:
    installed = tvm_runtime.version()
    if installed is None:  # a bare runtime library does not tell its version
        return
    if _major_minor(manifest.tvm_version) != _major_minor(installed):
        raise BadInput(
            f"{path}: compiled by TVM {manifest.tvm_version}, TVM {installed} is installed; "
            f"compile it again, or pip install apache-tvm=={manifest.tvm_version}"
        )


def _major_minor(version: str) -> list[str]:
    return version.split(".")[:2]


def _check_files(path: Path, folder: Path, manifest: Manifest) -> None:
    for name in required_files(len(manifest.outputs)):
        if name not in manifest.files:
            raise BadInput(f"{path}: {MANIFEST}: files does not list {name}; compile it again")
    for name, wanted in manifest.files.items():
        if not _FILE_NAME.fullmatch(name):
            raise BadInput(f"{path}: {MANIFEST}: files: {name!r} is not a file of a bundle")
        try:
            came = _sha256(folder / name)
        except FileNotFoundError:
            raise BadInput(
                f"{path}: {name} is missing; copy the bundle again, or compile it"
            ) from None
        except OSError as error:
            raise BadInput(f"{path}: {name} cannot be read: {error.strerror}") from error
        if came != wanted:
            raise BadInput(
                f"{path}: {name} is not the file that was compiled (SHA-256 {came[:12]}…, wanted "
                f"{wanted[:12]}…); copy the bundle again, or compile it"
            )
    size = (folder / PARAMETERS).stat().st_size
    if size != manifest.parameters_bytes:
        raise BadInput(
            f"{path}: {PARAMETERS} has {size} bytes, {MANIFEST} says {manifest.parameters_bytes}; "
            "compile it again"
        )


def _sha256(file: Path) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


# Writing


def check_writable(path: str | Path) -> None:
    """Raise BadInput, before any work, where ``write(path, ...)`` could not put a bundle.

    ``path`` may be new, an empty directory or a bundle, which is then replaced; anything else
    there is left alone. Folders above it are made by ``write``.
    """
    path = Path(path)
    if os.path.lexists(path) and not _is_replaceable(path):
        raise BadInput(
            f"{path}: exists and is not a bundle; choose another path, or remove it first"
        )
    parent = path.absolute().parent
    while not os.path.exists(parent):
        parent = parent.parent
    # a trial, since permission bits tell nothing on a read-only or full file system
    try:
        Path(tempfile.mkdtemp(prefix=".tvm-mobilenet-", dir=parent)).rmdir()
    except OSError as error:
        raise BadInput(
            f"{path}: cannot write into {parent}: {error.strerror}; choose another path"
        ) from error


def is_bundle(path: str | Path) -> bool:
    """Whether a bundle, of any format version, lies at ``path``; says nothing of its state."""
    path = Path(path)
    if path.is_dir():
        return (path / MANIFEST).is_file() and (path / LIBRARY).is_file()
    try:
        with tarfile.open(path, "r:") as archive:
            names = {Path(name).name for name in archive.getnames()}
    except (tarfile.TarError, OSError):
        return False
    return {MANIFEST, LIBRARY} <= names


def write(
    path: str | Path,
    manifest: Manifest,
    *,
    library: Path,
    parameters: NDArray[Any],
    sample_input: NDArray[Any],
    expected_outputs: Sequence[NDArray[Any]],
    tolerance: float = 1e-4,
    licenses: str,
) -> Manifest:
    """Write a bundle to ``path``: a .tar where it ends so, else a directory.

    The bundle appears whole or not at all; one that was there before is replaced. ``parameters``
    is written as its raw bytes in C order; ``tolerance`` is relative. Returns the manifest as
    written, with ``parameters_bytes``, ``files`` and ``created`` filled in. Raises
    BadInput as ``check_writable`` does, and ValueError for arrays other than the manifest's.
    """
    path = Path(path).resolve()  # a link to a bundle stays one
    _check_array("sample_input", sample_input, manifest.inputs[0])
    for info, array in zip(manifest.outputs, expected_outputs, strict=True):
        _check_array(info.name, array, info)
    check_writable(path)

    with _beside(path) as folder:
        shutil.copyfile(library, folder / LIBRARY)
        parameters.tofile(folder / PARAMETERS)
        np.save(folder / SAMPLE_INPUT, sample_input)
        for index, array in enumerate(expected_outputs):
            np.save(folder / expected_output_name(index), array)
        (folder / TOLERANCE).write_text(f"{float(tolerance)!r}\n", encoding="utf-8")
        (folder / LICENSES).write_text(licenses, encoding="utf-8")
        manifest = dataclasses.replace(
            manifest,
            parameters_bytes=(folder / PARAMETERS).stat().st_size,
            files={name: _sha256(folder / name) for name in required_files(len(expected_outputs))},
            created=now(),
        )
        text = to_json(manifest)
        (folder / MANIFEST).write_text(text, encoding="utf-8")
        _replace(path, _packed(folder) if path.suffix == ".tar" else folder)
    return from_json(text)


def _is_replaceable(path: Path) -> bool:
    """An empty directory, or a bundle with nothing of the user's own in it."""
    if not path.is_dir():
        return is_bundle(path)
    names = {entry.name for entry in path.iterdir()}
    ours = {name for name in names if name == MANIFEST or _FILE_NAME.fullmatch(name)}
    return not names or (is_bundle(path) and names == ours)


def _check_array(name: str, array: NDArray[Any], info: TensorInfo) -> None:
    if (array.shape, array.dtype) != (info.shape, np.dtype(info.dtype)):
        raise ValueError(
            f"{name}: wanted {_described(info.shape, info.dtype)}, "
            f"came {_described(array.shape, array.dtype)}"
        )


@contextlib.contextmanager
def _beside(path: Path) -> Iterator[Path]:
    """A new folder on the file system of ``path``, from which a rename can put things there.

    An OSError inside, such as a full disk, is a RunFailed; the folder goes in any case.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{path.name}-", dir=path.parent) as scratch:
            folder = Path(scratch, "bundle")
            folder.mkdir()
            yield folder
    except OSError as error:
        raise RunFailed(f"{path}: the bundle could not be written: {error}") from error


def _packed(folder: Path) -> Path:
    """The files of ``folder`` as a .tar next to it."""
    archive_path = folder.with_suffix(".tar")
    with tarfile.open(archive_path, "w") as archive:
        for file in sorted(folder.iterdir()):
            content = file.read_bytes()
            # owner, mode and time stay at their defaults: they would say who compiled it, and when
            member = tarfile.TarInfo(file.name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return archive_path


def _replace(path: Path, new: Path) -> None:
    """Put ``new`` at ``path``; whatever is there moves aside first where a rename needs that."""
    if not path.exists() or (path.is_file() and new.is_file()):
        new.replace(path)
        return
    old = new.with_name("old")
    path.rename(old)
    try:
        new.rename(path)
    except OSError:
        old.rename(path)
        raise


def _described(shape: tuple[int, ...], dtype: object) -> str:
    return f"{dtype} of shape {'x'.join(map(str, shape)) or '()'}"
