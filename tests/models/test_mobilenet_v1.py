"""The stage table against the paper, and the module against the stage table."""

from __future__ import annotations

import dataclasses
import json
import math
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tvm_mobilenet import models
from tvm_mobilenet.errors import BadInput
from tvm_mobilenet.models import MobileNetConfig, stages

VARIANTS = [
    pytest.param({}, id="1.0-224"),
    pytest.param({"alpha": 0.25, "resolution": 128}, id="0.25-128"),
    pytest.param({"alpha": 0.35, "resolution": 96, "activation": "relu6"}, id="0.35-96-relu6"),
    pytest.param({"alpha": 2.0, "resolution": 32, "num_classes": 10}, id="2.0-32-10-classes"),
    pytest.param({"alpha": 0.5, "resolution": 64, "padding": "tensorflow"}, id="0.5-64-same"),
    pytest.param({"alpha": 0.5, "resolution": 160, "kind": "shallow"}, id="shallow-0.5-160"),
    pytest.param({"alpha": 0.25, "resolution": 64, "kind": "full_convolution"}, id="full-0.25-64"),
]


def run(config: MobileNetConfig, x: Any) -> Any:
    with torch.inference_mode():
        return models.build(config)(torch.from_numpy(x))


def test_table_1_has_28_layers() -> None:
    layers = stages.layers(MobileNetConfig())
    assert len(layers) == 28
    assert [layer.out_channels for layer in layers if layer.op == "pointwise"] == [
        64, 128, 128, 256, 256, 512, 512, 512, 512, 512, 512, 1024, 1024,
    ]  # fmt: skip
    strides = [layer.stride for layer in layers if layer.op == "depthwise3x3"]
    assert strides == [1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1]
    assert layers[-2].out_size == 7


def test_shallow_lacks_the_five_14x14_blocks() -> None:
    whole = stages.layers(MobileNetConfig())
    shallow = stages.layers(MobileNetConfig(kind="shallow"))
    assert len(whole) - len(shallow) == 10
    at_14 = [layer for layer in shallow if layer.in_channels == 512 and layer.in_size == 14]
    assert [layer.stride for layer in at_14] == [2]


@given(thousandths=st.integers(1, 2000), base=st.sampled_from([32, 64, 128, 256, 512, 1024]))
def test_channels_are_cut_as_in_exact_arithmetic(thousandths: int, base: int) -> None:
    exact = math.floor(Decimal(thousandths) / 1000 * base)
    assert stages.channels(base, thousandths / 1000) == max(1, exact)


@pytest.mark.parametrize(
    ("base", "alpha", "channels"),
    [(32, 0.35, 11), (1024, 0.35, 358), (32, 0.35 - 0.1, 8), (512, 0.1 * 3, 153), (32, 0.001, 1)],
)
def test_channels(base: int, alpha: float, channels: int) -> None:
    assert stages.channels(base, alpha) == channels


@pytest.mark.parametrize("values", VARIANTS)
def test_module_is_the_stage_table(values: dict[str, Any], images: Any) -> None:
    config = MobileNetConfig(**values)
    network: Any = models.build(config)
    shapes: dict[str, tuple[int, ...]] = {}
    for name, module in [*network.trunk.named_children(), ("classifier", network.classifier)]:
        module.register_forward_hook(
            lambda _module, _inputs, out, name=name: shapes.update({name: tuple(out.shape)})
        )
    with torch.inference_mode():
        logits = network(torch.from_numpy(images(config, 2)))

    assert not network.training
    assert logits.shape == (2, config.num_classes)
    shapes["classifier"] = (*shapes["classifier"], 1, 1)
    expected = {
        layer.name: (2, layer.out_channels, layer.out_size, layer.out_size)
        for layer in stages.layers(config)
    }
    assert shapes == expected
    trained = sum(parameter.numel() for parameter in network.parameters())
    assert trained == sum(layer.parameters for layer in stages.layers(config))


@pytest.mark.in_turns(2)
@pytest.mark.parametrize("values", VARIANTS)
def test_activations_stay_alive_and_of_one_scale(values: dict[str, Any], images: Any) -> None:
    config = MobileNetConfig(**values)
    network: Any = models.build(config)
    maps: list[torch.Tensor] = []
    for module in network.trunk.children():
        module.register_forward_hook(lambda _module, _inputs, out: maps.append(out))
    with torch.inference_mode():
        logits = network(torch.from_numpy(images(config, 4)))

    for found in maps:
        assert 0.3 < found.std() < 4
        assert (found.amax(dim=(0, 2, 3)) > 0).float().mean() > 0.5
    assert max(found.max() for found in maps) >= 6, "ReLU6 would have nothing to cut"
    assert 0.3 < logits.std() < 10
    # the answer depends on the image, not on the biases alone
    assert logits.std(dim=0).mean() > 0.02


@pytest.mark.parametrize("alpha", [0.01, 0.05, 0.1])
def test_narrowest_networks_give_logits(alpha: float, images: Any) -> None:
    config = MobileNetConfig(alpha=alpha, resolution=32)
    logits = run(config, images(config))
    assert torch.isfinite(logits).all()
    assert logits.std() > 0.1


