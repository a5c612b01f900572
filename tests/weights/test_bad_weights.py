"""Files of weights that are wrong: one line each, which names the tensor."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support import reference_networks, slim_files
from support.torch_networks import TorchvisionV2

from tvm_mobilenet import models, weights
from tvm_mobilenet.errors import BadInput
from tvm_mobilenet.weights.reading import READERS, read_here

Change = Callable[[dict[str, Any]], Any]
V2 = "mobilenet_v2"


@pytest.fixture(scope="module")
def state() -> dict[str, Any]:
    network = TorchvisionV2(0.35, 7)
    reference_networks.fill(network.state_dict())
    return dict(network.state_dict())


def fails(path: Path, name: str = V2, **given: Any) -> str:
    with pytest.raises(BadInput) as caught:
        read_here(path, name, **given)
    line = str(caught.value)
    assert "\n" not in line
    assert line.startswith(f"weights {path}: ")
    return line


def without(name: str) -> Change:
    return lambda state: {key: one for key, one in state.items() if key != name}


def with_one(name: str, value: Any) -> Change:
    return lambda state: {**state, name: value}


def spoilt(name: str, value: float) -> Change:
    def change(state: dict[str, Any]) -> dict[str, Any]:
        tensor = state[name].clone()
        tensor.flatten()[3] = value
        return {**state, name: tensor}

    return change


UNPICKLED = "code-was-run"


class Code:
    """What makes a folder, where the process is, as it is unpickled."""

    def __reduce__(self) -> Any:
        return os.mkdir, (UNPICKLED,)


NORM = "features.3.conv.1.1"
FAULTS: dict[str, tuple[Change, str]] = {
    "missing": (
        without(f"{NORM}.running_var"),
        f"{NORM}.running_var is missing, which mobilenet_v2 of alpha 0.35 with 7 classes has",
    ),
    "renamed": (
        lambda state: {key.replace("features.18", "head"): one for key, one in state.items()},
        "features.18.0.weight is missing, which mobilenet_v2 of alpha 0.35 with 7 classes has; "
        "the file has head.0.weight, which it does not",
    ),
    "extra": (
        with_one("aux.weight", torch.zeros(3)),
        "aux.weight is one too many: mobilenet_v2 of alpha 0.35 with 7 classes has no such tensor",
    ),
    "shape": (
        with_one("features.4.conv.2.weight", torch.zeros(16, 72, 1, 1)),
        "features.4.conv.2.weight: expected shape 16x48x1x1, as of mobilenet_v2 of alpha 0.35",
    ),
    "NaN": (
        spoilt("features.2.conv.2.weight", float("nan")),
        "features.2.conv.2.weight: 1 of ",
    ),
    "infinity": (spoilt(f"{NORM}.bias", float("inf")), f"{NORM}.bias: 1 of "),
    "variance": (spoilt(f"{NORM}.running_var", -1.0), "expected variances of 0 or more, got -1"),
    "whole numbers": (
        lambda state: {**state, f"{NORM}.bias": state[f"{NORM}.bias"].int()},
        f"{NORM}.bias: expected floats, got int32",
    ),
    "complex": (
        lambda state: {**state, f"{NORM}.bias": state[f"{NORM}.bias"].cfloat()},
        f"{NORM}.bias: expected a dense tensor of floats",
    ),
    "sparse": (
        lambda state: {**state, f"{NORM}.bias": state[f"{NORM}.bias"].to_sparse()},
        f"{NORM}.bias: expected a dense tensor of floats",
    ),
    "code": (lambda state: {"state_dict": {"a": Code()}}, "holds pickled code (posix.mkdir)"),
    "a whole module": (lambda state: torch.nn.ReLU(), "holds pickled code (torch.nn."),
    "no state dict": (
        lambda state: {"epoch": 3, "lr": 0.1},
        "expected a state dict, or one under state_dict_ema, model_ema",
    ),
    "a list": (lambda state: [torch.zeros(3)], "got a list"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_checkpoint(
    fault: str, state: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    change, says = FAULTS[fault]
    torch.save(change(state), tmp_path / "w.pth")
    assert says in fails(tmp_path / "w.pth")
    assert not Path(UNPICKLED).exists()


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"num_classes": 1000}, "classifier.1.weight: expected shape 1000x1280, as of mobilenet"),
        ({"alpha": 0.75}, "features.0.0.weight: expected shape 24x3x3x3, as of mobilenet_v2"),
    ],
)
def test_what_was_asked_for_is_another_network(
    given: dict[str, Any], says: str, state: dict[str, Any], tmp_path: Path
) -> None:
    torch.save(state, tmp_path / "w.pth")
    assert says in fails(tmp_path / "w.pth", **given)


def test_weights_of_another_network(state: dict[str, Any], tmp_path: Path) -> None:
    torch.save(state, tmp_path / "w.pth")
    line = fails(tmp_path / "w.pth", "resnet18")
    assert "expected conv1.weight and the like, as resnet18 has, got another network's" in line
    assert "features.0.0.weight" in line
    line = fails(tmp_path / "w.pth", "mobilenet_v3_large")  # which has a features.0.0 too
    assert "features.1.block.0.0.weight is missing" in line
    line = fails(tmp_path / "w.pth", "mobilenet_v1")
    assert "expected trunk.stem.conv.weight and the like" in line


@pytest.mark.parametrize("suffix", READERS)
def test_what_is_no_such_file_at_all(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"w{suffix}"
    for content in (b"", b"no weights at all", bytes(range(256)) * 8):
        path.write_bytes(content)
        fails(path)


def test_formats_that_a_network_has_no_weights_of(tmp_path: Path) -> None:
    np.savez(tmp_path / "w.npz", **slim())
    assert "resnet18 takes weights of torchvision" in fails(tmp_path / "w.npz", "resnet18")


def test_a_cut_file_says_so_wherever_it_is_cut(state: dict[str, Any], tmp_path: Path) -> None:
    safetensors = pytest.importorskip("safetensors.torch", reason="pip install '.[weights]'")
    torch.save(state, tmp_path / "w.pth")
    safetensors.save_file(state, tmp_path / "w.safetensors")
    for name in ("w.pth", "w.safetensors"):
        content = (tmp_path / name).read_bytes()
        for share in (0.001, 0.3, 0.9, 0.999):
            (tmp_path / name).write_bytes(content[: int(len(content) * share)])
            fails(tmp_path / name)


def slim(classes: int = 5) -> dict[str, Any]:
    """TF-Slim's variables of a network of alpha 0.25, all of them 0.5."""
    found = {}
    channels = [8, 16, 32, 32, 64, 64, *[128] * 6, 256, 256]
    norm = ("gamma", "beta", "moving_mean", "moving_variance")

    def layer(name: str, leaf: str, shape: tuple[int, ...]) -> None:
        found[f"MobilenetV1/{name}/{leaf}"] = np.full(shape, 0.5, np.float32)
        size = shape[2] if leaf == "depthwise_weights" else shape[3]
        for one in norm:
            found[f"MobilenetV1/{name}/BatchNorm/{one}"] = np.full(size, 0.5, np.float32)

    layer("Conv2d_0", "weights", (3, 3, 3, 8))
    for number, (inputs, out) in enumerate(itertools.pairwise(channels), start=1):
        layer(f"Conv2d_{number}_depthwise", "depthwise_weights", (3, 3, inputs, 1))
        layer(f"Conv2d_{number}_pointwise", "weights", (1, 1, inputs, out))
    head = "MobilenetV1/Logits/Conv2d_1c_1x1"
    found[f"{head}/weights"] = np.full((1, 1, 256, classes), 0.5, np.float32)
    found[f"{head}/biases"] = np.full(classes, 0.5, np.float32)
    return found


