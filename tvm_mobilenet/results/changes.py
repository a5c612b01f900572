"""Two sets of results, old and new, held against each other: a verdict for every row.

Rows of two runs were never measured in turns. What both runs have in common are the peers: one of
the same version is a reference, by which the machine's own speed is divided out. Where the
references say that the machine was another one, nothing is compared. Where the core had two states
in both runs, what was taken in the same one is compared.
"""

from __future__ import annotations

import statistics as plain
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from tvm_mobilenet.provenance import Machine
from tvm_mobilenet.results.schema import ResultRow, Results
from tvm_mobilenet.results.statistics import (
    BLOCKS,
    MARGIN_ACROSS,
    MARGIN_WITHOUT_REFERENCE,
    SAME_STATE,
    Ratio,
    Verdict,
    compare_across,
)
from tvm_mobilenet.results.tables import is_ours, variant_name

ChangeVerdict = Verdict | Literal["not comparable"]
MACHINE_MOVED = 0.10  # references that moved by more tell of another machine
STATES = {"a": "alone", "s": "shared"}  # of a core, by their letters in a row's samples
COUNTS_DIFFER = 0.001  # of counted instructions; ours repeat exactly, a runtime's start does not
Files = Sequence[tuple[str, Results]]
Key = tuple[object, ...]


@dataclass(frozen=True)
class Change:
    """One engine on one network: ``ratio`` is new ÷ old, so above 1 it became slower.

    ``old`` and ``new`` are medians in ms, or millions of instructions where ``counted``.
    ``references`` says by which engines the machine's speed was divided out. ``reason`` is why a
    row is not comparable. ``core`` is empty but where one of the runs had two states of the core:
    in which of them the two are compared, and what share of each run that is.
    """

    machine: str
    network: str
    engine: str
    precision: str
    threads: int
    how: str
    old: float | None
    new: float | None
    ratio: Ratio | None
    verdict: ChangeVerdict
    references: tuple[str, ...] = ()
    reason: str = ""
    counted: bool = False
    core: str = ""

    @property
    def slower_by(self) -> float:
        """By what share it became slower where that can be told; else 0."""
        if self.verdict != "slower" or self.ratio is None:
            return 0.0
        return self.ratio.value - 1


def machine_name(machine: Machine) -> str:
    """The machine, or the device that was measured, by what makes latencies comparable."""
    where = machine.device or machine
    cores = "" if where.cores is None else f", {where.cores} core{'s' if where.cores > 1 else ''}"
    return f"{where.cpu}{cores}"


@dataclass(frozen=True)
class _Found:
    row: ResultRow
    beside: tuple[ResultRow, ...]  # the peers that took turns with it


def changes(old: Files, new: Files) -> list[Change]:
    """A change for every row of ours and every peer whose version changed, old rows first.

    References themselves get none. A row that is in one of the two alone is not comparable.
    """
    before, after = _rows(old), _rows(new)
    return [
        change
        for key in dict.fromkeys([*before, *after])
        for change in _change(key, before.get(key), after.get(key))
    ]


def _rows(files: Files) -> dict[Key, _Found]:
    """By machine and what was measured; of several files the last one's row counts."""
    found: dict[Key, _Found] = {}
    for _, results in files:
        where = machine_name(results.machine)
        by_network: dict[Key, list[ResultRow]] = {}
        for row in results.results:
            by_network.setdefault(_network(where, row), []).append(row)
        for network, rows in by_network.items():
            for row in rows:
                peers = tuple(r for r in rows if r is not row and not is_ours(r) and r.samples_ms)
                found[(*network, row.engine)] = _Found(row, peers)
    return found


def _network(where: str, row: ResultRow) -> Key:
    return (
        where,
        row.model,
        row.alpha,
        row.resolution,
        row.batch,
        row.precision,
        row.threads,
        row.circumstances,
    )


def _change(key: Key, old: _Found | None, new: _Found | None) -> Iterator[Change]:
    found = new or old
    assert found is not None
    row = found.row
    if old and new and not is_ours(row) and old.row.engine_version == new.row.engine_version:
        return  # a reference
    network = variant_name(row) if row.batch == 1 else f"{variant_name(row)}, batch {row.batch}"
    same = (str(key[0]), network, row.engine, row.precision, row.threads, row.circumstances)
    before, after = _figure(old), _figure(new)
    counted = row.instructions is not None
    reason = _missing(old, "old") or _missing(new, "new")
    if old is None or new is None or before is None or after is None:
        yield Change(*same, before, after, None, "not comparable", reason=reason, counted=counted)
        return
    if counted:
        ratio = Ratio(after / before, after / before, after / before)
        verdict = _reversed(ratio.verdict_beyond(COUNTS_DIFFER))
        yield Change(*same, before, after, ratio, verdict, counted=True)
        return
    letter, core = _state_of_both(old.row, new.row)
    if letter is not None:
        old, new = _in_state(old, letter), _in_state(new, letter)
        before, after = _median(old), _median(new)
    elif _has_two(old.row) and _has_two(new.row):
        reason = f"the core was hardly ever in the same state: {core}"
        yield Change(*same, before, after, None, "not comparable", reason=reason, core=core)
        return
    names = _references(old, new)
    moved = _machine_moved(old, new, names)
    if moved:
        yield Change(*same, before, after, None, "not comparable", names, moved, core=core)
        return
    ratio = compare_across(
        new.row.samples_ms, old.row.samples_ms, _samples(new, names), _samples(old, names)
    )
    margin = MARGIN_ACROSS if names else MARGIN_WITHOUT_REFERENCE
    yield Change(
        *same,
        before,
        after,
        ratio,
        _reversed(ratio.verdict_beyond(margin)),
        references=names,
        core=core,
    )