def test_batch_norm_statistics_are_not_trivial(small_network: Any) -> None:
    norm = small_network.trunk["block3_pointwise"].norm
    for tensor in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
        assert tensor.std() > 0.05
    assert (norm.running_var > 0).all()


def test_seed_decides_the_weights(small_config: MobileNetConfig, small_network: Any) -> None:
    again = models.build(small_config).state_dict()
    other = models.build(dataclasses.replace(small_config, seed=1)).state_dict()
    for name, tensor in small_network.state_dict().items():
        assert torch.equal(tensor, again[name])
        if tensor.is_floating_point():
            assert not torch.equal(tensor, other[name])


def test_building_leaves_torchs_random_state_alone(small_config: MobileNetConfig) -> None:
    torch.manual_seed(7)
    expected = torch.randn(3)
    torch.manual_seed(7)
    models.build(small_config)
    assert torch.equal(torch.randn(3), expected)


def test_tensorflow_padding_is_same_at_stride_2(small_config: MobileNetConfig, images: Any) -> None:
    # TensorFlow's SAME computed by hand: windows begin at even pixels, one zero after the last
    config = dataclasses.replace(small_config, padding="tensorflow")
    network: Any = models.build(config)
    stem = network.trunk["stem"]
    x = torch.from_numpy(images(config))
    weight = stem.conv.weight.detach().numpy()
    padded = np.pad(x.numpy(), ((0, 0), (0, 0), (0, 1), (0, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))[:, :, ::2, ::2]
    by_hand = np.einsum("nchwij,ocij->nohw", windows, weight)
    with torch.inference_mode():
        conv = stem.conv(stem.pad(x)).numpy()
    np.testing.assert_allclose(conv, by_hand, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(run(config, x.numpy()), run(small_config, x.numpy()), rtol=1e-3)


def test_relu6_cuts_at_6(small_config: MobileNetConfig, images: Any) -> None:
    config = dataclasses.replace(small_config, activation="relu6", feature_strides=(8,))
    (features,) = run(config, 4 * images(config))
    assert features.max() == 6


def test_features_are_the_trunks_own(small_config: MobileNetConfig, images: Any) -> None:
    config = dataclasses.replace(small_config, feature_strides=(8, 16, 32))
    x = images(config, 2)
    features = run(config, x)
    assert [tuple(found.shape) for found in features] == [
        (2, 64, 4, 4),
        (2, 128, 2, 2),
        (2, 256, 1, 1),
    ]
    network: Any = models.build(small_config)
    with torch.inference_mode():
        logits = network.classifier(features[-1].mean(dim=(2, 3)))
        torch.testing.assert_close(logits, network(torch.from_numpy(x)))


def test_features_end_the_network_at_the_deepest(small_config: MobileNetConfig) -> None:
    config = dataclasses.replace(small_config, feature_strides=(8,))
    assert stages.layers(config)[-1].name == "block5_pointwise"
    assert not any("classifier" in name for name in models.build(config).state_dict())


@pytest.mark.parametrize(
    "name", [name for name in models.MODELS if name.startswith("mobilenet_v1")]
)
def test_config_survives_json(name: str) -> None:
    config = models.config_from(
        name, 0.75, 160, activation="relu6", padding="tensorflow", feature_strides=(16, 32), seed=3
    )
    text = json.dumps(dataclasses.asdict(config))
    assert MobileNetConfig.from_dict(json.loads(text)) == config
    assert models.name_of(config) == name


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"alpha": 0}, "alpha"),
        ({"alpha": 2.1}, "alpha"),
        ({"alpha": math.nan}, "alpha"),
        ({"alpha": "1.0"}, "alpha"),
        ({"alpha": True}, "alpha"),
        ({"resolution": 0}, "resolution"),
        ({"resolution": 100}, "multiple of 32"),
        ({"resolution": 224.0}, "resolution"),
        ({"num_classes": 0}, "num_classes"),
        ({"kind": "deep"}, "separable, full_convolution, shallow"),
        ({"activation": "gelu"}, "relu, relu6"),
        ({"padding": "valid"}, "pytorch, tensorflow"),
        ({"seed": -1}, "seed"),
        ({"feature_strides": (4,)}, "8, 16, 32"),
        ({"feature_strides": (32, 16)}, "rising"),
        ({"feature_strides": (8, 8)}, "rising"),
        ({"batch_norm_epsilon": 0}, "batch_norm_epsilon"),
    ],
)
def test_bad_config_is_one_line(values: dict[str, Any], says: str) -> None:
    with pytest.raises(BadInput, match=says) as caught:
        MobileNetConfig(**values)
    assert "\n" not in str(caught.value)


def test_unknown_names_list_the_known_ones() -> None:
    with pytest.raises(BadInput, match="mobilenet_v1_shallow"):
        models.config_from("mobilenet_v9")
    with pytest.raises(BadInput, match="model option depth: unknown key; there are alpha"):
        models.config_from("mobilenet_v1", depth=3)
    with pytest.raises(BadInput, match="kind"):
        models.config_from("mobilenet_v1", kind="shallow")