def test_tensorflows_names_and_shapes_are_in_the_line(tmp_path: Path) -> None:
    variables = slim()
    np.savez(tmp_path / "w.npz", **variables)
    assert read_here(tmp_path / "w.npz", "mobilenet_v1").config.alpha == 0.25
    line = fails(tmp_path / "w.npz", "mobilenet_v1", alpha=0.5)
    assert "MobilenetV1/Conv2d_0/weights: expected shape 3x3x3x16, as of mobilenet_v1" in line
    line = fails(tmp_path / "w.npz", "mobilenet_v1", num_classes=1001)
    assert "Conv2d_1c_1x1/weights: expected shape 1x1x256x1001" in line
    name = "MobilenetV1/Conv2d_3_depthwise/depthwise_weights"
    np.savez(tmp_path / "w.npz", **{**variables, name: np.zeros((3, 3, 1, 32), np.float32)})
    assert f"{name}: expected shape 3x3x32x1" in fails(tmp_path / "w.npz", "mobilenet_v1")


def test_a_checkpoint_whose_values_are_elsewhere(tmp_path: Path) -> None:
    path = slim_files.write_checkpoint(tmp_path / "w", slim())
    before = weights.hash_of(path)
    data = tmp_path / "w.data-00000-of-00001"
    content = data.read_bytes()
    data.write_bytes(content[:-4] + b"\0\0\0\0")
    assert weights.hash_of(path) != before, "the values belong to the file"
    data.write_bytes(content[:-4])
    assert "w.data-00000-of-00001 is cut short" in fails(path, "mobilenet_v1")
    data.unlink()
    line = fails(path, "mobilenet_v1")
    assert "its values are in w.data-00000-of-00001: No such file" in line


