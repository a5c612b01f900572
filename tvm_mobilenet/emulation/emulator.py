"""An emulated 64-bit ARM device: Debian's arm64 userland and the aarch64 TVM, under QEMU.

Nothing is installed on this machine and nothing runs as root: packages are unpacked into a folder,
which QEMU's user-mode emulation takes for the root of the device. It executes real aarch64
instructions, slowly; times measured on it mean nothing, results and instruction counts do.
"""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tvm_mobilenet import cli, files
from tvm_mobilenet.errors import BadInput, RunFailed, last_line

FOLDER = Path("build/arm-emulator")
READY = "ready"  # written last, with what it was made of
CPU = "cortex-a72"
EMULATOR_NAME = "QEMU, emulated"  # begins the name of an emulated CPU
REPOSITORY = Path(__file__).resolve().parents[2]

DEBIAN_PACKAGES = ("python3", "libstdc++6", "libgomp1")
WHEEL_PLATFORMS = ("manylinux_2_28_aarch64", "manylinux_2_17_aarch64", "manylinux2014_aarch64")
# pinned to what is installed here; numpy 2 and its newer instructions are slow to emulate
SAME_AS_HERE = ("apache-tvm", "apache-tvm-ffi")
WHEELS = ("cloudpickle", "numpy==1.26.4", "pillow", "psutil", "tornado")
# a peer, without what it needs for other things than inference; newer ones crash under QEMU 7.2
WHEELS_ALONE = ("onnxruntime==1.19.2",)
PIP_TIMEOUT_S = 600

# What Linux says on a board, but for the model. QEMU 7.2 would show the host's own.
CPUINFO = """\
processor\t: {core}
BogoMIPS\t: 108.00
Features\t: {features}
CPU implementer\t: 0x41
CPU architecture: 8
Model\t\t: {model}

"""
FEATURES = ("fp", "asimd", "evtstrm", "crc32", "cpuid")  # a Raspberry Pi 4's
CORES = 4


@dataclass(frozen=True)
class System:
    """What runs programs of an architecture, what compiles them, and where their C library is.

    ``root`` is None where that is the device's own.
    """

    qemu: str
    compiler: str
    root: Path | None = None


ARCHITECTURE = "aarch64"
SYSTEMS = {
    ARCHITECTURE: System("qemu-aarch64", "aarch64-linux-gnu-gcc"),
    # programs alone, with what the cross compiler brings: no Python, and no peers
    "armv7l": System("qemu-arm", "arm-linux-gnueabihf-gcc", Path("/usr/arm-linux-gnueabihf")),
}
QEMU = SYSTEMS[ARCHITECTURE].qemu

# The RPC server starts its workers through sys.executable, which must emulate as well.
SITECUSTOMIZE = """\
import os, sys
if os.environ.get("EMULATED_PYTHON"):
    sys.executable = os.environ["EMULATED_PYTHON"]
"""


@dataclass(frozen=True)
class Emulator:
    """A device set up in ``folder``; paths are absolute.

    Of another ``architecture`` than its own it runs programs, which QEMU then has for ``cpu``.
    """

    folder: Path
    cpu: str = CPU
    architecture: str = ARCHITECTURE

    @property
    def root(self) -> Path:
        return self.folder / "root"

    @property
    def packages(self) -> Path:
        """Where the device's Python packages lie."""
        return self.folder / "packages"

    @property
    def python(self) -> Path:
        """A script that is the device's Python."""
        return self.folder / "python"

    @property
    def interpreter(self) -> Path:
        """The aarch64 Python itself."""
        (interpreter,) = self.root.glob("usr/bin/python3.*[0-9]")
        return interpreter

    @property
    def environment(self) -> dict[str, str]:
        """What the device's Python wants in its environment."""
        return {
            "EMULATED_PYTHON": str(self.python),
            "TVM_USE_RUNTIME_LIB": "1",
            "PYTHONHOME": str(self.root / "usr"),
            "PYTHONPATH": f"{self.packages}:{REPOSITORY}",
        }

    @property
    def library_path(self) -> str:
        """LD_LIBRARY_PATH of programs on the device that use TVM's runtime."""
        return f"{self.packages}/tvm_ffi/lib:{self.packages}/tvm/lib"

    def command(
        self, program: str | Path, *arguments: str, plugin: str | Path | None = None
    ) -> list[str]:
        """The command line that runs a program of the architecture on the device.

        ``plugin`` is one of QEMU's, with ``,option=value`` after it where it takes any.
        """
        system = SYSTEMS[self.architecture]
        options = ["-cpu", self.cpu, "-L", str(system.root or self.root)]
        if system.root is None:
            options += ["-E", f"LD_LIBRARY_PATH={self.library_path}"]
        if plugin is not None:
            options += ["-plugin", str(plugin)]
        return [system.qemu, *options, str(program), *arguments]


