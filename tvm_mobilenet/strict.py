"""JSON and TOML → frozen dataclasses, by their type hints; whatever departs from them is refused.

A dataclass is its own format: each field is a key of that name, and no other key may be there. What
is expected is the hint: ``str``, ``int``, ``float``, ``bool``, ``Any``, ``Literal``, another
dataclass, ``X | None``, ``tuple[X, ...]``, ``Mapping[str, X]``, and ``Annotated`` with bounds::

    @dataclass(frozen=True)
    class Latency:
        p50: Annotated[float, AtLeast(0)]
        p99: Annotated[float, AtLeast(0)] | None = None

Only the standard library is imported here.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import sys
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Protocol, TypeVar

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

T = TypeVar("T")
Reader = Callable[[Any], Any]  # a value as parsed → the value to keep

LONGEST_SHOWN = 40  # characters of a value within a message
VERSION_KEY = "format_version"


class Unexpected(ValueError):
    """What was read is not what was expected; the text is one line that starts with the place."""

    def __init__(self, reason: str, *path: str) -> None:
        super().__init__(reason, *path)
        self.reason, self.path = reason, path

    def within(self, place: str) -> Unexpected:
        """The same, seen from the object or list that holds it; ``place`` is as ``.key`` or [3]."""
        return Unexpected(self.reason, place, *self.path)

    def __str__(self) -> str:
        path = "".join(self.path).removeprefix(".")
        return f"{path}: {self.reason}" if path else self.reason


class Bound(Protocol):
    """What ``Annotated`` may say of a number. ``str`` of it completes "expected a number"."""

    def holds(self, value: float) -> bool: ...


@dataclass(frozen=True)
class AtLeast:
    least: float

    def holds(self, value: float) -> bool:
        return value >= self.least

    def __str__(self) -> str:
        return f"of at least {self.least:g}"


@dataclass(frozen=True)
class Above:
    bound: float

    def holds(self, value: float) -> bool:
        return value > self.bound

    def __str__(self) -> str:
        return f"above {self.bound:g}"


@dataclass(frozen=True)
class AtMost:
    most: float

    def holds(self, value: float) -> bool:
        return value <= self.most

    def __str__(self) -> str:
        return f"of at most {self.most:g}"


Count = Annotated[int, AtLeast(1)]
Amount = Annotated[float, AtLeast(0)]


def parse_json(text: str) -> Any:
    """The value of a JSON text. Raises Unexpected for what is none: NaN and doubled keys too."""
    try:
        return json.loads(text, parse_constant=_no_constant, object_pairs_hook=_object)
    except Unexpected:
        raise
    except ValueError as error:
        raise Unexpected(f"not JSON: {error}") from None
    except RecursionError:
        raise Unexpected("not JSON that this program reads: nested too deeply") from None


def parse_toml(text: str) -> dict[str, Any]:
    """The tables of a TOML text. Raises Unexpected for what is none."""
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise Unexpected(f"not valid TOML: {error}") from None
    except RecursionError:
        raise Unexpected("not TOML that this program reads: nested too deeply") from None


def check_version(document: object, reads: int) -> None:
    """Raise Unexpected unless ``document`` is an object of the one format that is read.

    Asked first: in another version every other key may differ.
    """
    if not isinstance(document, dict):
        raise expected("an object", document)
    if VERSION_KEY not in document:
        raise Unexpected("missing", VERSION_KEY)
    version = document[VERSION_KEY]
    if type(version) is int and version > reads:
        raise Unexpected(
            f"{version} is newer than this program reads ({reads}); update tvm-mobilenet",
            VERSION_KEY,
        )
    if type(version) is int and 0 < version < reads:
        raise Unexpected(
            f"{version} is older than this program reads ({reads}); make the file again",
            VERSION_KEY,
        )
    if type(version) is not int or version != reads:
        raise expected(str(reads), version).within(VERSION_KEY)


def read(kind: type[T], value: object, *, complete: bool = False) -> T:
    """``value``, as ``parse_json`` or ``parse_toml`` gave it, as the dataclass ``kind``.

    A key may be absent where its field has a default, unless the object must be ``complete``.
    Raises Unexpected, which names the place. A ValueError that the dataclass itself raises becomes
    one.
    """
    hint: Any = kind
    result: T = _reader(hint, complete=complete)(value)
    return result


def check(instance: Any) -> None:
    """Raise Unexpected unless every field of a dataclass's instance is what its hint says."""
    kind: Any = type(instance)
    for name, hint in _hints(kind).items():
        try:
            _reader(hint, complete=False)(getattr(instance, name))
        except Unexpected as error:
            raise error.within(_at(name)) from None


