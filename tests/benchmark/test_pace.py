"""What a sweep says of the time it takes."""

from __future__ import annotations

import pytest

from tvm_mobilenet.benchmark.pace import Pace, about, guess_s
from tvm_mobilenet.benchmark.rounds import make_plan


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.2, "about 1 s"),
        (89, "about 89 s"),
        (90, "about 2 min"),
        (1500, "about 25 min"),
        (7500, "about 2 h 05 min"),
    ],
)
def test_a_duration_as_people_say_it(seconds: float, text: str) -> None:
    assert about(seconds) == text


def test_the_guess_is_near_what_the_published_sweeps_took() -> None:
    """By benchmarks/results: twelve minutes of the zoo, seven of int8, an hour of the sweep."""
    peers = ("onnxruntime", "openvino")
    more = (*peers, "litert", "torch-compile")
    for networks, against, min_time_s, took_min in (
        (14, peers, 0.5, 12),
        (16, peers, 0.4, 7),
        (16, more, 0.5, 60),
    ):
        guess = guess_s(networks, 2, against, make_plan(100, min_time_s))
        assert took_min / 3 < guess / 60 < took_min * 1.7


def test_the_time_left_follows_the_pace() -> None:
    clock = [100.0]
    pace = Pace(4, now=lambda: clock[0])
    assert str(pace) == "1 of 4"
    pace.done, clock[0] = 1, 130.0
    assert str(pace) == "2 of 4, about 2 min left"
    pace.done, clock[0] = 3, 160.0
    assert str(pace) == "4 of 4, about 20 s left"
