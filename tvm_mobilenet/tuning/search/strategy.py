"""Which schedules of a kernel to measure next.

First the rule's own default and what records of this or another machine say, then every option of
every knob once, changed in the best schedule so far. Then MetaSchedule's XGBoost model, trained on
all tasks, ranks a pool of untried points, of which a share is measured in spite of it. Our spaces
have tens to thousands of points, so most are either searched to their end or well known by then.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from tvm.s_tir import meta_schedule as ms
from tvm.s_tir.meta_schedule.cost_model.xgb_model import XGBConfig

from tvm_mobilenet.scheduling.space import Candidate, KernelSpace, Knob, Rejected
from tvm_mobilenet.scheduling.traces import Option, Point

LISTED = 1 << 16  # a space up to this size is drawn from without repetition
POOL = 64  # points the model ranks for a batch, half of them new; 4 ms each, 2 for features
ELITE = 5  # best schedules whose neighbours enter the pool
EXPLORE = 0.25  # of a batch: taken whatever the model says
COVER = 0.5  # of a batch: options never tried
TAUGHT = 48  # known records of a kernel that the model starts from; 5 ms each
WARM_UP = 24  # measurements before the model is asked


@dataclass
class CostModel:
    """MetaSchedule's XGBoost model over its per-store features, for all tasks of a run."""

    model: Any = field(default_factory=lambda: _xgb_model())
    seen: int = 0

    def update(
        self, space: KernelSpace, candidates: Sequence[Candidate], seconds: Sequence[float]
    ) -> None:
        """Learn from measurements."""
        if not candidates:
            return
        results = [ms.runner.RunnerResult([one], None) for one in seconds]
        self.model.update(space.context, [c.measure_candidate() for c in candidates], results)
        self.seen += len(candidates)

    def rank(self, space: KernelSpace, candidates: list[Candidate]) -> list[Candidate]:
        """The candidates by predicted speed, fastest first; as they are before the warm-up."""
        if self.seen < WARM_UP or len(candidates) < 2:
            return candidates
        scores = self.model.predict(space.context, [c.measure_candidate() for c in candidates])
        order = sorted(range(len(candidates)), key=lambda i: -float(scores[i]))
        return [candidates[i] for i in order]


