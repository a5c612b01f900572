"""The process that ``torch_process`` starts: PyTorch, with the networks it was asked to open."""

from __future__ import annotations

import contextlib
import gc

import numpy as np
import torch
from numpy.typing import NDArray

from tvm_mobilenet import models, weights
from tvm_mobilenet.errors import TvmMobilenetError
from tvm_mobilenet.network import onnx_export
from tvm_mobilenet.network.torch_process import Open
from tvm_mobilenet.processes import connect_to_parent

NEW_OBJECTS = 100_000  # before Python looks for garbage; by itself it does after 700


def serve() -> None:
    """Do what is asked until nothing comes."""
    # to look for garbage among all that was imported is a fifth of a first export's time
    gc.set_threshold(NEW_OBJECTS)
    pipe = connect_to_parent()
    networks: list[torch.nn.Module] = []
    while True:
        asked = pipe.recv()
        if isinstance(asked, Open):
            networks.append(_build(asked))
            if asked.sample is not None:
                pipe.send(_export(networks[-1], asked.sample))
            continue
        with torch.inference_mode():
            result = networks[asked.index](torch.from_numpy(asked.x))
        outputs = result if isinstance(result, tuple) else (result,)
        pipe.send(tuple(output.numpy() for output in outputs))


def _build(asked: Open) -> torch.nn.Module:
    if asked.state is None:
        return models.build(asked.config)
    return weights.build(asked.config, asked.state)


def _export(network: torch.nn.Module, sample: NDArray[np.float32]) -> bytes | TvmMobilenetError:
    """The network as a serialized ONNX model, verified; or why there is none."""
    try:
        exported = onnx_export.export(network, sample.shape)
        onnx_export.verify(exported, network, sample)
    except TvmMobilenetError as error:
        return error
    model: bytes = exported.SerializeToString()
    return model


if __name__ == "__main__":
    with contextlib.suppress(EOFError, ConnectionError):
        serve()
