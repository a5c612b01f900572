"""Engines measured together: verified rows, and a reason for every row without a latency."""

from __future__ import annotations

import platform
from dataclasses import replace

import numpy as np
import pytest
from support import fake_engines

from tvm_mobilenet.benchmark.engines import EngineEntry
from tvm_mobilenet.benchmark.engines.networks import Network
from tvm_mobilenet.benchmark.engines.process import Timeouts
from tvm_mobilenet.benchmark.labelled import Labelled
from tvm_mobilenet.benchmark.places.side_by_side import SideBySide
from tvm_mobilenet.benchmark.places.this_machine import ProcessOpener
from tvm_mobilenet.benchmark.rounds import Plan
from tvm_mobilenet.benchmark.rows import Candidate
from tvm_mobilenet.models.accuracy import Accuracy
from tvm_mobilenet.provenance import Machine
from tvm_mobilenet.results import schema
from tvm_mobilenet.results.schema import ResultRow

X = np.random.default_rng(3).standard_normal((1, 3, 32, 32), dtype=np.float32)
NETWORK = Network(
    model="mobilenet_v1",
    alpha=0.25,
    resolution=32,
    batch=1,
    precision="fp32",
    config={},
    onnx=None,
    inputs=(X,),
    expected=(2 * X,),
    reference="pytorch",
)
QUICK = Plan(min_runs=10, min_time_s=0.0, rounds=5, chunk_s=0.0, max_chunks=2, patience_s=0.0)
# Much longer than anything here takes, but for the engine that hangs.
TIMEOUTS = Timeouts(first_run=3.0)


class Heard:
    """Progress that keeps what it was told."""

    def __init__(self) -> None:
        self.steps: list[str] = []
        self.turns: list[str] = []
        self.notes: list[str] = []

    def step(self, engine: str, doing: str) -> None:
        self.steps.append(f"{engine}: {doing}")

    def turn(self, engine: str, done: int, rounds: int) -> None:
        self.turns.append(engine)

    def note(self, text: str) -> None:
        self.notes.append(text)


def candidate(engine: type[fake_engines.Twice], name: str | None = None) -> Candidate:
    return Candidate(name or engine.__name__, fake_engines.entry(engine), "x86_64")


def measure(
    *candidates: Candidate, heard: Heard | None = None, network: Network = NETWORK
) -> list[ResultRow]:
    heard = heard or Heard()
    return SideBySide(candidates, network, 1, ProcessOpener(TIMEOUTS), heard, QUICK).measure()


def test_rows_are_complete_and_fit_the_schema() -> None:
    heard = Heard()
    accuracy = Accuracy(3, 4, "made up")
    ours = candidate(fake_engines.Twice, "bundle")
    ours = replace(ours, tuned=True, artifact_mb=1.5, accuracy=accuracy)
    rows = measure(ours, candidate(fake_engines.Twice, "peer"), heard=heard)
    assert [row.engine for row in rows] == ["bundle", "peer"]
    for row in rows:
        assert row.status == "ok" and row.reason is None
        assert row.latency_ms is not None and row.latency_ms.n == len(row.samples_ms) >= 10
        assert row.max_abs_diff == 0
        assert row.reference == "pytorch" and row.how == "native"
        assert row.load_ms and row.first_run_ms and row.peak_rss_mb
        if platform.machine() == "x86_64":
            assert row.core is not None and row.core.states in (1, 2)
    assert rows[0].tuned and rows[0].artifact_mb == 1.5
    assert [row.accuracy for row in rows] == [accuracy, None]
    assert sorted(heard.turns[:2]) == ["bundle", "peer"]
    assert any(note.startswith("drift of peer from start to end") for note in heard.notes)
    results = schema.Results(Machine("x", 1, None, (), "x", "3", {}), tuple(rows))
    assert schema.loads(schema.dumps(results), "x") == results


@pytest.mark.parametrize(
    ("engine", "reason"),
    [
        (fake_engines.Wrong, "wrong result: relative error 5.0e-01"),
        (fake_engines.NotANumber, "wrong result: relative error nan"),
        (fake_engines.WrongLater, "wrong result: relative error 5.0e-01"),
        (fake_engines.Raises, "ValueError: this shape is not supported"),
        (fake_engines.Absent, "needs a compiler: apt-get install g++"),
        (fake_engines.CrashesAtLoad, "SIGSEGV"),
        (fake_engines.CrashesLater, "ended with status 7"),
        (fake_engines.Hangs, "no answer to 'first_run'"),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else "",
)
def test_an_engine_that_fails_gives_its_reason_and_the_others_go_on(
    engine: type[fake_engines.Twice], reason: str
) -> None:
    bad, good = measure(candidate(engine), candidate(fake_engines.Twice))
    assert bad.status == "not run"
    assert bad.latency_ms is None and bad.samples_ms == ()
    assert bad.reason is not None and reason in bad.reason
    assert good.status == "ok"


def test_an_engine_that_is_not_installed_says_how_to_get_it() -> None:
    entry = EngineEntry("x:Y", "config", "no_such_module", "pip install it")
    (row,) = measure(Candidate("peer", entry, "x86_64"))
    assert row.reason == "no_such_module is not installed: pip install it"


def test_an_engine_without_its_form_of_the_network_says_so() -> None:
    network = replace(NETWORK, config=None)
    entry = EngineEntry("x:Y", "onnx", "numpy", "pip install numpy")
    rows = measure(
        candidate(fake_engines.Twice), Candidate("ort", entry, "x86_64"), network=network
    )
    assert [row.status for row in rows] == ["not run", "not run"]
    assert "PyTorch needs one of our models" in (rows[0].reason or "")
    assert "pass --onnx FILE" in (rows[1].reason or "")


def test_a_candidate_can_be_absent_beforehand() -> None:
    (row,) = measure(replace(candidate(fake_engines.Twice), absent="does not compile: why"))
    assert (row.status, row.reason) == ("not run", "does not compile: why")


def test_a_restless_engine_is_said_aloud() -> None:
    heard = Heard()
    measure(candidate(fake_engines.Restless), heard=heard)
    assert "threads of Restless kept running while others were measured" in heard.notes


def test_engines_classify_labelled_images_before_their_turns() -> None:
    images = np.zeros((3, 1, 3, 32, 32), np.float32)
    images[1, 0, 0, 0, 5] = images[2, 0, 0, 0, 7] = 1
    # ``argmax`` of an output as a whole
    known = Labelled(images, np.array([0, 5, 6]), "images.npz")
    network = replace(NETWORK, labelled=known)
    opener = ProcessOpener(TIMEOUTS)
    (row,) = SideBySide(
        [candidate(fake_engines.Twice)], network, 1, opener, Heard(), QUICK
    ).measure()
    assert row.status == "ok", row.reason  # the last output is that of the network's own input
    assert row.accuracy == Accuracy(2, 3, "images.npz")