def expected(what: str, value: object) -> Unexpected:
    """The error of a ``value`` that stands in the place of ``what``."""
    return Unexpected(f"expected {what}, got {shown(value)}")


def shown(value: object) -> str:
    """A value as JSON writes it, short enough for one line."""
    try:
        text = json.dumps(value)
    except (TypeError, ValueError, RecursionError):
        text = repr(value) if isinstance(value, int) else f"a {type(value).__name__}"
    return text if len(text) <= LONGEST_SHOWN else f"{text[: LONGEST_SHOWN - 3]}..."


def _at(key: str) -> str:
    """A key as a step of a path, on one line whatever is in it."""
    plain = key.isprintable() and len(key) <= LONGEST_SHOWN
    return f".{key if plain else shown(key)}"


def _no_constant(name: str) -> float:
    raise Unexpected(f"not JSON: {name}")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for place, key in enumerate(keys) if key in keys[:place])
        raise Unexpected(f"not JSON that this program reads: the key {shown(twice)} is there twice")
    return found


@functools.cache
def _hints(kind: type) -> dict[str, Any]:
    return typing.get_type_hints(kind, include_extras=True)


@functools.cache
def _reader(hint: Any, *, complete: bool) -> Reader:
    """What reads values of a hint."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return lambda value: value
    if dataclasses.is_dataclass(hint):
        return _dataclass_reader(hint, complete=complete)
    if origin is Annotated:
        base, *bounds = arguments
        return functools.partial(
            _read_bounded, _reader(base, complete=complete), SCALARS[base], bounds
        )
    if origin is Literal:
        return functools.partial(_read_choice, arguments)
    if origin in (types.UnionType, typing.Union):  # the only unions here are "X | None"
        (inner,) = (one for one in arguments if one is not type(None))
        reader = _reader(inner, complete=complete)
        return lambda value: None if value is None else reader(value)
    if origin is tuple:
        return functools.partial(_read_list, _reader(arguments[0], complete=complete))
    if origin is not None and issubclass(origin, Mapping):
        return functools.partial(_read_mapping, _reader(arguments[1], complete=complete))
    return functools.partial(_read_scalar, hint, SCALARS[hint])


SCALARS: dict[type, str] = {
    str: "a string",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
}


def _read_scalar(kind: type, what: str, value: Any) -> Any:
    # JSON writes 1.0 as 1, and in Python True is an int
    if type(value) is kind and kind is not float:
        return value
    if kind is float and type(value) in (int, float):
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if math.isfinite(number):
            return number
    raise expected(what, value)


def _read_bounded(reader: Reader, what: str, bounds: list[Bound], value: Any) -> Any:
    try:
        number = reader(value)
        good = all(bound.holds(number) for bound in bounds)
    except Unexpected:
        good = False
    if not good:
        raise expected(f"{what} {' and '.join(map(str, bounds))}", value)
    return number


def _read_choice(choices: tuple[Any, ...], value: Any) -> Any:
    if not isinstance(value, str) or value not in choices:
        raise expected(f"one of {', '.join(choices)}", value)
    return value


def _read_list(reader: Reader, value: Any) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise expected("a list", value)
    found = []
    for place, one in enumerate(value):
        try:
            found.append(reader(one))
        except Unexpected as error:
            raise error.within(f"[{place}]") from None
    return tuple(found)


def _read_mapping(reader: Reader, value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise expected("an object", value)
    return {key: _member(reader, value, key) for key in value}


def _dataclass_reader(kind: Any, *, complete: bool) -> Reader:
    readers = {key: _reader(hint, complete=complete) for key, hint in _hints(kind).items()}
    required = [
        field.name
        for field in dataclasses.fields(kind)
        if complete or field.default is field.default_factory is dataclasses.MISSING
    ]

    def read_dataclass(value: Any) -> Any:
        if not isinstance(value, Mapping):
            raise expected("an object", value)
        for key in value:
            if key not in readers:
                raise Unexpected(f"unknown key; there are {', '.join(readers)}", _at(key))
        for key in required:
            if key not in value:
                raise Unexpected("missing", _at(key))
        members = {key: _member(readers[key], value, key) for key in readers if key in value}
        try:
            return kind(**members)
        except Unexpected:
            raise
        except ValueError as error:
            raise Unexpected(str(error)) from None

    return read_dataclass


def _member(reader: Reader, value: Mapping[str, Any], key: str) -> Any:
    try:
        return reader(value[key])
    except Unexpected as error:
        raise error.within(_at(key)) from None
