"""PyTorch's exporter for a process that exports many networks.

Run as a program it is PyTorch's process, which ``kept_torch`` keeps for many networks.
"""

from __future__ import annotations

import contextlib
from functools import cache


@cache
def keep_operators() -> None:
    """Let exports of this process share what depends on no network.

    The exporter makes its table of operators anew for each, which takes 0.5 s, most of a small
    network's export; and for every namespace of operators it looks for all that C++ has, 0.1 s.
    """
    from torch._export import utils
    from torch.onnx._internal.exporter import _registration as registration

    table = registration.ONNXRegistry
    table.from_torchlib = staticmethod(cache(table.from_torchlib))  # type: ignore[method-assign]
    utils._materialize_cpp_cia_ops = cache(utils._materialize_cpp_cia_ops)


if __name__ == "__main__":
    from support import torch_exporter

    from tvm_mobilenet.network import torch_worker

    torch_exporter.keep_operators()
    with contextlib.suppress(EOFError, ConnectionError):
        torch_worker.serve()
