"""Runs of stores: statements in a row that are nothing else, of which some become one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

import tvm_ffi
from tvm import sym, tirx
from tvm.ir import Expr


class RunStore(Protocol):
    """A store: its place among the statements, and where in its buffer it begins."""

    @property
    def place(self) -> int: ...

    @property
    def base(self) -> Expr: ...

    def goes_with(self, other: Any) -> bool:
        """Whether one store may write what both do."""


Store = TypeVar("Store", bound=RunStore)


def join_runs(
    body: tirx.Stmt,
    store_of: Callable[[tirx.Stmt, int], Store | None],
    join: Callable[[Sequence[Store], list[tirx.Stmt | None]], None],
) -> tirx.Stmt:
    """``body``, after ``join`` was given each run of its stores and the statements they are among.

    ``store_of`` tells a statement at a place that is such a store; ``join`` puts others in their
    places, and None where there is none any more.
    """

    def joined(statements: tirx.SeqStmt) -> tirx.Stmt:
        kept: list[tirx.Stmt | None] = list(statements.seq)
        run: list[Store] = []
        for place, statement in enumerate([*statements.seq, None]):
            store = None if statement is None else store_of(statement, place)
            if store is not None and (not run or store.goes_with(run[0])):
                run.append(store)
                continue
            join(run, kept)
            run = [] if store is None else [store]
        left = [one for one in kept if one is not None]
        if len(left) == len(kept):
            return statements
        return left[0] if len(left) == 1 else tirx.SeqStmt(left)

    return tvm_ffi.structural_map(body, (tirx.SeqStmt, joined))


def by_distance(run: Sequence[Store]) -> dict[int, Store]:
    """A run by how many elements after its first store each begins, where that is known."""
    analyzer = sym.Analyzer()
    apart = [analyzer.simplify(one.base - run[0].base) for one in run]
    return {
        int(distance.value): one
        for distance, one in zip(apart, run, strict=True)
        if isinstance(distance, tirx.IntImm)
    }
