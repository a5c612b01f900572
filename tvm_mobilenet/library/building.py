"""The runtime's C sources and a network's kernels → its shared library, and its archive."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tvm_mobilenet import files
from tvm_mobilenet.errors import BadInput, RunFailed
from tvm_mobilenet.hardware.cores import usable_cores
from tvm_mobilenet.hardware.target import TargetSpec
from tvm_mobilenet.hardware.toolchain import link_command
from tvm_mobilenet.kernels.arithmetic import probe_of
from tvm_mobilenet.library.description import (
    MOST_TENSORS,
    NATIVE,
    Network,
    description_text,
)

SHARED = ("calls.c", "pool.c", "weights.c", "memory.c", "cpu.c", "errors.c")
DESCRIPTION, PARAMETERS, SYMBOLS, MERGED = "description.c", "parameters.bin", "symbols", "network.o"
COMPILE = (
    "-x",
    "c",
    "-std=gnu11",
    "-O2",
    "-fPIC",
    "-fvisibility=hidden",
    "-D_GNU_SOURCE",
    "-Wall",
    "-Wextra",
)


@dataclass(frozen=True)
class Toolchain:
    """The compiler for a target, as a command, and whether it links Apple's way."""

    compiler: str
    flags: tuple[str, ...]
    target: str
    apple: bool

    def run(self, folder: Path, *arguments: str) -> None:
        """Run the compiler in ``folder``. Raises RunFailed with what it said last."""
        self.call(folder, self.compiler, *arguments)

    def tool(self, name: str) -> str:
        """Another tool of the same toolchain, such as ``ar``."""
        command = [self.compiler, f"-print-prog-name={name}"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    def call(self, folder: Path, program: str, *arguments: str) -> None:
        try:
            done = subprocess.run(
                [program, *arguments], cwd=folder, capture_output=True, text=True, check=False
            )
        except OSError as error:
            raise BadInput(f"target {self.target}: {program}: {error.strerror}") from error
        if done.returncode:
            said = (done.stderr or done.stdout).splitlines()
            reason = next((line for line in said if "error" in line), " ".join(said[-1:]))
            raise RunFailed(f"target {self.target}: {program} cannot link the library: {reason}")


def toolchain_of(spec: TargetSpec) -> Toolchain:
    """The compiler of a target. Raises BadInput where it is not installed."""
    compiler, _shared, *flags = link_command(spec)
    return Toolchain(compiler, tuple(flags), spec.name, "apple" in spec.triple)


def build_shared(
    network: Network, objects: Sequence[Path], library: Path, spec: TargetSpec
) -> None:
    """Write the shared library of ``network`` whose kernels are in ``objects``.

    It needs libc and libpthread alone and exports the functions of its header alone.
    Raises BadInput without a compiler, RunFailed where that fails.
    """
    tools = toolchain_of(spec)
    with files.temporary_folder() as folder:
        compiled = compile_runtime(network, folder, tools)
        inputs = [*compiled, *(str(path.resolve()) for path in objects)]
        output = str(library.resolve())
        tools.run(
            folder,
            "-shared",
            *tools.flags,
            "-o",
            output,
            *inputs,
            *link_flags(network, folder, tools),
        )


def build_static(
    network: Network, objects: Sequence[Path], archive: Path, spec: TargetSpec
) -> None:
    """Write the same as ``libNAME.a``: one object file, whose other symbols are its own.

    So two networks link into one program. Raises as ``build_shared`` does.
    """
    tools = toolchain_of(spec)
    if tools.apple:
        raise BadInput(f"target {spec.name}: --static is for ELF systems; leave it out")
    with files.temporary_folder() as folder:
        compiled = compile_runtime(network, folder, tools)
        inputs = [*compiled, *(str(path.resolve()) for path in objects)]
        tools.run(folder, "-r", "-nostdlib", *tools.flags, "-o", MERGED, *inputs)
        keep = ("--wildcard", f"--keep-global-symbol={network.name}_*")
        tools.call(folder, tools.tool("objcopy"), *keep, MERGED)
        member = f"{network.name}.o"
        (folder / MERGED).rename(folder / member)
        archive.unlink(missing_ok=True)
        # D: no times, no owners
        tools.call(folder, tools.tool("ar"), "rcsD", str(archive.resolve()), member)


def compile_runtime(network: Network, folder: Path, tools: Toolchain) -> list[str]:
    """The runtime and the network's description as object files in ``folder``; their names."""
    if len(network.tensors) > MOST_TENSORS:
        raise BadInput(
            f"{len(network.tensors)} inputs and outputs; expected at most {MOST_TENSORS} in all"
        )
    text = description_text(network)
    (folder / DESCRIPTION).write_text(text, encoding="ascii")
    if network.manifest.embedded_weights:
        (folder / PARAMETERS).write_bytes(network.weights)
    for name in NATIVE.iterdir():
        # copies, so that no path of this machine is on the command line
        if name.suffix in (".c", ".h"):
            (folder / name.name).write_bytes(name.read_bytes())
    sources = (*sources_of(network), DESCRIPTION)
    probes = tuple(f"-DTMN_{probe_of(one).upper()}" for one in network.dot_products)
    # one by one: with several, g++ takes only the first for C
    with ThreadPoolExecutor(len(usable_cores())) as pool:
        return list(
            pool.map(
                lambda source: compile_source(source, network.name, probes, folder, tools), sources
            )
        )


def compile_source(
    source: str, network: str, probes: Sequence[str], folder: Path, tools: Toolchain
) -> str:
    """One of them as the object file that it returns the name of, for the network of this name.

    ``probes`` are flags: which dot products it has to find out the speed of.
    """
    tools.run(folder, *COMPILE, f"-DTMN_NAME={network}", *probes, "-I.", "-c", source)
    return str(Path(source).with_suffix(".o"))


def sources_of(network: Network) -> tuple[str, ...]:
    """The runtime's own, in native/."""
    return ("gpu.c" if network.gpu else "context.c", *SHARED)


def link_flags(network: Network, folder: Path, tools: Toolchain) -> list[str]:
    """What makes of object files a library of its own: no start files, no chance exports."""
    name = network.name
    libraries = ["-lpthread", "-lm"]
    if tools.apple:
        return [f"-Wl,-exported_symbol,_{name}_*", f"-Wl,-install_name,@rpath/lib{name}.dylib"]
    script = f"{{ global: {name}_*; local: *; }};\n"
    (folder / SYMBOLS).write_text(script, encoding="ascii")
    linker = (
        f"-Wl,--version-script={SYMBOLS}",
        f"-Wl,-soname,lib{name}.so",
        "-Wl,--as-needed",
        "-Wl,--no-undefined",
        "-Wl,-z,noexecstack",
        "-Wl,-z,relro",
        "-Wl,-z,now",
        "-Wl,--build-id=none",
    )
    return ["-nostartfiles", *linker, *libraries]
