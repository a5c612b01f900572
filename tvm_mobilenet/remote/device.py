"""A device behind an RPC server: its description, its files, and Python that runs on it.

The device needs TVM's runtime and its RPC server, and nothing of ours: what is missing there, a
small library compiled for it (native/device.c, native/network.c), is sent along.
"""

from __future__ import annotations

import contextlib
import json
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tvm_mobilenet import files, tvm_runtime
from tvm_mobilenet.emulation.emulator import EMULATOR_NAME
from tvm_mobilenet.errors import BadInput, RunFailed, last_line
from tvm_mobilenet.hardware import cpu
from tvm_mobilenet.hardware.toolchain import compile_c
from tvm_mobilenet.library.description import NATIVE as LIBRARY_SOURCES

if TYPE_CHECKING:
    from tvm_mobilenet.bundle.manifest import Target

NATIVE = Path(__file__).resolve().parent / "native"
DEVICE_SOURCE, NETWORK_SOURCE = NATIVE / "device.c", NATIVE / "network.c"
CPUINFO = "/proc/cpuinfo"
GOVERNOR = "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"
TEMPERATURE = "/sys/class/thermal/thermal_zone0/temp"
NO_PYTHON = -2  # of native/device.c
BIG_CORES = 1  # runtime.config_threadpool's affinity mode: one thread a core, the fast ones first

# Runs inside the device's RPC server, in its working directory.
ABOUT = """
import importlib.util, json, os, platform, tvm
json.dump({
    "architecture": platform.machine(),
    "cores": len(os.sched_getaffinity(0)),
    "os": platform.platform(),
    "python": platform.python_version(),
    "tvm_version": tvm.__version__,
    "onnxruntime": importlib.util.find_spec("onnxruntime") is not None,
}, open(%r, "w"))
"""


class DeviceLost(RunFailed):
    """A device went while something was asked of it."""


class NotLoaded(RunFailed):
    """A device does not load a library: it is for another machine."""


@dataclass(frozen=True)
class About:
    """What a device tells of itself; None where it does not.

    ``onnxruntime`` says whether the Python of its RPC server can import that.
    """

    cpu: str | None
    features: frozenset[str]
    governor: str | None
    temperature_c: float | None
    architecture: str | None = None
    cores: int | None = None
    os: str | None = None
    python: str | None = None
    tvm_version: str | None = None
    onnxruntime: bool = False

    @property
    def emulated(self) -> bool:
        """Whether an emulator executes its instructions: its times then mean nothing."""
        return (self.cpu or "").startswith(EMULATOR_NAME)


class Device:
    """An RPC session with our library loaded on the other side. Close it."""

    def __init__(self, rpc: Any, library: Path) -> None:
        """``library`` is native/device.c, and maybe more, compiled for the device.

        Raises RunFailed where the device has no room for it or does not load it, DeviceLost where
        it goes. The session then has ended.
        """
        self.rpc = rpc
        self._names: list[str] = []
        try:
            self.library = self.load_module(self.upload(library.read_bytes(), library.name))
        except BaseException:
            self.close()
            raise
        self._read_file, self._run_python = self.library["read_file"], self.library["run_python"]

    def upload(self, data: bytes, suffix: str) -> str:
        """Put a file into the server's working directory; its name there.

        Raises RunFailed where the device did not keep all of it.
        """
        name = self.new_name(suffix)
        with device_errors(f"it did not take {suffix} ({len(data)} bytes)"):
            self.rpc.upload(bytearray(data), name)
            kept = bytes(self.rpc.download(name))  # TVM's server does not check what it wrote
        if kept != data:
            raise RunFailed(
                f"the device kept {len(kept)} of the {len(data)} bytes of {suffix}: its disk is "
                "full; make room where its RPC server puts temporary files"
            )
        return name

    def new_name(self, suffix: str) -> str:
        """A name in the server's working directory; what lies there goes with this session.

        A name of its own: another session on the same device must not replace a loaded library.
        """
        self._names.append(f"{secrets.token_hex(4)}-{suffix}")
        return self._names[-1]

    def download(self, name: str) -> bytes:
        """A file of the server's working directory. Raises RunFailed where the device is lost."""
        with device_errors(f"it did not give {name}"):
            return bytes(self.rpc.download(name))

    def load_module(self, name: str) -> Any:
        """A library of the server's working directory, loaded there.

        Raises NotLoaded where it does not load.
        """
        try:
            with device_errors(f"it does not load {name}"):
                return self.rpc.load_module(name)
        except DeviceLost:
            raise
        except RunFailed as error:
            raise NotLoaded(str(error)) from error

    def read_file(self, path: str) -> str | None:
        """A text file of the device, also of /proc and /sys; None where it cannot be read.

        Raises DeviceLost where the device goes.
        """
        try:
            with device_errors(f"it did not give {path}"):
                return bytes(self._read_file(path)).decode(errors="replace")
        except DeviceLost:
            raise
        except RunFailed:
            return None

    def use_threads(self, threads: int) -> None:
        """Run on so many threads from now on, one a core, the fast ones first."""
        with device_errors(f"it does not use {threads} threads"):
            self.rpc.get_function("runtime.config_threadpool")(BIG_CORES, threads)

    def run_python(self, code: str) -> bool:
        """Run code in the RPC server's Python; False where that server is no Python.

        Raises RunFailed where the code raises; the reason is in the server's output.
        """
        with device_errors("it does not run our code"):
            status = int(self._run_python(code))
        if status not in (0, NO_PYTHON):
            raise RunFailed("code of ours failed in the device's RPC server; see its output")
        return status == 0

    def permit_tiles(self) -> None:
        """Ask the device's system for the tile registers of AMX, for what is loaded there.

        Until then the first instruction that needs them ends the session. Bundles ask by
        themselves. Raises RunFailed where the system does not give them.
        """
        with device_errors("it does not ask for the tiles of AMX"):
            permitted = int(self.library["permit_tiles"]())
        if not permitted:
            raise RunFailed(
                "the device's system gives no permission for AMX; use Linux 5.16 or later there"
            )

    def about(self) -> About:
        """Read it all now; the temperature is this moment's."""
        cpuinfo = self.read_file(CPUINFO) or ""
        temperature = (self.read_file(TEMPERATURE) or "").strip()
        name = self.new_name("about.json")
        told = {}
        if self.run_python(ABOUT % self.path(name)):
            told = json.loads(self.download(name))
        return About(
            cpu=cpu.parse_model(cpuinfo),
            features=cpu.parse_features(cpuinfo),
            governor=(self.read_file(GOVERNOR) or "").strip() or None,
            temperature_c=int(temperature) / 1000 if temperature.isdecimal() else None,
            **told,
        )

    def alive(self) -> bool:
        """Whether it still answers."""
        try:
            self.rpc.get_function("tvm.rpc.server.workpath")
        except RuntimeError:
            return False
        return True

    def path(self, name: str) -> str:
        """The absolute path, on the device, of a file in the server's working directory."""
        with device_errors("it does not name its working directory"):
            return str(self.rpc.get_function("tvm.rpc.server.workpath")(name))

    def remove(self, *names: str) -> None:
        """Remove files, as far as they are there and the device is."""
        for name in names:
            self._names.remove(name)
            with contextlib.suppress(RuntimeError):
                self.rpc.remove(name)

    def close(self) -> None:
        """Remove what was sent and end the session: the device goes back to its tracker."""
        self.remove(*self._names)
        with contextlib.suppress(RuntimeError):
            # not left to when nothing refers to it any more: an error's traceback does, for long
            self.rpc.get_function("CloseRPCConnection")()
        self.rpc = self.library = self._read_file = self._run_python = None