class Search:
    """Proposes batches for one kernel and learns from what became of them.

    ``seeds`` are traces in JSON to measure first; ``known`` the keys of schedules that need no
    measuring again, ``known_times`` the times of those that have one.
    """

    def __init__(
        self,
        space: KernelSpace,
        model: CostModel,
        rng: random.Random,
        *,
        seeds: Iterable[str] = (),
        known: Iterable[str] = (),
        known_times: Iterable[tuple[str, float]] = (),
    ) -> None:
        self.space = space
        self.rejected = 0
        self._model = model
        self._rng = rng
        self._tried = set(known)
        self._structures: set[int] = set()
        self._points: set[Point] = set()
        self._options: set[tuple[int, Option]] = set()
        self._best: list[tuple[float, Candidate]] = []
        self._promising: list[Candidate] = []  # of the last pool, to be ranked again
        self._first = [space.default, *self._replayed(seeds)]
        self._untried = _Deck(space, rng)
        self.exhausted = False
        self._learn_known(known_times)

    @property
    def explored(self) -> tuple[int, int]:
        """How many options of how many, over all knobs, a measured schedule has had."""
        total = sum(len(knob.options) for knob in self.space.knobs)
        return min(len(self._options), total), total

    def propose(self, count: int) -> list[Candidate]:
        """At most ``count`` new candidates, most promising first; none when all are known."""
        batch: list[Candidate] = []
        while self._first and len(batch) < count:
            self._take(self._first.pop(0), batch)
        for point in self._uncovered():
            if len(batch) >= max(1, round(COVER * count)):
                break
            if (candidate := self._make(point)) is not None:
                self._take(candidate, batch)
        for candidate in self._from_pool(count - len(batch)):
            self._take(candidate, batch)
        self.exhausted = not batch
        return batch

    def observe(self, results: Sequence[tuple[Candidate, float | None]]) -> None:
        """Learn the times, in seconds; None for a schedule that failed."""
        measured = [(seconds, one) for one, seconds in results if seconds is not None]
        self._best = sorted([*self._best, *measured], key=lambda pair: pair[0])[:ELITE]
        self._model.update(self.space, [c for _, c in measured], [s for s, _ in measured])

    # ---- where candidates come from

    def _replayed(self, seeds: Iterable[str]) -> list[Candidate]:
        replayed = []
        for trace_json in seeds:
            try:
                replayed.append(self.space.replay(trace_json))
            except Rejected:  # another version's rules wrote it
                self.rejected += 1
        return replayed

    def _learn_known(self, known_times: Iterable[tuple[str, float]]) -> None:
        """Train on some of the known times, from the fastest to the slowest."""
        by_time = sorted(known_times, key=lambda pair: pair[1])
        step = max(1, len(by_time) // TAUGHT)
        results: list[tuple[Candidate, float | None]] = []
        for trace_json, seconds in by_time[:ELITE] + by_time[ELITE::step]:
            for candidate in self._replayed([trace_json]):
                self._note(candidate)
                results.append((candidate, seconds))
        self.observe(results)

    def _uncovered(self) -> list[Point]:
        """The best point so far with one option changed to one that no schedule has had yet."""
        base = self._best[0][1].point if self._best else self.space.default.point
        if len(base) != len(self.space.knobs):
            base = self.space.default.point
        points = [
            (*base[:place], option, *base[place + 1 :])
            for place, knob in enumerate(self.space.knobs)
            for option in knob.options
            if (place, option) not in self._options
        ]
        self._rng.shuffle(points)
        return points

    def _from_pool(self, count: int) -> list[Candidate]:
        if count < 1:
            return []
        pool = {one.structure: one for one in self._promising if not self._known(one)}
        for point in (*self._neighbours(), *self._untried.draw(4 * POOL, self._points)):
            if len(pool) >= POOL:
                break
            if (candidate := self._make(point)) is not None:
                pool.setdefault(candidate.structure, candidate)
        ranked = self._model.rank(self.space, list(pool.values()))
        explore = round(EXPLORE * count)
        chosen, rest = ranked[: count - explore], ranked[count - explore :]
        self._promising = rest[: POOL // 2]
        return chosen + self._rng.sample(rest, min(explore, len(rest)))

    def _neighbours(self) -> list[Point]:
        """Points one option away from the best few, half a pool of them."""
        points = [
            (*candidate.point[:place], option, *candidate.point[place + 1 :])
            for _, candidate in self._best
            if len(candidate.point) == len(self.space.knobs)
            for place, knob in enumerate(self.space.knobs)
            for option in knob.options
        ]
        points = [point for point in points if point not in self._points]
        return self._rng.sample(points, min(len(points), POOL // 2))

    # ---- what has been tried

    def _make(self, point: Point) -> Candidate | None:
        """The candidate at a point, None where it is refused or known."""
        if point in self._points:
            return None
        try:
            candidate = self.space.at(point)
        except Rejected:
            self.rejected += 1
            self._points.add(point)
            return None
        if self._known(candidate):
            self._points.add(point)
            self._options.update(enumerate(candidate.point))
            return None
        return candidate

    def _known(self, candidate: Candidate) -> bool:
        """Whether it, or one that comes to the same code, has been proposed or recorded."""
        return candidate.key in self._tried or candidate.structure in self._structures

    def _take(self, candidate: Candidate, batch: list[Candidate]) -> None:
        if not self._known(candidate):
            batch.append(candidate)
        self._note(candidate)

    def _note(self, candidate: Candidate) -> None:
        self._tried.add(candidate.key)
        self._structures.add(candidate.structure)
        self._points.add(candidate.point)
        self._options.update(enumerate(candidate.point))


class _Deck:
    """Random points of a space: never the same twice where it can be listed."""

    def __init__(self, space: KernelSpace, rng: random.Random) -> None:
        self._knobs: tuple[Knob, ...] = space.knobs
        self._rng = rng
        self._cards = list(space.points()) if space.size <= LISTED else None

    def draw(self, count: int, without: set[Point]) -> list[Point]:
        """Up to ``count`` points that are not in ``without``."""
        if self._cards is None:
            points = (tuple(self._rng.choice(k.options) for k in self._knobs) for _ in range(count))
            return [point for point in points if point not in without]
        self._cards = [point for point in self._cards if point not in without]
        return self._rng.sample(self._cards, min(count, len(self._cards)))


def _xgb_model() -> Any:
    # quiet, on one thread: the cores are for building and measuring
    return ms.cost_model.XGBModel(
        num_warmup_samples=0, verbose_eval=0, config=XGBConfig(nthread=1, max_depth=6)
    )
