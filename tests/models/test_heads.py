"""What networks end in: every head on every trunk, and SSD's priors, boxes and cost."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from tvm_mobilenet import models
from tvm_mobilenet.errors import BadInput
from tvm_mobilenet.models import heads, ssd
from tvm_mobilenet.models.cost import cost_of, paper_cost, paper_top1
from tvm_mobilenet.models.published import PAPER_SSD

# Lite1 to Lite4 are Lite0 with other numbers
TRUNKS = [name for name in models.MODELS if name[:-1] != "efficientnet_lite" or name[-1] == "0"]
NARROW = models.config_from("mobilenet_v1", 0.25, 32, head="ssd", num_classes=5)


def shapes(config: models.Config) -> list[tuple[int, ...]]:
    """Of the outputs for one image, computed without values."""
    with torch.device("meta"), torch.inference_mode():
        outputs = models.network_of(config).eval()(torch.empty(1, *config.input_shape))
    return [tuple(one.shape) for one in outputs]


def names(config: models.Config) -> set[str]:
    with torch.device("meta"):
        return set(models.network_of(config).state_dict())


@pytest.mark.in_turns(3)
@pytest.mark.parametrize("name", TRUNKS)
def test_every_trunk_gives_features_at_its_strides(name: str) -> None:
    of_224 = shapes(models.config_from(name, resolution=224, head="features"))
    assert [shape[2:] for shape in of_224] == [(28, 28), (14, 14), (7, 7)]
    classifier = names(models.config_from(name))
    trunk = names(models.config_from(name, head="features"))
    assert trunk < classifier, "a checkpoint of the classifier has all of the trunk"
    if not name.startswith("mobilenet_v1"):
        of_65 = shapes(models.config_from(name, resolution=65, head="features"))
        assert [shape[2:] for shape in of_65] == [(9, 9), (5, 5), (3, 3)]


def test_features_are_what_whole_blocks_give() -> None:
    channels = {
        name: [shape[1] for shape in shapes(models.config_from(name, head="features"))]
        for name in ("mobilenet_v2", "efficientnet_b0", "mobileone_s0", "resnet18")
    }
    assert channels == {
        "mobilenet_v2": [32, 96, 1280],
        "efficientnet_b0": [40, 112, 1280],
        "mobileone_s0": [128, 256, 1024],
        "resnet18": [128, 256, 512],
    }


def test_features_are_the_classifiers_own_maps() -> None:
    whole = models.network_of(models.config_from("mobilenet_v2", 0.35, 64)).eval()
    trunk = models.network_of(models.config_from("mobilenet_v2", 0.35, 64, head="features")).eval()
    trunk.load_state_dict(whole.state_dict(), strict=False)
    x = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        last: Any = trunk(x)[-1]
        classifier: Any = whole.get_submodule("classifier")
        torch.testing.assert_close(classifier(last.mean(dim=(2, 3))), whole(x))


@pytest.mark.parametrize("name", ["mobilenet_v1", "lcnet_100", "mobileone_s0"])
def test_attributes_are_logits_each_by_itself(name: str) -> None:
    options: dict[str, Any] = {"resolution": 32, "num_classes": 40}
    logits = models.network_of(models.config_from(name, **options)).eval()
    attributes = models.network_of(models.config_from(name, head="attributes", **options)).eval()
    attributes.load_state_dict(logits.state_dict())
    x = torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        torch.testing.assert_close(attributes(x), logits(x).sigmoid())


@pytest.mark.parametrize("name", ["mobilenet_v1", "mobilenet_v3_small"])
def test_an_embedding_is_of_length_1(name: str) -> None:
    config = models.config_from(name, resolution=32, head="embedding", embedding_size=24)
    with torch.inference_mode():
        vectors = models.build(config)(torch.randn(3, 3, 32, 32))
    assert vectors.shape == (3, 24)
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(3))
    assert (vectors[0] - vectors[1]).norm() > 0.01, "it depends on the image"
    trained = sum(one.numel() for one in models.network_of(config).parameters())
    assert cost_of(config).parameters == trained


@pytest.mark.in_turns(3)
@pytest.mark.parametrize("name", TRUNKS)
def test_every_trunk_carries_a_detector(name: str) -> None:
    config = models.config_from(name, head="ssd")
    assert config.input_shape == (3, 300, 300)
    assert shapes(config) == [(1, 1917, 4), (1, 1917, 91)]


def test_ssd_costs_what_table_13_says() -> None:
    config = models.config_from("mobilenet_v1", head="ssd")
    found = cost_of(config)
    assert round(found.multiply_adds / 1e9, 1) == 1.2
    assert round(found.parameters / 1e6, 1) == 6.8
    assert paper_cost(config) is PAPER_SSD
    assert paper_top1(config) is None
    assert paper_cost(models.config_from("mobilenet_v1", 0.5, head="ssd")) is None
    with torch.device("meta"):
        network = models.network_of(config)
    assert found.parameters == sum(one.numel() for one in network.parameters())


def test_ssds_names_are_torchvisions() -> None:
    parts = {name.rsplit(".", 1)[0] for name in names(NARROW)}
    # torchvision's ssdlite320_mobilenet_v3_large has these, beside its trunk
    for number in range(6):
        assert f"head.classification_head.module_list.{number}" in parts
        assert f"head.regression_head.module_list.{number}" in parts
    assert {f"backbone.extra.{number}.{layer}.0" for number in range(4) for layer in (0, 1)} < parts
    assert "priors" not in parts


def test_priors() -> None:
    sizes = (19, 10, 5, 3, 2, 1)
    priors = ssd.priors_of(sizes).numpy()
    assert len(priors) == 1917 == 3 * 19**2 + 6 * (10**2 + 5**2 + 3**2 + 2**2 + 1)
    assert (priors[:, :2] > 0).all() and (priors[:, :2] < 1).all()
    # the first pixel of the first map, and the last map's only one
    half = 0.5 / 19
    root = math.sqrt(2)
    np.testing.assert_allclose(
        priors[:3],
        [
            (half, half, 0.1, 0.1),
            (half, half, 0.2 * root, 0.2 / root),
            (half, half, 0.2 / root, 0.2 * root),
        ],
        rtol=1e-6,
    )
    last = priors[-6:]
    np.testing.assert_allclose(last[:, :2], 0.5)
    np.testing.assert_allclose(last[0, 2:], 0.95, rtol=1e-6)
    np.testing.assert_allclose(last[-1, 2:], math.sqrt(0.95), rtol=1e-6)
    np.testing.assert_allclose(last[:5, 2] / last[:5, 3], [1, 2, 0.5, 3, 1 / 3], rtol=1e-5)


def test_no_offset_is_the_prior_itself() -> None:
    priors = torch.tensor([[0.5, 0.25, 0.2, 0.1]])
    (box,) = ssd.decode(torch.zeros(1, 1, 4), priors)
    torch.testing.assert_close(box, torch.tensor([[0.4, 0.2, 0.6, 0.3]]))
    # ten tenths of the prior to the right, and twice as high
    offsets = torch.tensor([[[10.0, 0.0, 0.0, 5 * math.log(2)]]])
    (box,) = ssd.decode(offsets, priors)
    torch.testing.assert_close(box, torch.tensor([[0.6, 0.15, 0.8, 0.35]]))
    assert torch.isfinite(ssd.decode(torch.full((1, 1, 4), 1e4), priors)).all()


@pytest.mark.parametrize(("number", "row", "column"), [(0, 1, 2), (1, 0, 1), (2, 0, 0)])
def test_values_are_in_the_order_of_the_priors(number: int, row: int, column: int) -> None:
    sizes, counts = (4, 2, 1), (3, 6, 6)
    predictor = ssd.Predictor([1] * 3, counts, values=2)
    layers: Any = predictor.module_list
    for layer in layers:
        layer.weight.data[:] = torch.arange(1.0, len(layer.weight) + 1).reshape(-1, 1, 1, 1)
        layer.bias.data.zero_()
    maps = [torch.zeros(1, 1, size, size) for size in sizes]
    maps[number][0, 0, row, column] = 1
    with torch.inference_mode():
        (values,) = predictor(maps)
    priors = ssd.priors_of(sizes)
    touched = values.abs().sum(dim=1) > 0
    centre = torch.tensor([(column + 0.5) / sizes[number], (row + 0.5) / sizes[number]])
    wide = torch.tensor(ssd.shapes_of_priors(number))
    torch.testing.assert_close(priors[touched], torch.cat((centre.expand(len(wide), 2), wide), 1))
    # a prior's values are beside each other
    torch.testing.assert_close(values[touched].flatten(), torch.arange(1.0, 2 * len(wide) + 1))


def test_ssds_probabilities_and_boxes_depend_on_the_image() -> None:
    with torch.inference_mode():
        boxes, scores = models.build(NARROW)(torch.randn(2, 3, 32, 32))
    assert boxes.shape[:2] == scores.shape[:2] and scores.shape[2] == 5
    torch.testing.assert_close(scores.sum(dim=2), torch.ones(scores.shape[:2]))
    assert ((boxes[..., 2:] - boxes[..., :2]) > 0).all()
    assert (scores[0] - scores[1]).abs().mean() > 0.01
    assert (boxes[0] - boxes[1]).abs().mean() > 0.001


def test_a_head_says_what_its_outputs_are() -> None:
    features = models.config_from("mobilenet_v1", feature_strides=(16, 32))
    assert features.head == "features"
    assert heads.outputs_of("features", features.feature_strides).names == ("stride16", "stride32")
    assert heads.outputs_of("ssd").scores == (None, "softmax")
    assert models.variant_of(models.config_from("resnet18", head="embedding")) == "224-embedding"


@pytest.mark.parametrize("name", ["mobilenet_v1", "resnet18"])
def test_a_heads_own_defaults_are_no_options(name: str) -> None:
    for head in heads.HEADS[1:]:
        assert models.options_of(models.config_from(name, head=head)) == {"head": head}
    detector = models.config_from(name, head="ssd", num_classes=21, seed=3)
    assert models.options_of(detector) == {"head": "ssd", "num_classes": 21, "seed": 3}


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"head": "faces"}, "head: expected one of classes, attributes, embedding, features, ssd"),
        ({"embedding_size": 64}, "the size of an embedding is for the head embedding"),
        ({"head": "embedding", "num_classes": 3}, "the head embedding tells no classes apart"),
        ({"head": "features", "num_classes": 3}, "the head features tells no classes apart"),
        ({"head": "ssd", "feature_strides": (8,)}, "feature_strides: for the head features"),
        ({"head": "embedding", "embedding_size": 0}, "embedding_size: expected"),
        ({"resolution": 300}, "expected a multiple of 32, got 300"),
    ],
)
def test_bad_heads_are_one_line(values: dict[str, Any], says: str) -> None:
    with pytest.raises(BadInput) as caught:
        models.config_from("mobilenet_v1", **values)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
