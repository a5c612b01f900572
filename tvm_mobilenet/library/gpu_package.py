"""The same files for a network on a GPU: its kernels and host.c behind the functions of NAME.h."""

from __future__ import annotations

from pathlib import Path

from tvm_mobilenet import files
from tvm_mobilenet.bundle.layout import shared_name
from tvm_mobilenet.compiler.cuda import library as gpu_library
from tvm_mobilenet.hardware.target import TargetSpec
from tvm_mobilenet.hardware.toolchain import link_command
from tvm_mobilenet.library.building import compile_runtime, toolchain_of
from tvm_mobilenet.library.description import Network, header_text
from tvm_mobilenet.library.packaging import package_files


def write_gpu_package(
    network: Network, code: gpu_library.GpuCode, library: Path, spec: TargetSpec
) -> dict[str, bytes]:
    """Write the shared library; its other files by their place in a bundle.

    Raises BadInput without a compiler for ``spec``, RunFailed where it fails.
    """
    with files.temporary_folder() as folder:
        compiled = compile_runtime(network, folder, toolchain_of(spec))
        objects = [str(folder / name) for name in compiled]
        # host.c's functions have one name in all libraries: each takes its own
        own = ("-Wl,-Bsymbolic-functions", f"-Wl,-soname,lib{network.name}.so", "-lpthread")
        gpu_library.link(code, library, spec.name, link_command(spec), [*objects, *own])
    texts = package_files(network.manifest, header_text(network), static=False)
    package = {name: text.encode() for name, text in texts.items()}
    package[shared_name(network.name)] = library.read_bytes()
    return package
