"""A bundle's C library by ctypes: what its header says, as Python calls it.

Needs nothing but the library. See ``library/native/types.h`` for the structures.
"""

from __future__ import annotations

import _ctypes
import ctypes
import itertools
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tvm_mobilenet.bundle import LIBRARY, Bundle
from tvm_mobilenet.errors import BadInput, RunFailed
from tvm_mobilenet.runtime import arena
from tvm_mobilenet.runtime.pool import ThreadPool

VERSION = 1  # of the interface
OK, BAD_VERSION, BAD_CPU, BAD_WEIGHTS = 0, 2, 3, 4
COPIED = 1  # TMN_COPY
USERS_FAULT = (BAD_VERSION, BAD_CPU, BAD_WEIGHTS)

_loads = itertools.count(1)


class Options(ctypes.Structure):
    """``tmn_options``."""

    _fields_ = (
        ("version", ctypes.c_uint32),
        ("signature", ctypes.c_uint64),
        ("weights", ctypes.c_void_p),
        ("workspace", ctypes.c_void_p),
        ("workspace_bytes", ctypes.c_size_t),
        ("parallel", ctypes.c_void_p),
        ("threads", ctypes.c_int32),
        ("spin_us", ctypes.c_int32),
        ("pin", ctypes.c_int32),
        ("any_cpu", ctypes.c_int32),
    )


class InfoHead(ctypes.Structure):
    """The beginning of ``tmn_info``."""

    _fields_ = (("version", ctypes.c_uint32), ("signature", ctypes.c_uint64))


class Context:
    """A network's context: its library, weights and workspace. Close it.

    The weights are copied to large pages, which makes runs faster by 2 % than the file's own, and
    hashed on the way; the workspace is memory of this process, so that arrays over it stay valid
    after ``close``.
    """

    def __init__(self, bundle: Bundle, threads: int | ThreadPool) -> None:
        """Raises BadInput where this machine or these weights do not fit the library, RunFailed
        where it does not load or there is no memory."""
        self._bundle = bundle
        self._pool: ThreadPool | None = None
        self.weights = ctypes.c_void_p()  # its handle, for as many contexts as there are
        self._handle = ctypes.c_void_p()
        self._library: ctypes.CDLL | None = load_library(bundle.library, bundle.path)
        try:
            self._create(threads)
        except BaseException:
            self.close()
            raise
        run = self.function("run", ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p)
        handle = self._handle

        def infer() -> None:
            status = run(handle, None, None)
            if status:
                self._check(status)

        self.infer = infer

    def _create(self, threads: int | ThreadPool) -> None:
        info = self.function("info", result=ctypes.POINTER(InfoHead))().contents
        if info.version != VERSION:
            raise BadInput(
                f"{self._bundle.path}: its library's interface is of version {info.version}, "
                f"expected {VERSION}; compile it again"
            )
        if not self._bundle.manifest.embedded_weights:
            take = self.function("weights_open", ctypes.c_char_p, ctypes.c_int32, ctypes.c_void_p)
            file = os.fsencode(self._bundle.parameters)
            self._check(take(file, COPIED, ctypes.byref(self.weights)))
        options = Options(VERSION, info.signature, self.weights, threads=1, spin_us=-1)
        if isinstance(threads, int):
            options.threads = threads
        else:
            parallel = threads.join(self._bundle, VERSION)
            self._pool = threads
            options.parallel = ctypes.addressof(parallel)  # copied; the pool keeps it
        measure = self.function("workspace_bytes", ctypes.c_void_p, result=ctypes.c_size_t)
        size = measure(ctypes.byref(options))
        if size == 0:
            raise RunFailed(f"{self._bundle.path}: {self._last_error()}")
        workspace = allocate(self._bundle, [size])[0]
        options.workspace, options.workspace_bytes = workspace.ctypes.data, size
        create = self.function("create", ctypes.c_void_p, ctypes.c_void_p)
        self._check(create(ctypes.byref(options), ctypes.byref(self._handle)))
        self._workspace = workspace

    @property
    def threads(self) -> int:
        """That a run uses."""
        return int(self.function("threads", ctypes.c_void_p)(self._handle))

    def tensor(self, kind: str, index: int, size: int) -> NDArray[np.uint8]:
        """The bytes of the context's own ``input`` or ``output`` number ``index``."""
        place = self.function(kind, ctypes.c_void_p, ctypes.c_int32, result=ctypes.c_void_p)
        start = place(self._handle, index) - self._workspace.ctypes.data
        return self._workspace[start : start + size]

    def profile(self, stamps: NDArray[np.int64]) -> None:
        """Run, and note the CPU's counter before the first kernel and after each."""
        run = self.function("profile", ctypes.c_void_p, ctypes.c_void_p)
        self._check(run(self._handle, stamps.ctypes.data))

    def function(
        self, name: str, *arguments: type, result: Any = ctypes.c_int
    ) -> ctypes._NamedFuncPointer:
        """One of the header's. Raises BadInput where the library has none of that name."""
        assert self._library is not None
        try:
            found = self._library[f"{self._bundle.manifest.name}_{name}"]
        except AttributeError as error:
            raise BadInput(
                f"{self._bundle.path}: {LIBRARY} exports no function {name}; compile it again"
            ) from error
        found.argtypes, found.restype = arguments, result
        return found

    def close(self) -> None:
        """End its threads and let go of the library; memory goes with the last view of it."""
        library, self._library = self._library, None
        if library is None:
            return
        name = self._bundle.manifest.name
        for function, handle in (("destroy", self._handle), ("weights_close", self.weights)):
            if handle:
                end = library[f"{name}_{function}"]
                end.argtypes, end.restype = (ctypes.c_void_p,), None
                end(handle)
        self._handle, self.weights = ctypes.c_void_p(), ctypes.c_void_p()
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.leave()
        _ctypes.dlclose(library._handle)

    def _check(self, status: int) -> None:
        if status == OK:
            return
        line = f"{self._bundle.path}: {self._last_error()}"
        if status == BAD_WEIGHTS:
            line += "; copy the bundle again, or compile it"
        raise BadInput(line) if status in USERS_FAULT else RunFailed(line)

    def _last_error(self) -> str:
        text = self.function("last_error", result=ctypes.c_char_p)()
        return str(text.decode(errors="replace"))


def allocate(bundle: Bundle, sizes: list[int]) -> list[NDArray[np.uint8]]:
    """Blocks of one arena. Raises RunFailed where there is no memory for them."""
    try:
        return arena.allocate(sizes)
    except (OSError, OverflowError, MemoryError) as error:
        raise RunFailed(
            f"{bundle.path}: no memory for {sum(sizes)} bytes of weights and workspace: {error}"
        ) from error


def load_library(file: Path, path: Path) -> ctypes.CDLL:
    """The library in ``file``, anew: one that was replaced is not the one that is loaded already.

    The dynamic loader takes a path that it knows for the library it has, so a bundle compiled again
    to the same path would run the old code while an old session is open. Every load therefore
    spells the path in another way, by slashes and dots that change nothing. Raises RunFailed, which
    names ``path``, where it does not load.
    """
    number = next(_loads)
    spelled = "".join("/." if number >> bit & 1 else "/" for bit in range(number.bit_length()))
    folder = os.fspath(file.parent.resolve())
    try:
        return ctypes.CDLL(f"{folder}{spelled}/{file.name}")
    except OSError as error:
        reason = str(error).replace(f"{folder}{spelled}/", "")
        raise RunFailed(f"{path}: {LIBRARY} does not load: {reason}") from error
