"""All files of a network's C library, in one call."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tvm_mobilenet.bundle.layout import archive_name, shared_name
from tvm_mobilenet.hardware.target import TargetSpec
from tvm_mobilenet.library.building import build_shared, build_static
from tvm_mobilenet.library.description import Network, header_text
from tvm_mobilenet.library.packaging import package_files


def write_package(
    network: Network, objects: Sequence[Path], library: Path, spec: TargetSpec, *, static: bool
) -> dict[str, bytes]:
    """Write the shared library; its other files by their place in a bundle.

    ``objects`` hold the kernels. Raises BadInput without a compiler for ``spec``, RunFailed where
    it fails.
    """
    build_shared(network, objects, library, spec)
    texts = package_files(network.manifest, header_text(network), static=static)
    package = {name: text.encode() for name, text in texts.items()}
    package[shared_name(network.name)] = library.read_bytes()
    if static:
        archive = library.with_name("archive.a")
        build_static(network, objects, archive, spec)
        package[archive_name(network.name)] = archive.read_bytes()
    return package
