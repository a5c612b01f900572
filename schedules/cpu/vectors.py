"""Elements of vectors in another order."""

from __future__ import annotations

from collections.abc import Sequence

from tvm import tirx
from tvm.ir import Expr


def shuffled(vector: Expr, places: Sequence[int]) -> Expr:
    return tirx.Shuffle([vector], [tirx.IntImm("int32", place) for place in places])


def zipped(one: Expr, other: Expr) -> list[Expr]:
    """The elements of two vectors in turn, as two vectors."""
    count = int(str(one.ty.dtype).partition("x")[2])
    places = [place + start for place in range(count) for start in (0, count)]
    halves = places[:count], places[count:]
    return [
        tirx.Shuffle([one, other], [tirx.IntImm("int32", place) for place in half])
        for half in halves
    ]
