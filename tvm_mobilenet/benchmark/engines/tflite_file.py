"""A network of ours as LiteRT's file, converted from PyTorch, and that in int8.

Converting takes 15 s and half a gigabyte, once for a network, on the desk: it is done in a process
of its own before anything is timed, and is in neither the time to load nor the memory.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tvm_mobilenet import chatter, models, processes
from tvm_mobilenet.benchmark.engines import ENGINES
from tvm_mobilenet.benchmark.engines.protocol import EngineUnavailable
from tvm_mobilenet.errors import RunFailed, first_line
from tvm_mobilenet.weights import rebuild

if TYPE_CHECKING:
    from tvm_mobilenet.benchmark.engines.protocol import Array


def convert(
    config: models.Config, shape: Sequence[int], output: Path, weights: Path | None = None
) -> None:
    """Write the network for inputs of ``shape`` (N, C, H, W) to ``output``, in fp32.

    Its weights are those in the file ``weights``, or random. Raises EngineUnavailable where the
    converter is not installed or cannot convert the network.
    """
    _in_a_process(_convert, config, tuple(shape), output, weights)


def quantize(path: Path, output: Path, batches: Sequence[Array]) -> None:
    """Write the file ``path`` in int8 to ``output``: int8 activations, int8 weights by channel.

    ``batches`` are inputs to calibrate with, (N, C, H, W). Raises EngineUnavailable.
    """
    _in_a_process(_quantize, path, output, batches)


def _in_a_process(work: Callable[..., None], *arguments: object) -> None:
    reason = ENGINES["litert"].missing()
    if reason is not None:
        raise EngineUnavailable(reason)
    try:
        processes.call(_silently, work, *arguments)
    except RunFailed as error:
        raise EngineUnavailable(str(error)) from None


def _silently(work: Callable[..., None], *arguments: object) -> None:
    try:
        with chatter.kept_back():
            work(*arguments)
    except Exception as error:  # whatever a converter raises is this engine's reason
        raise RunFailed(
            f"LiteRT's converter does not take it: {type(error).__name__}: {first_line(error)}"
        ) from None


def _convert(
    config: models.Config, shape: tuple[int, ...], output: Path, weights: Path | None
) -> None:
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    import litert_torch
    import torch

    module = models.build(config) if weights is None else rebuild(weights, config)
    litert_torch.convert(module, (torch.zeros(shape),)).export(str(output))


def _quantize(path: Path, output: Path, batches: Sequence[Array]) -> None:
    from ai_edge_litert.interpreter import Interpreter
    from ai_edge_quantizer import quantizer, recipe

    ((signature, names),) = Interpreter(str(path)).get_signature_list().items()
    (name,) = names["inputs"]
    work = quantizer.Quantizer(str(path), recipe.static_wi8_ai8())
    ranges = work.calibrate({signature: [{name: np.ascontiguousarray(one)} for one in batches]})
    work.quantize(ranges).export_model(str(output))
