"""What ``bench`` is asked to measure was compiled for: targets, and the key of their devices."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tvm_mobilenet.bundle import ANY_ARCHITECTURE, open_bundle
from tvm_mobilenet.bundle.manifest import Target
from tvm_mobilenet.errors import BadInput
from tvm_mobilenet.hardware import target as targets


def read_targets(bundles: Sequence[Path]) -> list[Target]:
    """What each bundle was compiled for. Raises BadInput for one that is damaged."""
    found = []
    for path in bundles:
        with open_bundle(path, ANY_ARCHITECTURE) as bundle:
            found.append(bundle.manifest.target)
    return found


def find_target(name: str) -> Target:
    """The target that ``--target`` names. Raises BadInput where it is not known."""
    spec = targets.resolve(name)
    return Target(spec.name, str(spec.target["mtriple"]))


def find_rpc_key(target: Target) -> str:
    """The key that the target's file gives its devices. Raises BadInput where it gives none."""
    key = targets.resolve(target.name).rpc_key if target.name in targets.known() else None
    if key is None:
        raise BadInput(
            f"--rpc-key: target {target.name} has no rpc_key of its own; say which device"
        )
    return key
