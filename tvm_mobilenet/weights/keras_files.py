"""Weights that Keras saved: ``.h5`` of any version, ``.weights.h5`` and ``.keras`` of Keras 3.

In ``.h5`` a variable stands under its layer's name. Keras 3's own format has no names of layers: a
group is called after the layer's class and its number among those, in the order of the network.
"""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tvm_mobilenet import extras, strict
from tvm_mobilenet.errors import BadInput, first_line
from tvm_mobilenet.weights.tensors import Array, Tensors

if TYPE_CHECKING:
    import h5py

CONFIG = "config.json"  # in a .keras
MODEL_CONFIG = "model_config"  # the attribute, in the .h5 of a whole model
INNER = "model.weights.h5"  # in a .keras
WHOLE_MODEL = "model_weights"  # the group, in the .h5 of a whole model
NEW_FORMAT = "layers"  # the group, in Keras 3's


def read_keras(path: Path) -> Tensors:
    """A ``.keras``, which is an archive. Raises BadInput for what is none."""
    try:
        with zipfile.ZipFile(path) as archive:
            inner = io.BytesIO(archive.read(INNER))
            config = archive.read(CONFIG)
    except (OSError, KeyError, zipfile.BadZipFile, NotImplementedError) as error:
        raise BadInput(f"weights {path}: not a .keras file: {first_line(error)}") from None
    return _read_hdf5(path, inner, config)


def read_hdf5(path: Path) -> Tensors:
    """A ``.h5``. Raises BadInput for what is no HDF5, or holds no layers of Keras."""
    return _read_hdf5(path, path)


def _read_hdf5(path: Path, content: Path | io.BytesIO, config: bytes | None = None) -> Tensors:
    extras.require_module("h5py", "weights")
    import h5py

    try:
        with h5py.File(content, "r") as file:
            said = _said(config or file.attrs.get(MODEL_CONFIG))
            if NEW_FORMAT in file:
                return Tensors("keras", _by_class(file[NEW_FORMAT]), said)
            return Tensors("keras", _by_layer(file.get(WHOLE_MODEL, file)), said)
    except (OSError, KeyError, ValueError, RuntimeError, TypeError, MemoryError) as error:
        raise BadInput(f"weights {path}: not a file of Keras: {first_line(error)}") from None


def _said(config: str | bytes | None) -> dict[str, int]:
    """The size of the input, where the model's configuration is there and fixes it."""
    if config is None:
        return {}
    try:
        text = config if isinstance(config, str) else config.decode()
        first = strict.parse_json(text)["config"]["layers"][0]["config"]
        _, height, width, _ = first.get("batch_shape") or first["batch_input_shape"]
    except (ValueError, KeyError, TypeError, IndexError):
        return {}
    return {"resolution": height} if isinstance(height, int) and height == width else {}


def _by_layer(layers: h5py.Group) -> dict[str, Array]:
    """``conv1/kernel`` and the like: a layer, and the last part of its variable's name."""
    found: dict[str, Array] = {}
    for layer in layers:
        for name, array in _arrays(layers[layer]):
            variable = name.rpartition("/")[2].partition(":")[0]
            found[f"{layer}/{variable}"] = array
    return found


def _by_class(layers: h5py.Group) -> dict[str, Array]:
    """``conv2d/vars/0`` and the like."""
    return {f"{layer}/{name}": array for layer in layers for name, array in _arrays(layers[layer])}


def _arrays(group: h5py.Group) -> list[tuple[str, Array]]:
    import h5py

    found: list[tuple[str, Array]] = []

    def keep(name: str, one: object) -> None:
        # a seed of dropout is a variable, but no weight
        if isinstance(one, h5py.Dataset) and "seed_generator" not in name:
            found.append((name, np.asarray(one)))

    group.visititems(keep)
    return found
