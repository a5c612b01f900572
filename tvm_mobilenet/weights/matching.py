"""The tensors of a file as those of a network: every one there, of its shape, and finite."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tvm_mobilenet import models
from tvm_mobilenet.errors import BadInput
from tvm_mobilenet.weights.sources import Names, SourceProgram, shape_there, sources_of, to_torch
from tvm_mobilenet.weights.tensors import Array, Float, Tensors
from tvm_mobilenet.weights.units import Unit, units_of

# widths that are published, then all others that a person would write
PUBLISHED_WIDTHS = (1.0, 0.75, 0.5, 0.25, 0.35, 1.4, 1.3, 1.25, 1.1, 1.2)
OTHER_WIDTHS = tuple(hundredths / 100 for hundredths in range(1, 201))
ROUNDING = 8  # channels that rounding to eights may add or take away, a little more than it does


@dataclass(frozen=True)
class Expected:
    """One tensor of a network: its name in our state dict, and what the file may call it."""

    ours: str
    theirs: Names
    shape: tuple[int, ...]
    kind: str


@dataclass(frozen=True)
class Fitting:
    """A configuration that a file's tensors fit, by the names of ``source``."""

    config: models.Config
    source: SourceProgram
    expected: tuple[Expected, ...]


def fit(where: str, tensors: Tensors, model: str, given: Mapping[str, Any]) -> Fitting:
    """The configuration of ``model`` that the file ``where`` holds the weights of.

    ``given`` are fields that somebody asked for; width and number of classes follow from the
    tensors where it does not say them. Raises BadInput for what contradicts the file, which names
    the first tensor that is in the way.
    """
    source = _source_of(where, tensors, model, given)
    known = _known(where, tensors, source, model, given)
    if "num_classes" not in known:
        known["num_classes"] = _classes(tensors, source, models.config_from(model, **known))
    if "alpha" in known or not models.MODELS[model].widths:
        config = models.config_from(model, **known)
    else:
        config = _of_fitting_width(tensors, source, model, known)
    return Fitting(config, source, tuple(_expected(source, config)))


def names_in(config: models.Config) -> set[str]:
    """The names of the tensors in the state dict of ``config``."""
    return {f"{unit.path}.{name}" for unit in units_of(config) for name in unit.shapes}


def take(where: str, tensors: Tensors, fitting: Fitting, needed: set[str]) -> dict[str, Float]:
    """The tensors by the names of our state dict, as float32 in PyTorch's order of dimensions.

    A file may lack those that are not ``needed``. Raises BadInput for the first tensor that is
    missing, of another shape, not of floats, not finite, or one too many.
    """
    found: dict[str, Float] = {}
    taken = set()
    form = fitting.source.format
    for one in fitting.expected:
        name = _name_in(tensors, one)
        if name is None and one.ours not in needed:
            continue
        if name is None:
            extra = next((name for name in tensors.arrays if name not in _all_names(fitting)), None)
            has = "" if extra is None else f"; the file has {extra}, which it does not"
            raise BadInput(f"{where}: {one.theirs[0]} is missing, which {_title(fitting)} has{has}")
        array = tensors.arrays[name]
        there = shape_there(one.shape, array, one.kind, form)
        if array.shape != there:
            raise BadInput(
                f"{where}: {name}: expected shape {_shape(there)}, as of {_title(fitting)}, "
                f"got {_shape(array.shape)}"
            )
        found[one.ours] = _check_values(where, name, one, to_torch(array, one.kind, form))
        taken.add(name)
    for name in tensors.arrays:
        if name not in taken:
            raise BadInput(f"{where}: {name} is one too many: {_title(fitting)} has no such tensor")
    return found


def _check_values(where: str, name: str, one: Expected, array: Array) -> Float:
    if array.dtype.kind != "f":
        raise BadInput(f"{where}: {name}: expected floats, got {array.dtype}")
    bad = int(np.count_nonzero(~np.isfinite(array)))
    if bad:
        raise BadInput(
            f"{where}: {name}: {bad} of {array.size} values are nan or infinite; the file was "
            "damaged, or its training diverged"
        )
    if one.ours.endswith("running_var") and (array < 0).any():
        raise BadInput(f"{where}: {name}: expected variances of 0 or more, got {array.min():g}")
    values: Float = np.array(array, np.float32, order="C")  # one that can be written
    return values


