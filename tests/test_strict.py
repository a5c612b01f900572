"""The strict reader: what it accepts by type hints, and how it names what it refuses."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tvm_mobilenet import strict
from tvm_mobilenet.strict import Above, Amount, AtLeast, AtMost, Count, Unexpected

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)


@dataclass(frozen=True)
class Wheel:
    inches: Annotated[float, Above(0), AtMost(40)]
    spokes: Count | None = None


@dataclass(frozen=True)
class Bicycle:
    name: str
    kind: Literal["road", "track"]
    wheels: tuple[Wheel, ...]
    weights: Mapping[str, Amount] = field(default_factory=dict)
    extra: Any = None
    bell: bool = False

    def __post_init__(self) -> None:
        if self.kind == "track" and self.bell:
            raise ValueError("a track bicycle has no bell")


GOOD: dict[str, Any] = {"name": "a", "kind": "road", "wheels": [{"inches": 28, "spokes": 32}]}
FULL = {**GOOD, "weights": {"frame": 2}, "extra": [None], "bell": True}


def test_a_good_one() -> None:
    read = strict.read(Bicycle, FULL, complete=False)
    assert read == Bicycle("a", "road", (Wheel(28.0, 32),), {"frame": 2.0}, [None], bell=True)
    assert isinstance(read.wheels[0].inches, float), "28 stands for 28.0 in JSON"
    assert strict.read(Bicycle, GOOD) == Bicycle("a", "road", (Wheel(28.0, 32),))


def test_a_complete_one_has_every_key() -> None:
    with pytest.raises(Unexpected, match=r"^weights: missing$"):
        strict.read(Bicycle, GOOD, complete=True)
    with pytest.raises(Unexpected, match=r"^wheels\[0\]\.spokes: missing$"):
        strict.read(Bicycle, {**FULL, "wheels": [{"inches": 1}]}, complete=True)
    assert strict.read(Bicycle, FULL, complete=True) == strict.read(Bicycle, FULL)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"name": 3}, "name: expected a string, got 3"),
        ({"name": None}, "name: expected a string, got null"),
        ({"kind": "bmx"}, 'kind: expected one of road, track, got "bmx"'),
        ({"kind": ["road"]}, 'kind: expected one of road, track, got ["road"]'),
        ({"wheels": {}}, "wheels: expected a list, got {}"),
        ({"wheels": [{"inches": 28}, 3]}, "wheels[1]: expected an object, got 3"),
        ({"wheels": [{}]}, "wheels[0].inches: missing"),
        ({"wheels": [{"inches": 0}]}, "wheels[0].inches: expected a number above 0 and of at most"),
        ({"wheels": [{"inches": 41}]}, "wheels[0].inches: expected a number above 0 and of at mos"),
        ({"wheels": [{"inches": True}]}, "wheels[0].inches: expected a number above 0"),
        ({"wheels": [{"inches": float("nan")}]}, "wheels[0].inches: expected a number above 0"),
        ({"wheels": [{"inches": 10**400}]}, "wheels[0].inches: expected a number above 0"),
        ({"wheels": [{"inches": 1, "spokes": 1.0}]}, "wheels[0].spokes: expected a whole number"),
        (
            {"wheels": [{"inches": 1, "spokes": 0}]},
            "wheels[0].spokes: expected a whole number of a",
        ),
        ({"weights": {"frame": float("inf")}}, "weights.frame: expected a number of at least 0"),
        ({"weights": [1]}, "weights: expected an object, got [1]"),
        ({"bell": 1}, "bell: expected true or false, got 1"),
        ({"colour": "red"}, "colour: unknown key; there are name, kind, wheels"),
        ({"a\nb": "red"}, '"a\\nb": unknown key'),
        ({"kind": "track", "bell": True}, "a track bicycle has no bell"),
    ],
)
def test_a_departure_is_named(change: dict[str, Any], says: str) -> None:
    with pytest.raises(Unexpected) as caught:
        strict.read(Bicycle, {**GOOD, **change})
    assert str(caught.value).startswith(says)


def test_an_instance_is_checked_by_its_own_hints() -> None:
    strict.check(Wheel(3.0, 2))
    wrong: Any = "3"
    with pytest.raises(Unexpected, match=r'^inches: expected a number above 0 .*, got "3"$'):
        strict.check(Wheel(wrong))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "not JSON: Expecting"),
        ("NaN", "not JSON: NaN"),
        ('{"a": -Infinity}', "not JSON: -Infinity"),
        ('{"a": {"b": 1, "b": 2}}', 'not JSON that this program reads: the key "b" is there twice'),
        ("[" * 100_000, "not JSON that this program reads: nested too deeply"),
        ("1" * 5000, "not JSON: Exceeds"),
    ],
    ids=["cut", "NaN", "Infinity", "twice", "deep", "long number"],
)
def test_text_that_is_not_json(text: str, says: str) -> None:
    with pytest.raises(Unexpected) as caught:
        strict.parse_json(text)
    assert str(caught.value).startswith(says) and "\n" not in str(caught.value)


def test_toml() -> None:
    assert strict.parse_toml("[a]\nb = 1") == {"a": {"b": 1}}
    with pytest.raises(Unexpected, match="not valid TOML: "):
        strict.parse_toml("[a")
    with pytest.raises(Unexpected, match="nested too deeply"):
        strict.parse_toml("a = " + "[" * 100_000)
    with pytest.raises(Unexpected, match=r"^wheels\[0\]\.inches: expected a number above 0"):
        strict.read(Bicycle, {**GOOD, **strict.parse_toml("wheels = [{inches = nan}]")})


@pytest.mark.parametrize(
    ("document", "says"),
    [
        ([], "expected an object, got []"),
        ({}, "format_version: missing"),
        ({"format_version": 4}, "format_version: 4 is newer than this program reads (3); update"),
        ({"format_version": 2}, "format_version: 2 is older than this program reads (3); make"),
        ({"format_version": True}, "format_version: expected 3, got true"),
    ],
)
def test_another_version(document: object, says: str) -> None:
    with pytest.raises(Unexpected) as caught:
        strict.check_version(document, 3)
    assert str(caught.value).startswith(says)
    strict.check_version({"format_version": 3}, 3)


@given(st.text(max_size=40) | JSON.map(json.dumps))
def test_any_text_is_read_or_refused_in_one_line(text: str) -> None:
    error = ""
    try:
        strict.read(Bicycle, strict.parse_json(text))
    except Unexpected as raised:
        error = str(raised)
    assert "\n" not in error


def test_a_value_is_shown_short_enough_for_a_line() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    assert strict.shown("x" * 100) == f'"{"x" * 36}...'
    assert strict.shown(deep) == "a list"


def test_bounds_read_as_english() -> None:
    assert [str(one) for one in (AtLeast(1), Above(0.5), AtMost(2))] == [
        "of at least 1",
        "above 0.5",
        "of at most 2",
    ]