def find(folder: Path | None = None) -> Emulator:
    """The emulator that ``make arm-emulator`` set up. Raises BadInput where there is none."""
    if shutil.which(QEMU) is None:
        raise BadInput(f"{QEMU} is not installed; apt-get install qemu-user")
    folder = (folder or REPOSITORY / FOLDER).resolve()
    if not is_ready(folder):
        raise BadInput(f"no emulated ARM device, or an old one, in {folder}; make arm-emulator")
    return Emulator(folder)


def is_ready(folder: Path) -> bool:
    """Whether a device was set up there, of what one is made of today, and not moved since."""
    try:
        return (folder / READY).read_text() == contents(folder)
    except OSError:
        return False


def contents(folder: Path) -> str:
    return "\n".join([*DEBIAN_PACKAGES, *pinned(), *WHEELS, *WHEELS_ALONE, str(folder)])


def pinned() -> list[str]:
    return [f"{name}=={importlib.metadata.version(name)}" for name in SAME_AS_HERE]


def version_of(package: str, device: Emulator) -> str:
    """The version of a Python package on the device. Raises BadInput where it is not there."""
    found = [
        one.version
        for one in importlib.metadata.distributions(path=[str(device.packages)])
        if one.name == package
    ]
    if not found:
        raise BadInput(f"{package} is not on the emulated device in {device.folder}")
    return found[0]


def set_up(folder: Path) -> Emulator:
    """Build the device into ``folder``, or take what is there. Needs the network, once.

    Raises BadInput for a missing program and RunFailed where a download fails.
    """
    folder = folder.resolve()
    for program, package in ((QEMU, "qemu-user"), ("apt-get", "apt"), ("dpkg", "dpkg")):
        if shutil.which(program) is None:
            raise BadInput(f"{program} is not installed; apt-get install {package}")
    if is_ready(folder):
        return Emulator(folder)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    emulator = Emulator(folder)
    unpack_debian(emulator)
    unpack_wheels(emulator)
    write_device_files(emulator)
    (folder / READY).write_text(contents(folder))
    return emulator


def unpack_debian(emulator: Emulator) -> None:
    """Download the arm64 packages with all they depend on, and unpack them into the root.

    apt gets a state of its own, for another architecture: this machine's is not touched.
    """
    state = emulator.folder / "apt"
    for name in ("lists/partial", "archives/partial"):
        (state / name).mkdir(parents=True, exist_ok=True)
    (state / "status").write_text("")
    apt = [
        "apt-get",
        "-oAPT::Architecture=arm64",
        "-oAPT::Architectures=arm64",
        f"-oDir::State::lists={state}/lists",
        f"-oDir::State::status={state}/status",
        f"-oDir::Cache::archives={state}/archives",
        "-oDir::Cache::pkgcache=",
        "-oDir::Cache::srcpkgcache=",
        "-oDebug::NoLocking=1",
        "-oAPT::Sandbox::User=",
        "-qq",
    ]
    run([*apt, "update"])
    run([*apt, "install", "--download-only", "--yes", "--no-install-recommends", *DEBIAN_PACKAGES])
    for package in sorted((state / "archives").glob("*.deb")):
        run(["dpkg", "-x", str(package), str(emulator.root)])