def _has_two(row: ResultRow) -> bool:
    """Whether two states of the core are known apart."""
    return row.core is not None and row.core.states == 2


def _state_of_both(old: ResultRow, new: ResultRow) -> tuple[str | None, str]:
    """The letter of the state in which the two are compared, None for all; and that in words."""
    if not (_has_two(old) and _has_two(new)):
        counts = ["two states" if _has_two(row) else "one state" for row in (old, new)]
        return None, "" if counts[0] == counts[1] else f"{counts[0]}, then {counts[1]}"
    shares = {letter: [_share(row, letter) for row in (old, new)] for letter in SAME_STATE}
    enough = [
        letter
        for letter in SAME_STATE
        if all(len(_taken(row, letter)) >= BLOCKS for row in (old, new))
    ]
    if not enough:
        before, after = shares["a"]
        return None, f"alone in {before:.0%} of the old runs, {after:.0%} of the new"
    letter = max(enough, key=lambda one: min(shares[one]))
    before, after = shares[letter]
    return letter, f"{STATES[letter]}: {before:.0%}, then {after:.0%}"


def _taken(row: ResultRow, letter: str) -> tuple[float, ...]:
    """The samples that were taken in a state."""
    assert row.core is not None
    return tuple(
        ms for ms, one in zip(row.samples_ms, row.core.of_samples, strict=True) if one == letter
    )


def _share(row: ResultRow, letter: str) -> float:
    return len(_taken(row, letter)) / len(row.samples_ms)


def _in_state(found: _Found, letter: str) -> _Found:
    """What was taken in a state, beside the peers of which that is known too."""
    row = replace(found.row, samples_ms=_taken(found.row, letter))
    beside = [
        replace(peer, samples_ms=taken)
        for peer in found.beside
        if _has_two(peer) and len(taken := _taken(peer, letter)) >= BLOCKS
    ]
    return _Found(row, tuple(beside))


def _median(found: _Found) -> float:
    return plain.median(found.row.samples_ms)


def _figure(found: _Found | None) -> float | None:
    """The median in ms, or millions of instructions."""
    if found is None:
        return None
    if found.row.instructions is not None:
        return found.row.instructions / 1e6
    return None if found.row.latency_ms is None else found.row.latency_ms.p50


def _missing(found: _Found | None, which: str) -> str:
    if found is None:
        return f"the {which} results have no such row"
    if _figure(found) is None:
        return f"it was not run in the {which} results: {found.row.reason}"
    return ""


def _references(old: _Found, new: _Found) -> tuple[str, ...]:
    versions = {row.engine: row.engine_version for row in old.beside}
    return tuple(
        row.engine
        for row in new.beside
        if row.engine_version is not None and versions.get(row.engine) == row.engine_version
    )


def _samples(found: _Found, names: Sequence[str]) -> list[Sequence[float]]:
    by_name = {row.engine: row.samples_ms for row in found.beside}
    return [by_name[name] for name in names]


def _machine_moved(old: _Found, new: _Found, names: Sequence[str]) -> str:
    """Why the machine was not the same one, by its references; empty where it was."""
    if not names:
        return ""
    pairs = zip(_samples(new, names), _samples(old, names), strict=True)
    moves = [plain.median(after) / plain.median(before) for after, before in pairs]
    moved = plain.geometric_mean(moves)
    if 1 / (1 + MACHINE_MOVED) <= moved <= 1 + MACHINE_MOVED:
        return ""
    return (
        f"the machine was another one: {', '.join(names)}, the same in both, took {moved:.2f} "
        "times as long"
    )


def _reversed(verdict: Verdict) -> Verdict:
    """Of new ÷ old the verdict is about the dividend, which is slower where that is above 1."""
    opposites: dict[Verdict, Verdict] = {"faster": "slower", "slower": "faster"}
    return opposites.get(verdict, verdict)
