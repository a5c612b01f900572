"""The files of a bundle: their names, and what tells them apart from any other."""

from __future__ import annotations

import hashlib
import re
import tarfile
from pathlib import Path

MANIFEST = "manifest.json"
LIBRARY = "model.so"
PARAMETERS = "parameters.bin"
TOLERANCE = "tolerance"
LICENSES = "LICENSES"
SIGNATURE = "signature"  # of the manifest, where the bundle is signed

READ_BYTES = 1 << 18  # at a time: they stay in the cache for what hashes them

# a manifest names files of its own directory only: nothing else is ever opened
FILE_NAME = re.compile(
    r"model\.so|parameters\.bin|(sample_input|expected_output)(_[1-9]\d*)?\.npy"
    r"|tolerance|LICENSES"
    # of a C library
    r"|[a-z][a-z0-9_]*\.(h|pc)|lib/lib[a-z][a-z0-9_]*\.(so|a)"
    r"|lib/cmake/[a-z][a-z0-9_]*/[a-z][a-z0-9_]*Config\.cmake"
)


def header_name(name: str) -> str:
    """The header of the C library whose functions begin with ``name``."""
    return f"{name}.h"


def shared_name(name: str) -> str:
    """``model.so`` again, under the name that a linker looks for."""
    return f"lib/lib{name}.so"


def archive_name(name: str) -> str:
    """The same code to link into a program; only where it was asked for."""
    return f"lib/lib{name}.a"


def cmake_name(name: str) -> str:
    """What CMake's ``find_package`` reads."""
    return f"lib/cmake/{name}/{name}Config.cmake"


def sample_input_name(index: int) -> str:
    """The file of the sample for the input number ``index``, counted from 0."""
    return f"sample_input_{index}.npy" if index else "sample_input.npy"


def expected_output_name(index: int) -> str:
    """The file of the expected output number ``index``, counted from 0."""
    return f"expected_output_{index}.npy" if index else "expected_output.npy"


def required_files(inputs: int, outputs: int, *, embedded: bool = False) -> tuple[str, ...]:
    """The files, beside the manifest, of a bundle with this many inputs and outputs.

    One whose library holds the weights, ``embedded``, has no file of them.
    """
    parameters = () if embedded else (PARAMETERS,)
    samples = map(sample_input_name, range(inputs))
    expected = map(expected_output_name, range(outputs))
    return (LIBRARY, *parameters, *samples, *expected, TOLERANCE, LICENSES)


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


def sha256_of(file: Path) -> str:
    digest = hashlib.sha256()
    buffer = memoryview(bytearray(READ_BYTES))
    with file.open("rb", buffering=0) as stream:
        while count := stream.readinto(buffer):
            digest.update(buffer[:count])
    return digest.hexdigest()


def describe_array(shape: tuple[int, ...], dtype: object) -> str:
    return f"{dtype} of shape {'x'.join(map(str, shape)) or '()'}"