def unpack_wheels(emulator: Emulator) -> None:
    """Unpack the aarch64 wheels of TVM, what its RPC server and ``run`` need, and the peer."""
    pythons = sorted(emulator.root.glob("usr/lib/python3.*"))
    if not pythons:
        raise RunFailed(f"the packages in {emulator.root} hold no Python")
    version = pythons[-1].name.removeprefix("python")
    wheels = emulator.folder / "wheels"
    platforms = [f"--platform={platform}" for platform in WHEEL_PLATFORMS]
    options = ["--quiet", "--only-binary=:all:", f"--python-version={version}", f"--dest={wheels}"]
    download = [sys.executable, "-m", "pip", "download", *options, *platforms]
    run([*download, *pinned(), *WHEELS])
    run([*download, "--no-deps", *WHEELS_ALONE])
    for wheel in sorted(wheels.glob("*.whl")):
        shutil.unpack_archive(wheel, emulator.packages, "zip")


def share_files(device: Emulator, other: Emulator, features: Sequence[str]) -> None:
    """Make ``other`` a device of the same files, but for what they say of its cores."""
    for name in (device.packages, *device.root.iterdir()):
        shared = other.folder / name.relative_to(device.folder)
        shared.parent.mkdir(parents=True, exist_ok=True)
        if name.name != "proc" and not shared.is_symlink():
            shared.symlink_to(name)
    write_core_files(other, features)


def write_device_files(emulator: Emulator) -> None:
    """What is neither in a package nor in a wheel."""
    (emulator.packages / "sitecustomize.py").write_text(SITECUSTOMIZE)
    write_core_files(emulator, FEATURES)


def write_core_files(emulator: Emulator, features: Sequence[str]) -> None:
    """/proc/cpuinfo and the Python command, whole at any time: others may be running it."""
    model, listed = f"{EMULATOR_NAME} {emulator.cpu}", " ".join(features)
    cores = (CPUINFO.format(core=core, model=model, features=listed) for core in range(CORES))
    cpuinfo = emulator.root / "proc/cpuinfo"
    cpuinfo.parent.mkdir(parents=True, exist_ok=True)
    files.replace(cpuinfo, "".join(cores))
    exports = "".join(f"export {name}={value!r}\n" for name, value in emulator.environment.items())
    command = " ".join(map(repr, emulator.command(emulator.interpreter)))
    unfinished = emulator.python.with_suffix(f".{os.getpid()}.part")
    unfinished.write_text(f'#!/bin/sh\n{exports}exec {command} "$@"\n')
    unfinished.chmod(0o755)
    unfinished.replace(emulator.python)


def run(command: Sequence[str]) -> None:
    """Run a step of the setup. Raises RunFailed with the last line it said."""
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C"}
    result = subprocess.run(
        command, capture_output=True, text=True, timeout=PIP_TIMEOUT_S, env=environment, check=False
    )
    if result.returncode:
        raise RunFailed(f"{command[0]} failed: {last_line(result.stderr or result.stdout)}")


def main(argv: Sequence[str] | None = None) -> int:
    """Set the device up; what ``make arm-emulator`` runs."""
    parser = cli.make_parser("emulator", "Set up an emulated 64-bit ARM device.")
    parser.add_argument(
        "-o", "--output", type=Path, default=FOLDER, metavar="DIR", help="default: %(default)s"
    )
    args = cli.parse(parser, argv)

    def body(_args: object) -> int:
        emulator = set_up(args.output)
        print(f"emulated {emulator.cpu} in {emulator.folder}; its Python: {emulator.python}")
        return 0

    return cli.run_command(body, args)


if __name__ == "__main__":
    sys.exit(main())
