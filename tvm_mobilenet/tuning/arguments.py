"""The arguments a kernel is measured with: random, its weights as often as cold caches want."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tvm_mobilenet.tuning.messages import Argument, RunTask, Settings

if TYPE_CHECKING:
    import tvm

L2_DEFAULT = 2 << 20  # bytes, where the system does not tell
MAX_COPIES = 2048  # of one kernel's weights
MAX_COPIES_BYTES = 128 << 20
GUARD = 64  # bytes after each argument that a kernel must leave alone
GUARD_BYTE = 0xA5


def arguments_of(mod: tvm.IRModule) -> tuple[Argument, ...]:
    """The parameters of ``main``: what it writes is an output, what it only reads is its input
    where it comes first, else a constant. A function attribute ``constant_params`` (places) says
    otherwise.
    """
    import tvm_ffi
    from tvm import tirx

    func = mod["main"]
    written: list[Any] = []
    tvm_ffi.structural_walk(func.body, (tirx.BufferStore, lambda one: written.append(one.buffer)))
    named = func.attrs.get("constant_params") if func.attrs else None
    arguments = []
    for place, param in enumerate(func.params):
        constant = place > 0 if named is None else place in [int(one) for one in named]
        role: Literal["input", "constant", "output"] = "constant" if constant else "input"
        if any(buffer.same_as(param) for buffer in written):
            role = "output"
        shape = tuple(int(dim) for dim in param.shape)
        arguments.append(Argument(shape, str(param.dtype), role))
    return tuple(arguments)


class Arguments:
    """A kernel's arguments in one arena on huge pages, as in the network.

    ``rotation`` holds one tuple of tensors for each copy of the constants: going through it brings
    every weight from beyond L2, while the activations stay where the last call left them.
    """

    def __init__(self, arguments: tuple[Argument, ...], settings: Settings) -> None:
        import numpy as np

        from tvm_mobilenet import arena, tvm_runtime

        from_dlpack = tvm_runtime.ffi().from_dlpack
        sizes = [_bytes(one) for one in arguments]
        constant_bytes = sum(
            size for size, one in zip(sizes, arguments, strict=True) if one.role == "constant"
        )
        copies = _copies(constant_bytes) if settings.cold else 1
        order = [
            (place, copy)
            for copy in range(copies)
            for place, one in enumerate(arguments)
            if one.role == "constant" or copy == 0
        ]
        blocks = arena.allocate([sizes[place] + GUARD for place, _ in order])
        rng = np.random.default_rng(settings.seed)
        views: dict[tuple[int, int], Any] = {}
        self._guards = []
        for (place, copy), block in zip(order, blocks, strict=True):
            argument = arguments[place]
            view = block[: sizes[place]].view(argument.dtype).reshape(argument.shape)
            view[...] = views[place, 0] if copy else _random(rng, argument)
            views[place, copy] = view
            self._guards.append(block[sizes[place] :])
            self._guards[-1][:] = GUARD_BYTE
        self._outputs = [
            views[place, 0] for place, one in enumerate(arguments) if one.role == "output"
        ]
        self._expected: list[Any] = []
        tensors = {key: from_dlpack(view) for key, view in views.items()}
        self.rotation = [
            tuple(
                tensors[place, copy if one.role == "constant" else 0]
                for place, one in enumerate(arguments)
            )
            for copy in range(copies)
        ]

    def expect(self, task: RunTask, load: Callable[[str], Any]) -> None:
        """Compute the reference's outputs, or read them where an earlier runner has."""
        import numpy as np

        path = Path(task.expected)
        if not path.exists():
            load(task.reference)["main"](*self.rotation[0])
            draft = path.with_suffix(f".{os.getpid()}.npz")
            np.savez(draft, *self._outputs)
            os.replace(draft, path)
        with np.load(path) as stored:
            self._expected = [stored[name] for name in stored.files]

    def poison_outputs(self) -> None:
        """Make an output that the kernel does not write a wrong one."""
        for output in self._outputs:
            output.fill(float("nan") if output.dtype.kind == "f" else 77)

    def check(self, tolerance: float) -> tuple[str, float]:
        """What is wrong with the outputs (empty: nothing), and their relative error."""
        import numpy as np

        if any((guard != GUARD_BYTE).any() for guard in self._guards):
            return "it wrote outside its arguments", 0.0
        worst = 0.0
        for output, expected in zip(self._outputs, self._expected, strict=True):
            if not np.isfinite(output).all():
                return "an output is left unwritten or not finite", 0.0
            scale = float(np.linalg.norm(expected.astype(np.float64))) or 1.0
            difference = np.linalg.norm(output.astype(np.float64) - expected.astype(np.float64))
            worst = max(worst, float(difference) / scale)
        wrong = worst > tolerance
        return (f"relative error {worst:.1e}, at most {tolerance:.0e}" if wrong else ""), worst


def _copies(constant_bytes: int) -> int:
    """How many copies of the weights, taken in turn, never meet one still in L2."""
    if constant_bytes == 0:
        return 1
    wanted = -(-2 * _l2_bytes() // constant_bytes)
    return max(1, min(wanted + 1, MAX_COPIES, MAX_COPIES_BYTES // constant_bytes))


def _l2_bytes() -> int:
    core = min(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0
    try:
        text = Path(f"/sys/devices/system/cpu/cpu{core}/cache/index2/size").read_text().strip()
        return int(text.rstrip("KM")) * (1 << 20 if text.endswith("M") else 1 << 10)
    except (OSError, ValueError):
        return L2_DEFAULT


def _bytes(argument: Argument) -> int:
    import numpy as np

    return int(np.prod(argument.shape, dtype=np.int64)) * np.dtype(argument.dtype).itemsize


def _random(rng: Any, argument: Argument) -> Any:
    import numpy as np

    if np.dtype(argument.dtype).kind == "f":
        return rng.standard_normal(argument.shape, dtype=np.float32)
    return rng.integers(0, 100, argument.shape)
