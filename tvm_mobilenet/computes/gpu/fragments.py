"""How the lanes of a warp hold a 16 x 16 tile for `mma.sync` (PTX ISA, "Matrix Fragments").

Every lane has 8 elements of a tile, in the order in which m16n8k16 takes its registers; m16n8k8
takes the halves of the same eight. Two instructions make a tile's sixteen columns. A is indexed
(m, k), B (k, n), C (m, n).
"""

from __future__ import annotations

from typing import Any

from tvm_mobilenet.computes.gpu.image import TILE

LANES = 32
HELD = TILE * TILE // LANES  # elements a lane


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
