"""Writing a bundle: whole or not at all."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import os
import shutil
import tarfile
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tvm_mobilenet.bundle import signing
from tvm_mobilenet.bundle.layout import (
    FILE_NAME,
    LIBRARY,
    LICENSES,
    MANIFEST,
    PARAMETERS,
    SIGNATURE,
    TOLERANCE,
    describe_array,
    expected_output_name,
    is_bundle,
    sample_input_name,
    sha256_of,
)
from tvm_mobilenet.bundle.manifest import Manifest, TensorInfo, from_json, to_json
from tvm_mobilenet.bundle.reading import ANY_ARCHITECTURE, Bundle, open_bundle
from tvm_mobilenet.errors import BadInput, RunFailed
from tvm_mobilenet.models.accuracy import Accuracy
from tvm_mobilenet.provenance import now

UNLISTED = (MANIFEST, SIGNATURE)  # among a manifest's files


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
        Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=parent)).rmdir()
    except OSError as error:
        raise BadInput(
            f"{path}: cannot write into {parent}: {error.strerror}; choose another path"
        ) from error


def write(
    path: str | Path,
    manifest: Manifest,
    *,
    library: Path,
    parameters: NDArray[Any],
    sample_inputs: Sequence[NDArray[Any]],
    expected_outputs: Sequence[NDArray[Any]],
    tolerance: float = 1e-4,
    licenses: str,
    package: Mapping[str, bytes] = MappingProxyType({}),
) -> Manifest:
    """Write a bundle to ``path``: a .tar where it ends so, else a directory.

    The bundle appears whole or not at all; one that was there before is replaced. ``parameters``
    is written as its raw bytes in C order, unless the library holds them; ``tolerance`` is
    relative; ``package`` are further files by their place. Returns the manifest as
    written, with ``parameters_bytes``, ``files`` and ``created`` filled in. Raises
    BadInput as ``check_writable`` does, and ValueError for arrays other than the manifest's.
    """
    path = Path(path).resolve()  # a link to a bundle stays one
    tensors = (*manifest.inputs, *manifest.outputs)
    for info, array in zip(tensors, (*sample_inputs, *expected_outputs), strict=True):
        _check_array(info.name, array, info)
    check_writable(path)

    with _beside(path) as folder:
        shutil.copyfile(library, folder / LIBRARY)
        data = np.ascontiguousarray(parameters).tobytes()
        if not manifest.embedded_weights:
            (folder / PARAMETERS).write_bytes(data)
        for name, content in package.items():
            _put(folder / name, content)
        for index, array in enumerate(sample_inputs):
            np.save(folder / sample_input_name(index), array)
        for index, array in enumerate(expected_outputs):
            np.save(folder / expected_output_name(index), array)
        (folder / TOLERANCE).write_text(f"{float(tolerance)!r}\n", encoding="utf-8")
        (folder / LICENSES).write_text(licenses, encoding="utf-8")
        manifest = dataclasses.replace(
            manifest,
            parameters_bytes=len(data),
            files={name: sha256_of(folder / name) for name in files_in(folder)},
            created=now(),
        )
        text = to_json(manifest)
        (folder / MANIFEST).write_text(text, encoding="utf-8")
        _replace(path, _pack(folder) if path.suffix == ".tar" else folder)
    return from_json(text)


def record_accuracy(path: str | Path, accuracy: Accuracy) -> None:
    """Write into the manifest of the bundle at ``path`` how accurate it was found to be.

    Of the bundle nothing else changes. Raises BadInput for a bundle that is damaged or an accuracy
    that cannot be, RunFailed where it cannot be written.
    """
    path = Path(path).resolve()
    fault = accuracy.fault()
    if fault is not None:
        raise BadInput(f"{path}: accuracy: {fault}")
    with open_bundle(path, ANY_ARCHITECTURE) as bundle:
        if bundle.signed:
            raise BadInput(
                f"{path}: is signed, so its manifest stays as it is; record the accuracy before "
                "signing"
            )
        manifest = dataclasses.replace(bundle.manifest, accuracy=accuracy)
        _write_again(bundle, path, {MANIFEST: to_json(manifest).encode("utf-8")})


def sign(path: str | Path, key: str | Path) -> None:
    """Sign the bundle at ``path`` with the private key in a PEM file; see ``bundle.signing``.

    A signature that it has is replaced. Raises BadInput for a bundle that is damaged or a file that
    holds no such key, RunFailed where the signature cannot be written.
    """
    path = Path(path).resolve()
    signer = signing.signing_key(Path(key))
    with open_bundle(path, ANY_ARCHITECTURE) as bundle:
        manifest = (bundle.folder / MANIFEST).read_bytes()
        _write_again(bundle, path, {MANIFEST: manifest, SIGNATURE: signer.sign(manifest)})


def _write_again(bundle: Bundle, path: Path, more: Mapping[str, bytes]) -> None:
    """Put the bundle's files and ``more`` in its place."""
    with _beside(path) as folder:
        # the library first, for its other name to share its place
        for name in sorted(bundle.manifest.files, key=lambda name: (name != LIBRARY, name)):
            _put(folder / name, (bundle.folder / name).read_bytes())
        for name, content in more.items():
            (folder / name).write_bytes(content)
        _replace(path, _pack(folder) if path.suffix == ".tar" else folder)


def _is_replaceable(path: Path) -> bool:
    """An empty directory, or a bundle with nothing of the user's own in it."""
    if not path.is_dir():
        return is_bundle(path)
    names = set(files_in(path))
    ours = {name for name in names if name in UNLISTED or FILE_NAME.fullmatch(name)}
    return not any(path.iterdir()) or (is_bundle(path) and names == ours)


def _check_array(name: str, array: NDArray[Any], info: TensorInfo) -> None:
    if (array.shape, array.dtype) != (info.shape, np.dtype(info.dtype)):
        raise ValueError(
            f"{name}: expected {describe_array(info.shape, info.dtype)}, "
            f"got {describe_array(array.shape, array.dtype)}"
        )


def _put(file: Path, content: bytes) -> None:
    """Write a file of the bundle; one that is the library again shares its place on the disk."""
    file.parent.mkdir(parents=True, exist_ok=True)
    library = file.parents[1] / LIBRARY
    if file.suffix == ".so" and library.is_file() and library.read_bytes() == content:
        with contextlib.suppress(OSError):  # a file system without links
            file.hardlink_to(library)
            return
    file.write_bytes(content)


def files_in(folder: Path) -> list[str]:
    """The files in a folder and those below it, by their place."""
    return sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if not file.is_dir())


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
        raise RunFailed(
            f"{path}: the bundle could not be written: {error.strerror or error}"
        ) from error


def _pack(folder: Path) -> Path:
    """The files of ``folder`` as a .tar next to it."""
    archive_path = folder.with_suffix(".tar")
    with tarfile.open(archive_path, "w") as archive:
        for name in files_in(folder):
            content = (folder / name).read_bytes()
            # owner, mode and time stay at their defaults: they would say who compiled it, and when
            member = tarfile.TarInfo(name)
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
