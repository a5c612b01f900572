"""Threads that several sessions share, where each would otherwise have threads of its own."""

from __future__ import annotations

import _ctypes
import ctypes
import threading
import weakref
from pathlib import Path
from typing import TYPE_CHECKING

from tvm_mobilenet.errors import BadInput, RunFailed
from tvm_mobilenet.runtime import threads as cpus

if TYPE_CHECKING:
    from tvm_mobilenet.bundle import Bundle

DEFAULT_SPIN_US = -1  # what the library takes for its own default


class PoolOptions(ctypes.Structure):
    """``tmn_pool_options``."""

    _fields_ = (
        ("version", ctypes.c_uint32),
        ("threads", ctypes.c_int32),
        ("spin_us", ctypes.c_int32),
        ("pin", ctypes.c_int32),
    )


class Parallel(ctypes.Structure):
    """``tmn_parallel``."""

    _fields_ = (
        ("run", ctypes.c_void_p),
        ("self", ctypes.c_void_p),
        ("threads", ctypes.c_int32),
        ("together", ctypes.c_int32),
    )


class ThreadPool:
    """For ``load(path, threads=pool)``: the sessions' runs take turns on its threads.

    A run that finds them at another session's work goes on in its calling thread alone. Idle
    threads look for work for ``spin_us`` microseconds and then sleep. With ``pin`` each keeps to a
    CPU that no other pinned thread of such a pool has. ``threads`` counts the calling one; 0 stands
    for as many as are of use. Close it after the sessions, or use it as a context manager.

    The threads are those of the C library that is loaded first. Raises BadInput for more of them
    than this process may use CPUs.
    """

    def __init__(
        self, threads: int = 0, *, pin: bool = False, spin_us: int = DEFAULT_SPIN_US
    ) -> None:
        cpus.check(threads)
        self._asked = (threads, spin_us, int(pin))
        self._lock = threading.Lock()
        self._parallel: Parallel | None = None
        self._sessions = 0
        self._end: weakref.finalize[[ctypes.CDLL, str, int | None], ThreadPool] | None = None

    def join(self, bundle: Bundle, version: int) -> Parallel:
        """The threads, for one more session, of a library whose interface has this ``version``.

        Raises RunFailed where the library does not load, or the system starts no threads.
        """
        with self._lock:
            if self._parallel is None:
                self._parallel = self._start(bundle, version)
            self._sessions += 1
            return self._parallel

    def leave(self) -> None:
        """A session that joined is closed."""
        with self._lock:
            self._sessions -= 1

    def close(self) -> None:
        """End the threads. Raises RunFailed while a session uses them."""
        with self._lock:
            if self._sessions:
                raise RunFailed(
                    f"{self._sessions} open session(s) use this pool of threads; close them first"
                )
            end, self._end, self._parallel = self._end, None, None
        if end is not None:
            end()

    def _start(self, bundle: Bundle, version: int) -> Parallel:
        from tvm_mobilenet.runtime.library import load_library

        name = bundle.manifest.name
        library = load_library(bundle.library, Path(bundle.path))  # by itself: it stays loaded
        create, parallel = library[f"{name}_pool_create"], library[f"{name}_pool_parallel"]
        create.argtypes = (ctypes.c_void_p, ctypes.c_void_p)
        parallel.argtypes, parallel.restype = (ctypes.c_void_p,), Parallel
        options, handle = PoolOptions(version, *self._asked), ctypes.c_void_p()
        if create(ctypes.byref(options), ctypes.byref(handle)):
            last_error = library[f"{name}_last_error"]
            last_error.restype = ctypes.c_char_p
            raise RunFailed(f"{bundle.path}: {last_error().decode(errors='replace')}")
        self._end = weakref.finalize(self, _end, library, name, handle.value)
        found: Parallel = parallel(handle)
        return found

    def __enter__(self) -> ThreadPool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _end(library: ctypes.CDLL, name: str, handle: int | None) -> None:
    destroy = library[f"{name}_pool_destroy"]
    destroy.argtypes, destroy.restype = (ctypes.c_void_p,), None
    destroy(handle)
    _ctypes.dlclose(library._handle)


def check(threads: int | ThreadPool) -> None:
    """Raise BadInput for more threads than this process may use CPUs."""
    if isinstance(threads, int):
        cpus.check(threads)


def count_of(threads: int | ThreadPool, executor: str) -> int:
    """The threads as a number, for an ``executor`` that has no use for a pool of ours.

    Raises BadInput for a pool.
    """
    if isinstance(threads, int):
        return threads
    raise BadInput(
        f"a pool of threads is for networks on a CPU with the static executor, this one's is "
        f"{executor}; give a number of threads"
    )
