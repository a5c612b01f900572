"""A bundle for another machine, opened here: to send it to a device, or to emulate one."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from pathlib import Path

from tvm_mobilenet import bundle, cpu
from tvm_mobilenet.bundle import Bundle
from tvm_mobilenet.errors import BadInput


def open_for(architecture: str, path: str | Path) -> Bundle:
    """Open a bundle that runs on ``architecture``, with every check but those of this machine.

    Raises BadInput as ``bundle.open_bundle`` does.
    """
    path = Path(path)
    with contextlib.ExitStack() as on_error:
        folder, temporary = path, None
        if not path.is_dir():
            temporary = Path(tempfile.mkdtemp(prefix="tvm-mobilenet-"))
            on_error.callback(shutil.rmtree, temporary, ignore_errors=True)
            folder = bundle._unpack(path, temporary)
        manifest = bundle._read_manifest(path, folder)
        made_for = cpu.architecture_of(manifest.target.triple)
        if made_for != architecture:
            raise BadInput(
                f"{path}: made for {made_for} ({manifest.target.name}), wanted {architecture}; "
                "compile it for that"
            )
        bundle._check_files(path, folder, manifest)
        on_error.pop_all()
    return Bundle(path, folder, manifest, temporary)
