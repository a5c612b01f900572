"""What a kernel multiplies, by its name: the one thing that says which peak of a core it has."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, TypeAlias, get_args

# float32 by FMAs, dot products of bytes or of bfloat16, float16 by FMAs, or products of tiles
Arithmetic: TypeAlias = Literal["fma", "bytes", "bf16", "fp16", "bytes_tiles", "bf16_tiles"]
BY_NAME: dict[str, Arithmetic] = {
    "quantized_": "bytes",
    "bf16_": "bf16",
    "fp16_": "fp16",
}
BY_TILES: dict[Arithmetic, Arithmetic] = {"bytes": "bytes_tiles", "bf16": "bf16_tiles"}
TILED = "_tiles_"  # in the names of kernels by products of tiles


def arithmetic_of(kernel: str) -> Arithmetic:
    """Of the kernel with this name."""
    for start, arithmetic in BY_NAME.items():
        if kernel.startswith(start):
            return BY_TILES[arithmetic] if TILED in kernel else arithmetic
    return "fma"


def dot_products_of(kernels: Iterable[str]) -> tuple[Arithmetic, ...]:
    """The kinds beyond float32 that some of these kernels are made of, in a fixed order."""
    found = set(map(arithmetic_of, kernels))
    return tuple(one for one in get_args(Arithmetic) if one in found and one != "fma")


def probe_of(arithmetic: Arithmetic) -> str:
    """The function of a library that measures its peak."""
    return f"{arithmetic}_peak"
