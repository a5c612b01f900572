"""TVM's runtime library without the compiler: what running a bundle needs, and no more.

``import tvm`` loads the 259 MB compiler and takes seconds. A compiled library needs only
``tvm_ffi`` and ``libtvm_runtime.so``, which lies inside the tvm package, or in the folder that
``TVM_LIBRARY_PATH`` names (TVM's own variable) on a device that has no tvm package.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import importlib.metadata
import importlib.util
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tvm_mobilenet.errors import RunFailed

LIBRARY = "libtvm_runtime.dylib" if sys.platform == "darwin" else "libtvm_runtime.so"


def version() -> str | None:
    """The version of the apache-tvm installed here; None where only its runtime library is."""
    try:
        return importlib.metadata.version("apache-tvm")
    except importlib.metadata.PackageNotFoundError:
        return None


def run_the_same(one: str, other: str) -> bool:
    """Whether code that one version of TVM compiled runs on the other: major and minor decide."""
    return one.split(".")[:2] == other.split(".")[:2]


@functools.cache
def library() -> ctypes.CDLL:
    """Load ``libtvm_runtime``; its symbols are then there for every compiled library.

    Raises RunFailed where it, or ``tvm_ffi``, is not installed.
    """
    ffi()  # libtvm_ffi, which the runtime links against
    path = find_library()
    try:
        return ctypes.CDLL(str(path), ctypes.RTLD_GLOBAL)
    except OSError as error:
        raise RunFailed(f"{path}: TVM's runtime library does not load: {error}") from error


@functools.cache
def ffi() -> Any:
    """The ``tvm_ffi`` module. Raises RunFailed where it is not installed."""
    try:
        with torch_left_out():
            import tvm_ffi
    except ImportError as error:
        raise RunFailed(
            f"tvm_ffi cannot be imported ({error}); pip install apache-tvm-ffi"
        ) from error
    return tvm_ffi


@functools.cache
def compiler() -> Any:
    """The ``tvm`` module, the compiler. Raises RunFailed where it is not installed."""
    ffi()
    try:
        with torch_left_out():
            import tvm
            import tvm.relax.frontend.onnx  # noqa: F401 - what compiles wants it too
    except ImportError as error:
        raise RunFailed(f"tvm cannot be imported ({error}); pip install apache-tvm") from error
    except Exception as error:  # whatever the half of it that did load meets
        raise RunFailed(
            f"tvm cannot be imported ({type(error).__name__}: {error}); pip install apache-tvm "
            "again, and let it have memory (ulimit -v)"
        ) from error
    return tvm


def find_library() -> Path:
    """Where ``libtvm_runtime`` lies. Raises RunFailed, naming the folders searched."""
    folders = []
    if os.environ.get("TVM_LIBRARY_PATH"):
        folders.append(Path(os.environ["TVM_LIBRARY_PATH"]))
    spec = importlib.util.find_spec("tvm")  # finds the package and does not import it
    if spec is not None:
        for package in spec.submodule_search_locations or ():
            # a wheel, then a source tree built in place
            folders += [Path(package, "lib"), Path(package, "..", "..", "build", "lib")]
    for folder in folders:
        if (folder / LIBRARY).is_file():
            return folder / LIBRARY
    raise RunFailed(
        f"{LIBRARY} not found in {', '.join(map(str, folders)) or 'any tvm package'}; "
        "pip install apache-tvm, or set TVM_LIBRARY_PATH to the folder that holds it"
    )


@contextlib.contextmanager
def torch_left_out() -> Iterator[None]:
    """Keep ``import tvm_ffi`` and ``import tvm`` from importing torch, unless it is there already.

    They import torch wherever it is installed, which takes seconds, and tvm_ffi then compiles a
    bridge for torch tensors. A bundle runs on numpy arrays and needs neither, nor does a worker of
    the tuner.
    """
    disable = "TVM_FFI_DISABLE_TORCH_C_DLPACK"
    before = os.environ.get(disable)
    hidden = "torch" not in sys.modules
    os.environ[disable] = "1"
    if hidden:
        sys.modules["torch"] = None  # type: ignore[assignment]  # "import torch" raises ImportError
    try:
        yield
    finally:
        if hidden:
            del sys.modules["torch"]
        if before is None:
            del os.environ[disable]
        else:
            os.environ[disable] = before
