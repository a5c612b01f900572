"""The case a task's candidates are checked with: its arguments' values, and the right outputs."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tvm_mobilenet.numerics import relative_error
from tvm_mobilenet.tuning.workers.messages import Argument

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from tvm import tirx

INDEPENDENT, UNSCHEDULED = "numpy", "unscheduled"
BYTES = ("int8", "uint8")
# how far a value may be from the integer that a kernel makes of it: where it lies just between two,
# its own rounding errors say which
MOST_APART = 0.51
# of integers made by two kernels, how many are next to each other for that reason
NEXT_INTEGER = 1 / 100
# by channel, from the least to the greatest, of sums of products of random bytes as real values
LEAST_SPREAD, GREATEST_SPREAD = 0.5, 64.0
WITHIN_BYTE = 64  # half of the results that start here are limited at most
BYTE_PRODUCT = 147 * 74  # the usual size of a product of a random uint8 and a random int8


def make(
    func: tirx.PrimFunc,
    arguments: Sequence[Argument],
    seed: int,
    run: Callable[[list[NDArray[Any]]], None],
) -> tuple[list[NDArray[Any]], str]:
    """Random inputs, the outputs they give in their places, and where those come from."""
    from tvm_mobilenet.tuning.workers import reference

    values = random_values(arguments, seed)
    return values, fill(func, arguments, values, reference.output, run)


def fill(
    func: tirx.PrimFunc,
    arguments: Sequence[Argument],
    values: list[NDArray[Any]],
    reference: Callable[..., NDArray[Any]],
    run: Callable[[list[NDArray[Any]]], None],
) -> str:
    """Put the outputs in their places among ``values``; returns where they come from.

    By NumPy, from the layer's meaning, as ``reference`` does it, bytes unrounded; ``run``, the
    unscheduled kernel, computes them in place for a kernel that has no such reference.
    """
    from tvm_mobilenet.tuning.workers.kernel_form import NoReference

    places = [place for place, one in enumerate(arguments) if one.role == "output"]
    try:
        if len(places) != 1 or places[0] != len(arguments) - 1:
            raise NoReference("expected one output, the last argument")
        values[-1] = reference(func, values[:-1], values[-1])
        return INDEPENDENT
    except NoReference:
        run(values)
        return UNSCHEDULED


def random_values(arguments: Sequence[Argument], seed: int) -> list[NDArray[Any]]:
    """A value for every argument, the outputs' places too."""
    import numpy as np

    rng = np.random.default_rng(seed)
    values = [_random(rng, one) for one in arguments]
    for place, one in enumerate(arguments):
        if one.bits_by is not None:
            values[place] = _bits(values[one.bits_by])
    return values


def save(path: Path, values: Sequence[NDArray[Any]]) -> None:
    """Write the values so that a reader finds all of them or no file."""
    import numpy as np

    draft = path.with_suffix(f".{os.getpid()}.npz")
    np.savez(draft, *values)
    os.replace(draft, path)


def load(path: str) -> list[NDArray[Any]]:
    """The values in a file that ``save`` wrote."""
    import numpy as np

    with np.load(path) as stored:
        return [from_bytes(stored[name]) for name in stored.files]


def from_bytes(value: NDArray[Any]) -> NDArray[Any]:
    """An array as NumPy reads it back, which does not know bfloat16."""
    import ml_dtypes

    return value.view(ml_dtypes.bfloat16) if value.dtype.kind == "V" else value


def is_float(dtype: Any) -> bool:
    """Whether a type, by itself or by its name, is of real numbers."""
    import ml_dtypes
    import numpy as np

    return np.dtype(dtype) in (np.float32, np.float64, np.float16, ml_dtypes.bfloat16)


def wrong(
    outputs: Sequence[NDArray[Any]], expected: Sequence[NDArray[Any]], tolerance: float
) -> tuple[str, float]:
    """What is wrong with outputs (empty: nothing), and their relative error ‖a-b‖/‖b‖."""
    import numpy as np

    worst = 0.0
    for output, right in zip(outputs, expected, strict=True):
        if output.dtype in BYTES:
            if reason := wrong_integers(output, right):
                return reason, 0.0
            continue
        if not np.isfinite(output).all():
            return "an output is left unwritten or not finite", 0.0
        worst = max(worst, relative_error(output, right))
    if not worst <= tolerance:
        return f"relative error {worst:.1e}, at most {tolerance:.0e}", worst
    return "", worst


def wrong_integers(output: NDArray[Any], right: NDArray[Any]) -> str:
    """What is wrong with bytes (empty: nothing), given what they are to be the next integers of.

    Where that is integers too, which another kernel made, few may differ, by one.
    """
    import numpy as np

    apart = np.abs(output.astype(np.float64) - right)
    farthest = apart.max(initial=0)
    if right.dtype.kind == "f":
        most = MOST_APART
    else:
        most = 1.0
        others, allowed = int(np.count_nonzero(apart)), max(1, int(NEXT_INTEGER * apart.size))
        if farthest <= most and others > allowed:
            return f"{others} of {apart.size} integers are 1 from the right one, at most {allowed}"
    return "" if farthest <= most else f"an integer {farthest:.2f} apart, at most {most:.2f}"


def cast(values: Sequence[NDArray[Any]], arguments: Sequence[Argument]) -> list[NDArray[Any]]:
    """The values as the arguments' types have them."""
    pairs = zip(values, arguments, strict=True)
    return [value.astype(one.dtype, copy=False) for value, one in pairs]


def poison(dtype: str) -> float:
    """What an output begins as, so that a kernel that does not write it computes wrongly."""
    return float("nan") if is_float(dtype) else 77


def _bits(scale: NDArray[Any]) -> NDArray[Any]:
    """Such scales in fixed point, and before them what sums start at: within a byte."""
    import numpy as np

    from tvm_mobilenet.kernels.cpu.requantization import POINT, SUMS

    start = np.rint(WITHIN_BYTE / scale.astype(np.float64))
    multiplier = np.rint(scale.astype(np.float64) * 2**POINT)
    return np.stack([start, multiplier], axis=1).astype(SUMS)


def _random(rng: Any, argument: Argument) -> NDArray[Any]:
    import numpy as np

    values: NDArray[Any]
    if argument.scales:
        spread = rng.uniform(np.log(LEAST_SPREAD), np.log(GREATEST_SPREAD), argument.shape)
        values = np.exp(spread) / (BYTE_PRODUCT * np.sqrt(argument.scales))
    elif argument.dtype in BYTES:
        info = np.iinfo(argument.dtype)
        low, high = (-argument.most, argument.most) if argument.most else (info.min, info.max)
        values = rng.integers(low, high + 1, argument.shape)
    elif argument.order:
        values = np.zeros(argument.shape)
        values[..., : -argument.order] = np.arange(argument.shape[-1] - argument.order)
    elif is_float(argument.dtype):
        values = rng.standard_normal(argument.shape, dtype=np.float32)
    else:
        values = rng.integers(0, argument.limit, argument.shape)
    return values.astype(argument.dtype, copy=False)
