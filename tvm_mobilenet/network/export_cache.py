"""Exported networks of ours, kept in the user's cache folder.

PyTorch's exporter takes seconds for what depends on the configuration, the weights, the exporter's
version and our own code alone. All of that is in an entry's name, so an entry is either right or
never asked for again. What is kept was verified against PyTorch before. The folder is
``tvm-mobilenet/onnx`` in ``$XDG_CACHE_HOME``, or ``~/.cache``; it may be removed at any time.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tvm_mobilenet import files, models
from tvm_mobilenet.network import onnx_export

State = Mapping[str, NDArray[np.float32]]

# whose version an export depends on
PACKAGES = ("torch", "onnx", "onnxscript", "onnx-ir", "numpy")
MOST = 32  # entries; those that were not asked for longest go first
SUFFIX = ".onnx"
DIGEST_BYTES = hashlib.sha256().digest_size


def read(config: models.Config, shape: Sequence[int], state: State | None = None) -> bytes | None:
    """The serialized ONNX model of a configuration for one input shape; None where it is not kept.

    ``state`` is its state dict, None for its random weights. An entry that is damaged is none.
    """
    entry = _entry(config, shape, state)
    try:
        content = entry.read_bytes()
    except OSError:
        return None
    digest, model = content[:DIGEST_BYTES], content[DIGEST_BYTES:]
    if hashlib.sha256(model).digest() != digest:
        return None
    with contextlib.suppress(OSError):
        os.utime(entry)
    return model


def keep(
    config: models.Config, shape: Sequence[int], model: bytes, state: State | None = None
) -> None:
    """Keep a verified export. Where the folder cannot be written, nothing is kept."""
    entry = _entry(config, shape, state)
    with contextlib.suppress(OSError):
        entry.parent.mkdir(parents=True, exist_ok=True)
        files.replace(entry, hashlib.sha256(model).digest() + model)
        entries = sorted(entry.parent.glob(f"*{SUFFIX}"), key=lambda one: one.stat().st_mtime)
        for old in entries[:-MOST]:
            old.unlink(missing_ok=True)


def folder() -> Path:
    """Where entries are kept."""
    cache = os.environ.get("XDG_CACHE_HOME")
    try:
        cache = cache or str(Path.home() / ".cache")
    except RuntimeError:  # a user whom the system does not know, as in a container
        cache = os.devnull  # in which nothing is kept
    return Path(cache, "tvm-mobilenet", "onnx")


def _entry(config: models.Config, shape: Sequence[int], state: State | None) -> Path:
    digest = hashlib.sha256()
    named = {name: _version(name) for name in PACKAGES}
    digest.update(json.dumps([asdict(config), list(shape), named], sort_keys=True).encode())
    for name, array in sorted((state or {}).items()):
        digest.update(f"{name} {array.shape}".encode())
        digest.update(array.tobytes())
    sources = [Path(onnx_export.__file__), *Path(models.__file__).parent.glob("*.py")]
    for source in sorted(sources):
        digest.update(source.read_bytes())
    return folder() / f"{digest.hexdigest()[:32]}{SUFFIX}"


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""
