"""The samples to calibrate with: a folder of pictures, or arrays in a file of NumPy's."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tvm_mobilenet import arrays
from tvm_mobilenet.errors import BadInput
from tvm_mobilenet.network.signature import InputTensor

Array = NDArray[Any]
ReadPicture = Callable[[Path], Array]

PICTURES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")
HELD_OUT = 4  # one sample of so many is kept to measure with
HELD_OUT_SEED = 0
FLAG = "--calibrate"


@dataclass(frozen=True)
class Samples:
    """Samples of a network's inputs, each read when it is asked for.

    ``read`` gives sample number ``i`` of ``count``: an array without the batch for each input.
    """

    inputs: tuple[InputTensor, ...]
    count: int
    read: Callable[[int], tuple[Array, ...]]
    places: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.places)

    def kept(self) -> tuple[Samples, Samples]:
        """Those to calibrate with, and a quarter, held out to measure with.

        Of two or three one is held out; of one none, and it is measured with itself. They are
        picked at random, as samples often lie in the order of their classes, always the same ones.
        """
        count = len(self) // HELD_OUT or min(len(self) - 1, 1)
        mixed = np.random.default_rng(HELD_OUT_SEED).permutation(len(self))[:count]
        held = sorted(self.places[place] for place in mixed)
        used = [place for place in self.places if place not in held]
        return self.only(used), self.only(held or self.places)

    def only(self, places: Sequence[int]) -> Samples:
        return Samples(self.inputs, self.count, self.read, tuple(places))

    def few(self, most: int) -> Samples:
        """At most so many, from all over."""
        if len(self) <= most:
            return self
        picked = np.linspace(0, len(self) - 1, most).round().astype(int)
        return self.only([self.places[place] for place in picked])

    def batches(self) -> Iterator[tuple[Array, ...]]:
        """As the network takes them; the last batch begins again where samples are too few."""
        size = self.inputs[0].shape[0]
        for first in range(0, len(self), size):
            places = [self.places[(first + i) % len(self)] for i in range(size)]
            samples = [self.read(place) for place in places]
            yield tuple(np.stack(values) for values in zip(*samples, strict=True))


def open_samples(path: Path, inputs: tuple[InputTensor, ...], read_picture: ReadPicture) -> Samples:
    """The samples in a folder of pictures, a .npy (n, *input) or a .npz of one for each input.

    ``read_picture`` makes the network's input, without the batch, of a picture. Raises BadInput for
    samples that the network does not take, or that say nothing: constant or NaN.
    """
    if path.is_dir():
        samples = _of_folder(path, inputs, read_picture)
    elif path.suffix in (".npy", ".npz") and path.is_file():
        samples = _of_arrays(path, inputs)
    else:
        what = "not a folder of pictures, a .npy or a .npz" if path.exists() else "no such file"
        raise BadInput(f"{FLAG} {path}: {what}")
    if not len(samples):
        raise BadInput(f"{FLAG} {path}: no samples in it; a hundred or so are usual")
    _check(samples, path)
    return samples


def _of_folder(path: Path, inputs: tuple[InputTensor, ...], read_picture: ReadPicture) -> Samples:
    if len(inputs) > 1:
        raise BadInput(
            f"{FLAG} {path}: the network has {len(inputs)} inputs; give a .npz with an array for "
            "each by its name"
        )
    pictures = sorted(one for one in path.iterdir() if one.suffix.lower() in PICTURES)
    if not pictures and any(one.is_dir() for one in path.iterdir()):
        raise BadInput(
            f"{FLAG} {path}: no pictures in it but in folders of it, which are not searched; give "
            "a folder that holds pictures of all of them"
        )
    return Samples(
        inputs,
        len(pictures),
        lambda place: (read_picture(pictures[place]),),
        tuple(range(len(pictures))),
    )


def _of_arrays(path: Path, inputs: tuple[InputTensor, ...]) -> Samples:
    loaded = _load(path, [one.name for one in inputs])
    for one, array in zip(inputs, loaded, strict=True):
        if not (_is_of_kind(array, one) and array.ndim and array.shape[1:] == one.shape[1:]):
            sizes = "x".join(map(str, one.shape[1:]))
            got = "x".join(map(str, array.shape)) or "()"
            raise BadInput(
                f"{FLAG} {path}: expected {one.dtype} of shape Nx{sizes} for the input {one.name}, "
                f"got {array.dtype} of shape {got}"
            )
    counts = {len(array) for array in loaded}
    if len(counts) > 1:
        named = zip(inputs, loaded, strict=True)
        several = ", ".join(f"{len(array)} of {one.name}" for one, array in named)
        raise BadInput(f"{FLAG} {path}: expected as many samples of each input, got {several}")
    (count,) = counts
    return Samples(
        inputs,
        count,
        lambda place: tuple(
            array[place].astype(one.dtype) for one, array in zip(inputs, loaded, strict=True)
        ),
        tuple(range(count)),
    )


def _is_of_kind(array: Array, one: InputTensor) -> bool:
    """Whether the input holds such numbers: no pixels for what is computed of them, nor fractions.

    Real numbers may be of any size, integers have to fit.
    """
    kind = np.dtype(one.dtype)
    if kind.kind == "f":
        return array.dtype.kind == "f"
    return array.dtype.kind in "iu" and np.can_cast(array.dtype, kind, "safe")


def _load(path: Path, names: list[str]) -> list[Array]:
    """An array for each name; a single one may be called anything."""
    if path.suffix == ".npy":
        found = {names[0]: arrays.read_one(path, f"{FLAG} {path}", mapped=True)}
    else:
        found = arrays.read_named(path, f"{FLAG} {path}")
    if len(names) == len(found) == 1:
        return list(found.values())
    if found.keys() != set(names):
        raise BadInput(
            f"{FLAG} {path}: expected an array for each input, {', '.join(names)}, got "
            f"{', '.join(found) or 'none'}"
        )
    return [found[name] for name in names]


def _check(samples: Samples, path: Path) -> None:
    """Raise BadInput where a sample is not finite, or all are of one value in each channel."""
    constant = True
    for place in samples.places:
        for one, values in zip(samples.inputs, samples.read(place), strict=True):
            if values.shape != one.shape[1:]:
                raise BadInput(
                    f"{FLAG} {path}: expected samples of shape {one.shape[1:]} for the input "
                    f"{one.name}, got {values.shape}"
                )
            if not np.isfinite(values).all():
                raise BadInput(
                    f"{FLAG} {path}: sample {place} has nan or infinity in it; leave it out"
                )
            constant &= _is_constant(values, one)
    if constant:
        raise BadInput(
            f"{FLAG} {path}: every sample is one value all over, which says nothing of the ranges "
            "that real ones have"
        )


def _is_constant(values: Array, one: InputTensor) -> bool:
    """Whether it is one value, or of an image one in each channel, as a blank picture has them."""
    channels = np.moveaxis(values, one.layout.index("C") - 1, 0) if values.ndim == 3 else values
    pixels = channels.reshape(len(channels) if values.ndim == 3 else 1, -1)
    return bool((pixels == pixels[:, :1]).all())