def _source_of(where: str, tensors: Tensors, model: str, given: Mapping[str, Any]) -> SourceProgram:
    """The program most of whose names the file has."""
    plain = {name: value for name, value in given.items() if name in ("num_classes", "resolution")}
    config = models.config_from(model, **plain)
    units = units_of(config)
    sources = [one for one in sources_of(model) if one.format == tensors.format]
    if not sources:
        known = ", ".join(dict.fromkeys(one.name for one in sources_of(model)))
        raise BadInput(
            f"{where}: {model} takes weights of {known}, and this is of {tensors.format}"
        )

    def known_names(source: SourceProgram) -> int:
        layers = source.names_of(config, units)
        return sum(
            any(name in tensors.arrays for name in names)
            for layer in layers
            for names in layer.values()
        )

    best = max(sources, key=known_names)
    if not known_names(best):
        first = next(iter(best.names_of(config, units)[0].values()))[0]
        has = next(iter(tensors.arrays), None)
        got = "no tensor at all" if has is None else f"another network's, such as {has}"
        raise BadInput(f"{where}: expected {first} and the like, as {model} has, got {got}")
    return best


def _known(
    where: str,
    tensors: Tensors,
    source: SourceProgram,
    model: str,
    given: Mapping[str, Any],
) -> dict[str, Any]:
    """Fields of the configuration: what the source implies and the file says, and what is given."""
    fields = {**source.implies, **tensors.said}
    asked = {**models.MODELS[model].options, **given}
    for name, value in asked.items():
        if name in source.implies and value != fields[name]:
            raise BadInput(
                f"{where}: weights of {source.name} are for {name} {fields[name]}, and "
                f"{model} was to have {value}"
            )
    if "activation" not in source.implies:  # of V1 alone it can be chosen
        activation = fields.pop("activation", "relu6")
        if activation != "relu6":
            raise BadInput(f"{where}: expected a graph of {model} with Relu6, got {activation}")
    return {**fields, **given}


def _classes(tensors: Tensors, source: SourceProgram, config: models.Config) -> int:
    """As many classes as the last layer of the file tells apart."""
    last = [one for one in _expected(source, config) if one.kind == "linear"][-1]
    name = _name_in(tensors, last)  # its bias, of one dimension
    if name is None or tensors.arrays[name].ndim != 1:
        return config.num_classes
    return int(tensors.arrays[name].shape[0])


def _of_fitting_width(
    tensors: Tensors, source: SourceProgram, model: str, known: Mapping[str, Any]
) -> models.Config:
    """The configuration of the first width that all shapes fit; else of that which most do."""

    def misfits(config: models.Config) -> int:
        return sum(not _fits(tensors, source, one) for one in _expected(source, config))

    stem = next(iter(_expected(source, models.config_from(model, **known))))
    name = _name_in(tensors, stem)
    count = 0 if name is None else tensors.arrays[name].shape[0 if source.format == "torch" else -1]
    best, fewest = models.config_from(model, **known), None
    for alpha in dict.fromkeys((*PUBLISHED_WIDTHS, *OTHER_WIDTHS)):
        if abs(alpha * stem.shape[0] - count) > ROUNDING and fewest is not None:
            continue
        config = models.config_from(model, alpha, **known)
        wrong = misfits(config)
        if not wrong:
            return config
        if fewest is None or wrong < fewest:
            best, fewest = config, wrong
    return best


def _fits(tensors: Tensors, source: SourceProgram, one: Expected) -> bool:
    name = _name_in(tensors, one)
    if name is None:
        return False
    array = tensors.arrays[name]
    return array.shape == shape_there(one.shape, array, one.kind, source.format)


def _expected(source: SourceProgram, config: models.Config) -> Iterator[Expected]:
    units: Sequence[Unit] = units_of(config)
    for unit, names in zip(units, source.names_of(config, units), strict=True):
        for name, shape in unit.shapes.items():
            yield Expected(f"{unit.path}.{name}", names[name], shape, unit.kind)


def _name_in(tensors: Tensors, one: Expected) -> str | None:
    return next((name for name in one.theirs if name in tensors.arrays), None)


def _all_names(fitting: Fitting) -> set[str]:
    return {name for one in fitting.expected for name in one.theirs}


def _title(fitting: Fitting) -> str:
    config = fitting.config
    width = models.width_of(config)
    alpha = "" if width is None else f" of alpha {width:g}"
    return f"{models.name_of(config)}{alpha} with {config.num_classes} classes"


def _shape(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape)) or "of one number"
