"""PyTorch's exporter for a process that exports many networks.

Run as a program it is PyTorch's process, which ``kept_torch`` keeps for many networks.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import cache
from typing import Any


@cache
def keep_operators() -> None:
    """Let exports of this process share what depends on no network.

    The exporter makes its table of operators anew for each, which takes 0.5 s, most of a small
    network's export; for every namespace of operators it looks for all that C++ has, 0.1 s; and
    twice it gives 500 operators some 20 kernels each, one by one, as long.
    """
    from torch._export import utils
    from torch.export import decomp_utils, exported_program
    from torch.onnx._internal.exporter import _registration as registration

    table = registration.ONNXRegistry
    table.from_torchlib = staticmethod(cache(table.from_torchlib))  # type: ignore[method-assign]
    utils._materialize_cpp_cia_ops = cache(utils._materialize_cpp_cia_ops)
    decomposition = cache(utils._get_decomp_for_cia)
    users: tuple[Any, ...] = (decomp_utils, exported_program)
    for module in users:
        module._get_decomp_for_cia = decomposition
    exporting: Any = exported_program
    exporting._override_composite_implicit_decomp = kept_overrides(
        exporting._override_composite_implicit_decomp
    )


Decompositions = dict[Any, Callable[..., Any]]  # of operators
Override = Callable[[Decompositions], AbstractContextManager[None]]


def kept_overrides(override: Override) -> Override:
    """The same kernels of operators while it lasts, made once for the same decompositions.

    A decomposition is another one unless it is the same object, whatever it closes over.
    """
    from torch._subclasses import fake_impls

    # the decompositions, what they made of each operator's kernels, and the rules of fake tensors
    kept: list[tuple[Decompositions, dict[Any, Any], Decompositions]] = []

    @contextlib.contextmanager
    def kept_override(decompositions: Decompositions) -> Iterator[None]:
        found = next((made for known, *made in kept if known == decompositions), None)
        if found is None:
            before = dict(fake_impls.op_implementations_dict)
            with override(decompositions):
                kernels = {one: dict(one.py_kernels) for one in decompositions}
                after = fake_impls.op_implementations_dict
                rules = {one: after[one] for one in after if one not in before}
                kept.append((dict(decompositions), kernels, rules))
                yield
            return
        kernels, rules = found
        saved = {one: dict(one.py_kernels) for one in kernels}
        for one in kernels:
            put(one, kernels[one])
        fake_impls.op_implementations_dict.update(rules)
        try:
            yield
        finally:
            for one in rules:
                del fake_impls.op_implementations_dict[one]
            for one in kernels:
                put(one, saved[one])

    return kept_override


def put(operator: Any, kernels: Decompositions) -> None:
    operator.py_kernels.clear()
    operator.py_kernels.update(kernels)
    operator._dispatch_cache.clear()


if __name__ == "__main__":
    from support import torch_exporter

    from tvm_mobilenet.network import torch_worker

    torch_exporter.keep_operators()
    with contextlib.suppress(EOFError, ConnectionError):
        torch_worker.serve()
