"""How the lanes of a warp hold a 16 x 16 tile for ``mma.sync`` (PTX ISA, "Matrix Fragments").

Every lane has 8 elements of a tile, in the order in which the instructions take their registers. Of
float16, m16n8k16 takes all eight of A, and m16n8k8 halves of them; of tf32, which is as wide as
float32, m16n8k8 takes halves. A is indexed (m, k), B (k, n), C (m, n); C is float32 for both.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

TILE = 16
LANES = 32  # of a warp
HELD = TILE * TILE // LANES  # elements a lane


@dataclass(frozen=True)
class Fragments:
    """Where the operands' elements lie: (lane, position) of (m, k) in A and of (k, n) in B.

    ``suffix`` is that of the schedule rules whose instructions read them so.
    """

    suffix: str
    a_place: Callable[[Any, Any], tuple[Any, Any]]
    b_place: Callable[[Any, Any], tuple[Any, Any]]


def a_place(m: Any, k: Any) -> tuple[Any, Any]:
    """(lane, position) of element (m, k) of A."""
    return 4 * (m % 8) + k % 8 // 2, 4 * (k // 8) + 2 * (m // 8) + k % 2


def b_place(k: Any, n: Any) -> tuple[Any, Any]:
    """(lane, position) of element (k, n) of B."""
    return 4 * (n % 8) + k % 8 // 2, 4 * (n // 8) + 2 * (k // 8) + k % 2


def c_place(m: Any, n: Any) -> tuple[Any, Any]:
    """(lane, position) of element (m, n) of C."""
    return 4 * (m % 8) + n % 8 // 2, 4 * (n // 8) + 2 * (m // 8) + n % 2


def c_element(lane: Any, position: Any) -> tuple[Any, Any]:
    """The (m, n) of C that a lane holds at a position: c_place backwards."""
    return lane // 4 + 8 * (position % 4 // 2), 8 * (position // 4) + 2 * (lane % 4) + position % 2


def tf32_a_place(m: Any, k: Any) -> tuple[Any, Any]:
    """(lane, position) of element (m, k) of A."""
    return 4 * (m % 8) + k % 4, 4 * (k // 8) + 2 * (k % 8 // 4) + m // 8


def tf32_b_place(k: Any, n: Any) -> tuple[Any, Any]:
    """(lane, position) of element (k, n) of B."""
    return 4 * (n % 8) + k % 4, 4 * (n // 8) + 2 * (k // 8) + k % 8 // 4


HALVES = Fragments("mma", a_place, b_place)
TF32 = Fragments("tf32", tf32_a_place, tf32_b_place)
