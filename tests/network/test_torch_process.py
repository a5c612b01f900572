"""PyTorch in a process of its own: what it answers, how its end is told, and that it ends."""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from tvm_mobilenet import models
from tvm_mobilenet.errors import RunFailed
from tvm_mobilenet.models import MobileNetConfig
from tvm_mobilenet.network import source
from tvm_mobilenet.network.torch_process import TorchNetwork, TorchProcess


def test_exports_and_runs(
    small_config: MobileNetConfig, small_network: Any, rng: np.random.Generator
) -> None:
    network = source.from_config(small_config, 2)
    x = rng.standard_normal((2, *small_config.input_shape), dtype=np.float32)
    with torch.inference_mode():
        wanted = small_network(torch.from_numpy(x)).numpy()
    (result,) = network.reference(x)
    np.testing.assert_allclose(result, wanted, rtol=1e-5, atol=1e-5)
    onnx.checker.check_model(network.onnx)


def open_network(config: MobileNetConfig, channels: int = 3) -> TorchNetwork:
    return TorchProcess().open(config, source.sample_of((1, channels, *config.input_shape[1:])))


def test_one_process_holds_several_networks(
    small_config: MobileNetConfig, rng: np.random.Generator
) -> None:
    process = TorchProcess()
    configs = (small_config, models.config_from("mobilenet_v1", alpha=0.5, resolution=32))
    sources = [source.from_config(config, 1, process) for config in configs]
    x = rng.standard_normal((1, *small_config.input_shape), dtype=np.float32)
    for config, network in zip(configs, sources, strict=True):
        with torch.inference_mode():
            expected = models.build(config)(torch.from_numpy(x)).numpy()
        (result,) = network.reference(x)
        np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-5)


def test_what_it_said_last_is_the_error(small_config: MobileNetConfig) -> None:
    with pytest.raises(RunFailed, match=r"PyTorch ended with status 1: RuntimeError: .*channels"):
        open_network(small_config, channels=4).onnx()


def test_its_death_is_one_line(small_config: MobileNetConfig) -> None:
    x = source.sample_of((1, *small_config.input_shape))
    network = TorchProcess().open(small_config, x, export=False)
    network.run(x)
    os.kill(network.process.pid, signal.SIGKILL)
    with pytest.raises(RunFailed, match="was ended by SIGKILL: is memory short") as caught:
        network.run(x)
    assert "\n" not in str(caught.value)


def test_a_start_that_fails_is_one_line(
    small_config: MobileNetConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(RunFailed, match="ended with status 1: it said nothing"):
        open_network(small_config).onnx()


def test_it_goes_with_its_network(small_config: MobileNetConfig) -> None:
    network = open_network(small_config)
    pid = network.process.pid
    del network
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
