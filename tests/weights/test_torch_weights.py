"""Checkpoints by torchvision's and timm's names, however they are wrapped."""

from __future__ import annotations

import argparse
import json
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support import reference_networks
from support.efficient_networks import OTHERS
from support.torch_networks import TimmV1, TimmV2, TorchvisionV2
from torch import nn

from tvm_mobilenet import models, weights
from tvm_mobilenet.errors import BadInput
from tvm_mobilenet.models.normalisation import IMAGENET
from tvm_mobilenet.models.resizing import Resizing
from tvm_mobilenet.weights.reading import read_here

SIZE = 64
NETWORKS: dict[str, tuple[type[Any], str, str, float]] = {
    "torchvision V2": (TorchvisionV2, "mobilenet_v2", "torchvision", 0.35),
    "timm V1": (TimmV1, "mobilenet_v1", "timm", 0.25),
    "timm V1 of odd width": (TimmV1, "mobilenet_v1", "timm", 0.3),
    "timm V2": (TimmV2, "mobilenet_v2", "timm", 1.4),
}


def trained(network: nn.Module) -> nn.Module:
    reference_networks.fill(network.state_dict())
    return network.eval()


def logits(network: nn.Module) -> Any:
    images = np.random.default_rng(5).standard_normal((2, 3, SIZE, SIZE), dtype=np.float32)
    with torch.inference_mode():
        return network(torch.from_numpy(images)).numpy()


def check(path: Path, network: nn.Module, name: str, **given: Any) -> weights.Trained:
    read = read_here(path, name, resolution=SIZE, **given)
    expected = logits(network)
    error = np.abs(logits(weights.build(read.config, read.state)) - expected).max()
    assert error < 1e-4 * np.abs(expected).max()
    return read


@pytest.mark.parametrize("case", NETWORKS)
def test_names_of_other_libraries(case: str, tmp_path: Path) -> None:
    kind, name, source, width = NETWORKS[case]
    network = trained(kind(width, 7))
    torch.save(network.state_dict(), tmp_path / "w.pth")
    read = check(tmp_path / "w.pth", network, name)
    assert read.source == source
    assert (read.config.alpha, read.config.num_classes) == (width, 7)


@pytest.mark.parametrize("case", OTHERS)
def test_names_of_the_other_library(case: str, tmp_path: Path) -> None:
    """Of networks of one width, whose own names here are those of timm or of torchvision."""
    kind, name, source = OTHERS[case]
    network = trained(kind(7))
    torch.save(network.state_dict(), tmp_path / "w.pth")
    read = check(tmp_path / "w.pth", network, name)
    assert (read.source, read.config.num_classes) == (source, 7)
    # torchvision evaluates B0 with bicubic pictures too
    assert read.recipe.resizing == Resizing(73, "cover", "bicubic")


@pytest.mark.parametrize("name", ["mobilenet_v1_tensorflow", "mobilenet_v3_small", "lcnet_100"])
def test_what_the_projects_networks_have_loads(name: str, tmp_path: Path) -> None:
    config = models.config_from(name, resolution=SIZE, num_classes=5)
    network = trained(models.network_of(config))
    torch.save(network.state_dict(), tmp_path / "w.pt")
    assert check(tmp_path / "w.pt", network, name).config == config


def in_namespace(state: Any) -> Any:
    """torchvision's own training script, which keeps its arguments, and the average beside."""
    average = {f"module.{name}": value for name, value in state.items()}
    args = argparse.Namespace(model="mobilenet_v2", lr=0.045)
    counted = {**average, "n_averaged": torch.tensor(7)}
    return {"model": {}, "model_ema": counted, "args": args, "optimizer": {"state": {}}}


def averaged(state: Any) -> Any:
    """timm's: the average is what its authors evaluate."""
    worse = {name: value * 0 for name, value in state.items()}
    return {"arch": "mobilenetv2_035", "state_dict": worse, "state_dict_ema": state}


WRAPPED: dict[str, Callable[[Any], Any]] = {
    "data parallel": lambda state: OrderedDict(
        (f"module.{name}", one) for name, one in state.items()
    ),
    "compiled": lambda state: {"state_dict": {f"_orig_mod.{n}": one for n, one in state.items()}},
    "lightning": lambda state: {"state_dict": {f"model.{n}": one for n, one in state.items()}},
    "torchvision's script": in_namespace,
    "timm's average": averaged,
    "half": lambda state: {name: one.half() for name, one in state.items()},
    "without counters": lambda state: {n: one for n, one in state.items() if "num_b" not in n},
}


@pytest.mark.parametrize("wrapping", WRAPPED)
def test_wrapped(wrapping: str, tmp_path: Path) -> None:
    network = trained(TorchvisionV2(0.35, 7))
    if wrapping == "half":
        network = network.half().float()
    torch.save(WRAPPED[wrapping](network.state_dict()), tmp_path / "w.pth")
    check(tmp_path / "w.pth", network, "mobilenet_v2")


@pytest.mark.parametrize("head", ["attributes", "embedding", "features"])
def test_other_heads_take_what_they_need(head: str, tmp_path: Path) -> None:
    network = trained(TorchvisionV2(0.35, 7))
    torch.save(network.state_dict(), tmp_path / "w.pth")
    size = {"embedding_size": 7} if head == "embedding" else {}
    read = read_here(tmp_path / "w.pth", "mobilenet_v2", resolution=SIZE, head=head, **size)
    assert (read.config.head, read.config.alpha) == (head, 0.35)
    images = torch.from_numpy(np.random.default_rng(5).standard_normal((1, 3, SIZE, SIZE))).float()
    with torch.inference_mode():
        found = weights.build(read.config, read.state)(images)
        classes, maps = network(images), network.get_submodule("features")(images)
    if head == "features":
        expected, found = maps, found[-1]
    elif head == "attributes":
        expected = classes.sigmoid()
    else:
        expected = classes / classes.norm()
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    with pytest.raises(BadInput, match="for trunks and classifiers, not for ssd"):
        read_here(tmp_path / "w.pth", "mobilenet_v2", head="ssd")


def test_safetensors_and_what_lies_beside_them(tmp_path: Path) -> None:
    safetensors = pytest.importorskip("safetensors.torch", reason="pip install '.[weights]'")
    network = trained(TimmV2(0.5, 1000)).bfloat16().float()
    state = {name: one.bfloat16() for name, one in network.state_dict().items()}
    safetensors.save_file(state, tmp_path / "model.safetensors")
    read = check(tmp_path / "model.safetensors", network, "mobilenet_v2", alpha=0.5)
    assert read.recipe.normalisation == IMAGENET
    assert read.recipe.resizing == Resizing(73, "cover", "bicubic")

    said = {"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25], "crop_pct": 1.0}
    config = {"pretrained_cfg": {**said, "interpolation": "bilinear", "crop_mode": "squash"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    recipe = read_here(tmp_path / "model.safetensors", "mobilenet_v2", resolution=SIZE).recipe
    assert (recipe.normalisation.mean, recipe.normalisation.std) == ((0.5,) * 3, (0.25,) * 3)
    assert recipe.resizing == Resizing(SIZE, "stretch", "bilinear")