def open_device(rpc: Any, target: Target) -> Device:
    """The device behind an RPC session; ``target`` is what a bundle for it was made for.

    Raises BadInput where the device runs no code of that architecture, or no compiler for it is
    installed here; RunFailed where it has no room. The session then has ended.
    """
    with files.temporary_folder() as folder:
        library = compile_library(folder / "device.so", target)
        try:
            return Device(rpc, library)
        except NotLoaded as error:
            raise BadInput(
                f"the device runs no code for {cpu.architecture_of(target.triple)} "
                f"({target.name}): {error}; compile for the device's own target"
            ) from error


def compile_library(library: Path, target: Target) -> Path:
    """native/device.c and network.c for the machine that ``target`` names."""
    import tvm_ffi

    from tvm_mobilenet.hardware import target as targets

    known = target.name in targets.known()
    compiler = (targets.resolve(target.name).cross_compiler or "gcc") if known else None
    # a target of the user's own: compilers of Debian are named after the triple
    compiler = compiler or f"{target.triple}-gcc"
    includes = (tvm_ffi.libinfo.find_include_path(), LIBRARY_SOURCES)
    flags = ["-shared", "-fPIC", *(f"-I{one}" for one in includes), str(NETWORK_SOURCE), "-ldl"]
    return compile_c(DEVICE_SOURCE, library, compiler, flags)


def check_tvm(about: About, version: str, what: str = "the bundle was") -> None:
    """Raise BadInput where the device's TVM is of another version than ``what`` is compiled by."""
    theirs = about.tvm_version
    if theirs is not None and not tvm_runtime.run_the_same(theirs, version):
        raise BadInput(
            f"the device's RPC server is TVM {theirs}, {what} compiled by TVM {version}; "
            f"on the device: pip install apache-tvm=={version}"
        )


def check_features(about: About, features: Sequence[str], what: str, advice: str) -> None:
    """Raise BadInput where the device's CPU is known to lack one that ``what`` may use."""
    missing = sorted(set(features) - about.features)
    if missing and about.features:
        raise BadInput(
            f"{what}, the device ({about.cpu or 'unknown CPU'}) has no {', '.join(missing)}; "
            f"{advice}"
        )


@contextlib.contextmanager
def device_errors(what: str) -> Iterator[None]:
    """What TVM raises of a device, in one line: DeviceLost, or a RunFailed that says ``what``."""
    try:
        yield
    except RuntimeError as error:
        reason = last_line(error)
        # a closed socket, or no answer where the other side is going
        if "Socket" in reason or "RPCCode::kReturn" in reason:
            raise DeviceLost(f"the device failed: it is lost: {reason}") from error
        raise RunFailed(f"the device failed: {what}: {reason}") from error