def test_a_graph_of_other_padding_or_with_a_wrong_shape(tmp_path: Path) -> None:
    graphs = pytest.importorskip(
        "tensorboard.compat.proto.graph_pb2", reason="pip install '.[dev]'"
    )
    slim_files.write_graph(tmp_path / "w.pb", slim(), size=32)
    graph = graphs.GraphDef.FromString((tmp_path / "w.pb").read_bytes())
    node = graph.node.add(name="a/Conv2D", op="DepthwiseConv2dNative")
    node.attr["padding"].s = b"VALID"
    changed = graph.SerializeToString()
    constant = next(node for node in graph.node if node.name == "MobilenetV1/Conv2d_0/weights")
    constant.attr["value"].tensor.tensor_shape.dim[0].size = 2**40
    (tmp_path / "w.pb").write_bytes(graph.SerializeToString())
    line = fails(tmp_path / "w.pb", "mobilenet_v1")
    assert "MobilenetV1/Conv2d_0/weights: expected as many values as its shape has" in line
    (tmp_path / "w.pb").write_bytes(changed)
    assert "a/Conv2D: expected padding SAME, got VALID" in fails(tmp_path / "w.pb", "mobilenet_v1")


def test_before_anything_is_read(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no such file"):
        weights.read(tmp_path / "w.pth", V2)
    (tmp_path / "w.onnx").write_bytes(b"")
    with pytest.raises(BadInput, match=r"expected a file of \.pt, .*got \.onnx; a network goes"):
        weights.read(tmp_path / "w.onnx", V2)
    (tmp_path / "w.pth").write_bytes(b"")
    with pytest.raises(BadInput, match="unknown model 'mobilenet_v9'"):
        weights.read(tmp_path / "w.pth", "mobilenet_v9")
    with pytest.raises(BadInput, match="not a checkpoint of PyTorch"):  # from the other process
        weights.read(tmp_path / "w.pth", V2)


def test_a_name_in_the_table_that_implies_otherwise(tmp_path: Path) -> None:
    from support.torch_networks import TimmV1

    torch.save(TimmV1(0.25, 7).state_dict(), tmp_path / "w.pth")
    line = fails(tmp_path / "w.pth", "mobilenet_v1_tensorflow")
    assert "weights of timm are for padding pytorch, and mobilenet_v1_tensorflow" in line
    assert models.name_of(read_here(tmp_path / "w.pth", "mobilenet_v1").config) == "mobilenet_v1"
