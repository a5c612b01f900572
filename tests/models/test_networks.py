"""Each network of the table: torchvision's or timm's own, alive with random weights, any size."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support import reference_networks
from torch import nn

from tvm_mobilenet import models
from tvm_mobilenet.errors import BadInput
from tvm_mobilenet.models import blocks
from tvm_mobilenet.models.cost import cost_of

REPOSITORY = Path(__file__).parent.parent.parent

THEIRS = (*reference_networks.TORCHVISION, *reference_networks.TIMM)
OURS = [name for name in models.MODELS if name.startswith("mobilenet_v1")]
GOLDEN = json.loads(reference_networks.GOLDEN.read_text(encoding="utf-8"))


def test_every_network_is_compared_with_somebody_elses() -> None:
    assert sorted([*OURS, *THEIRS]) == sorted(models.MODELS)
    assert sorted(GOLDEN) == sorted(THEIRS)


@pytest.mark.parametrize("name", THEIRS)
def test_checkpoints_of_the_library_load_and_mean_the_same(name: str) -> None:
    wanted = GOLDEN[name]
    found = reference_networks.describe(models.network_of(models.config_from(name)))
    for key in ("entries", "sha256", "norms"):
        assert found[key] == wanted[key], wanted["library"]
    # relative to the spread of the logits, which networks without a last norm have at any scale
    error = np.abs(np.subtract(found["logits"], wanted["logits"])).max() / wanted["std"]
    assert error < 1e-4


@pytest.mark.in_turns(8)
@pytest.mark.parametrize("name", THEIRS)
def test_random_weights_let_no_layer_die(name: str) -> None:
    network = models.build(models.config_from(name, resolution=64))
    maps: list[tuple[str, Any]] = []
    for path, module in network.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            module.register_forward_hook(
                lambda _module, _inputs, out, path=path: maps.append((path, out))
            )
    images = np.random.default_rng(3).standard_normal((4, 3, 64, 64), dtype=np.float32)
    with torch.inference_mode():
        logits = network(torch.from_numpy(images))
    assert not network.training
    assert all(
        value.dtype in (torch.float32, torch.int64) for value in network.state_dict().values()
    )
    for path, found in maps:
        assert 0.3 < found.std() < 4, path
        assert (found.amax(dim=(0, 2, 3)) > 0).float().mean() > 0.7, path
    assert 0.3 < logits.std(dim=1).mean() < 10, "the classes are told apart"
    assert logits.std(dim=0).mean() > 0.1, "the answer depends on the image"


def test_a_seed_is_one_network_and_torchs_random_state_is_left_alone() -> None:
    torch.manual_seed(7)
    expected = torch.randn(3)
    torch.manual_seed(7)
    config = models.config_from("mobilenet_v3_small")
    first = models.build(config).state_dict()
    assert torch.equal(torch.randn(3), expected)
    again = models.build(config).state_dict()
    other = models.build(dataclasses.replace(config, seed=1)).state_dict()
    for name, tensor in first.items():
        assert torch.equal(tensor, again[name])
        if tensor.is_floating_point():
            assert not torch.equal(tensor, other[name])


@pytest.mark.in_turns(3)
@pytest.mark.parametrize("name", THEIRS)
def test_sizes_that_nothing_divides(name: str) -> None:
    config = models.config_from(name, resolution=65, num_classes=7)
    with torch.inference_mode():
        logits = models.network_of(config).eval()(torch.zeros(2, *config.input_shape))
    assert logits.shape == (2, 7)


@pytest.mark.parametrize("name", models.MODELS)
def test_the_documentation_has_it(name: str) -> None:
    config = models.config_from(name)
    cost = cost_of(config)
    lines = (REPOSITORY / "docs" / "networks.md").read_text(encoding="utf-8").splitlines()
    (row,) = [line for line in lines if line.startswith(f"| `{name}` |")]
    widths = "one" if models.width_of(config) is None else "any"
    library = GOLDEN[name]["library"].split()[0] if name in GOLDEN else "ours"
    figures = f"{cost.multiply_adds / 1e6:,.0f} M | {cost.parameters / 1e6:.2f} M | {library} |"
    assert row.endswith(f" | {config.resolution} | {widths} | {figures}")


@pytest.mark.parametrize(
    ("name", "alpha", "channels", "last"),
    # torchvision's mobilenet_v2(width_mult=...) and mobilenet_v3_*(width_mult=...)
    [
        ("mobilenet_v2", 0.35, 16, 1280),
        ("mobilenet_v2", 1.4, 48, 1792),
        ("mobilenet_v3_large", 0.75, 16, 1024 - 64),
        ("mobilenet_v3_small", 0.5, 8, 512),
    ],
)
def test_widths(name: str, alpha: float, channels: int, last: int) -> None:
    network: Any = models.network_of(models.config_from(name, alpha))
    assert network.features[0][0].out_channels == channels
    assert network.classifier[-1].in_features == last


@pytest.mark.parametrize(
    ("channels", "rounded"), [(1, 8), (11.9, 16), (12, 16), (18, 24), (33.6, 32), (89.6, 88)]
)
def test_channels_are_rounded_to_eights(channels: float, rounded: int) -> None:
    assert blocks.make_divisible(channels) == rounded


@pytest.mark.parametrize(
    ("name", "resolution"),
    [(f"efficientnet_lite{number}", size) for number, size in enumerate((224, 240, 260, 280, 300))]
    + [("efficientnet_b0", 224), ("resnet18", 224), ("mobilenet_v1_tensorflow", 224)],
)
def test_the_resolution_is_the_published_one(name: str, resolution: int) -> None:
    assert models.config_from(name).input_shape == (3, resolution, resolution)


@pytest.mark.parametrize("name", models.MODELS)
def test_a_config_survives_json(name: str) -> None:
    config = models.config_from(name, resolution=96, num_classes=10, seed=3)
    assert models.from_dict(json.loads(json.dumps(dataclasses.asdict(config)))) == config
    assert models.name_of(config) == name
    assert models.options_of(config) == {"num_classes": 10, "seed": 3}


@pytest.mark.parametrize(
    ("name", "width", "variant"),
    [
        ("mobilenet_v1_tensorflow", 1.0, "1-224"),
        ("mobilenet_v3_large", 1.0, "1-224"),
        ("resnet18", None, "224"),
        ("efficientnet_lite2", None, "260"),
    ],
)
def test_only_some_have_widths(name: str, width: float | None, variant: str) -> None:
    config = models.config_from(name)
    assert (models.width_of(config), models.variant_of(config)) == (width, variant)


def test_tensorflows_v1_is_a_relative_and_its_options_apart_are_not() -> None:
    config = models.config_from("mobilenet_v1_tensorflow")
    assert (config.padding, config.activation, config.batch_norm_epsilon) == (
        "tensorflow",
        "relu6",
        1e-3,
    )
    relu6 = models.config_from("mobilenet_v1", activation="relu6")
    assert models.name_of(relu6) == "mobilenet_v1"


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"name": "mobilenet_v9"}, "unknown model 'mobilenet_v9'; known: mobilenet_v1"),
        ({"name": "resnet18", "alpha": 0.5}, "resnet18 has one width; drop alpha 0.5"),
        ({"name": "resnet18", "resolution": 31}, "resolution: expected a whole number of at least"),
        ({"name": "mobilenet_v2", "alpha": 2.5}, "alpha: expected a number above 0 and of at most"),
        ({"name": "mobilenet_v2", "num_classes": 0}, "num_classes: expected"),
        (
            {"name": "resnet18", "padding": "tensorflow"},
            "resnet18 has one padding; drop padding tens",
        ),
        ({"name": "resnet18", "kind": "shallow"}, "kind: unknown key; there are"),
    ],
)
def test_bad_config_is_one_line(values: dict[str, Any], says: str) -> None:
    with pytest.raises(BadInput) as caught:
        models.config_from(**values)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
