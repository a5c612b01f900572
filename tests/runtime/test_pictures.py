"""Pictures to pixels as torchvision, timm, Keras and TensorFlow do it, written down once more."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tvm_mobilenet import bundle, models
from tvm_mobilenet.errors import BadInput
from tvm_mobilenet.models.normalisation import Normalisation
from tvm_mobilenet.models.resizing import Resizing, ResizingFlags, usual
from tvm_mobilenet.runtime import image
from tvm_mobilenet.weights.recipe import recipe_of

Image: Any = pytest.importorskip("PIL.Image", reason="pip install 'tvm-mobilenet[images]'")

PIXELS = Normalisation(1.0, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))  # as they are
SIZES = [(200, 150), (151, 333), (224, 224), (90, 61)]  # of pictures; the last is smaller


@pytest.fixture(params=SIZES, ids=lambda size: "x".join(map(str, size)))
def picture(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A photograph of sorts: smooth areas, an edge, and some noise."""
    width, height = request.param
    rng = np.random.default_rng(11)
    y, x = np.mgrid[0:height, 0:width] / 40
    smooth = np.stack([np.sin(x + y), np.cos(x * y / 2), np.sin(x) * np.cos(y)], axis=-1)
    smooth += x[..., None] > width / 80
    pixels = smooth * 60 + 100 + rng.normal(0, 12, smooth.shape)
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def ours(picture: Path, how: Resizing, side: int = 64) -> Any:
    info = bundle.TensorInfo(
        "input", (1, side, side, 3), "float32", "NHWC", PIXELS, "rgb", resizing=how
    )
    return image.read(picture, info)[0]


def torchvision(picture: Path, size: int, side: int, filter: int) -> Any:
    """``Resize(size)`` and ``CenterCrop(side)``: the longer side down, the crop rounded."""
    opened = Image.open(picture)
    short, long = sorted(opened.size)
    longer = int(size * long / short)
    portrait = opened.width <= opened.height
    resized = opened.resize((size, longer) if portrait else (longer, size), filter)
    left = round((resized.width - side) / 2.0)
    top = round((resized.height - side) / 2.0)
    return np.asarray(resized.crop((left, top, left + side, top + side)), np.float32)


def timm(picture: Path, crop: float, side: int) -> Any:
    return torchvision(picture, math.floor(side / crop), side, Image.Resampling.BICUBIC)


def keras(picture: Path, side: int) -> Any:
    """``load_img(path, target_size=(side, side))``."""
    return np.asarray(Image.open(picture).resize((side, side), Image.Resampling.NEAREST))


def slim(picture: Path, side: int) -> Any:
    """``central_crop(0.875)`` and ``resize_bilinear``, pixel by pixel."""
    pixels = np.asarray(Image.open(picture), np.float64)
    top, left = (int((length - length * 0.875) / 2) for length in pixels.shape[:2])
    pixels = pixels[top : pixels.shape[0] - top, left : pixels.shape[1] - left]
    height, width = pixels.shape[:2]
    out = np.empty((side, side, 3))
    for row in range(side):
        for column in range(side):
            y, x = row * height / side, column * width / side
            above, before = int(y), int(x)
            below, after = min(above + 1, height - 1), min(before + 1, width - 1)
            upper = pixels[above, before] * (1 - x % 1) + pixels[above, after] * (x % 1)
            lower = pixels[below, before] * (1 - x % 1) + pixels[below, after] * (x % 1)
            out[row, column] = upper * (1 - y % 1) + lower * (y % 1)
    return out


V1 = models.config_from("mobilenet_v1", resolution=64)
RECIPES: dict[str, Callable[[Path], Any]] = {
    "torchvision": lambda path: torchvision(path, 73, 64, Image.Resampling.BILINEAR),
    "timm": lambda path: timm(path, 0.875, 64),
    "keras.applications": lambda path: keras(path, 64),
    "TF-Slim": lambda path: slim(path, 64),
}


@pytest.mark.parametrize("source", RECIPES)
def test_a_picture_is_resized_as_its_source_does(source: str, picture: Path) -> None:
    found = ours(picture, recipe_of(source, V1, {}).resizing)
    assert found.shape == (64, 64, 3) and found.std() > 10
    assert np.abs(found - RECIPES[source](picture)).max() <= 1  # a grey level


def test_the_sources_differ(picture: Path) -> None:
    made = [make(picture).astype(np.float64) for make in RECIPES.values()]
    for number, one in enumerate(made):
        for other in made[number + 1 :]:
            assert np.abs(one - other).max() > 2


@pytest.mark.parametrize("crop", [0.9, 0.95, 1.0])
def test_a_share_is_timms(crop: float, picture: Path) -> None:
    flags = ResizingFlags(crop=crop, interpolation="bicubic")
    assert np.abs(ours(picture, flags.over(None, 64, 64)) - timm(picture, crop, 64)).max() <= 1


def test_torchvisions_second_weights_take_232(picture: Path) -> None:
    found = ours(picture, ResizingFlags(size=232).over(None, 224, 224), 224)
    expected = torchvision(picture, 232, 224, Image.Resampling.BILINEAR)
    assert np.abs(found - expected).max() <= 1


def test_keras_own_functions(picture: Path) -> None:
    from support.keras_networks import keras

    opened = keras.utils.load_img(str(picture), target_size=(64, 64))
    expected = keras.applications.mobilenet.preprocess_input(keras.utils.img_to_array(opened))
    recipe = recipe_of("keras.applications", V1, {})
    info = bundle.TensorInfo(
        "input", (1, 3, 64, 64), "float32", "NCHW", recipe.normalisation, "rgb", recipe.resizing
    )
    found = image.read(picture, info)[0].transpose(1, 2, 0)
    np.testing.assert_allclose(found, expected, atol=1 / 127.5)


def test_a_picture_wider_than_high_for_an_input_that_is_not_square(tmp_path: Path) -> None:
    pixels = np.zeros((100, 300, 3), np.uint8)
    pixels[:, 100:200] = 200  # the middle third
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    info = bundle.TensorInfo(
        "input", (1, 3, 32, 64), "float32", "NCHW", PIXELS, "rgb", Resizing(32)
    )
    found = image.read(tmp_path / "photo.png", info)
    assert found.shape == (1, 3, 32, 64)
    # 32 high and 96 wide, of which columns 16 to 80: a quarter, a half and a quarter
    assert found[..., :14].max() == 0 == found[..., 50:].max()
    assert found[..., 18:46].min() == 200


def test_flags_stand_over_what_the_bundle_says() -> None:
    known = Resizing(64, "stretch", "nearest", 0.875)
    assert not ResizingFlags()
    assert ResizingFlags().over(known, 64, 64) == known
    assert ResizingFlags(crop=0.5).over(known, 64, 64) == Resizing(128, "stretch", "nearest", 0.875)
    assert ResizingFlags(fit="cover").over(None, 224, 224) == usual(224, 224) == Resizing(256)


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (ResizingFlags(size=63), "expected a size of 64 to 4096 pixels for an input of 64x64"),
        (ResizingFlags(size=10**6), "expected a size of 64 to 4096 pixels"),
        (ResizingFlags(crop=1.5), "--crop: expected a share above 0 and of at most 1, got 1.5"),
        (ResizingFlags(crop=0.0), "--crop: expected a share above 0"),
        (ResizingFlags(size=64, crop=0.5), "--resize and --crop say the same in two ways"),
    ],
)
def test_flags_that_cannot_be(flags: ResizingFlags, says: str) -> None:
    with pytest.raises(BadInput, match=says):
        flags.over(None, 64, 64)


@pytest.mark.parametrize("size", [(200, 150), (151, 233), (90, 61)])
@pytest.mark.parametrize(
    "how",
    [
        Resizing(64, "stretch"),
        Resizing(73),
        Resizing(80, "stretch", "bilinear", 0.875),
    ],
    ids=str,
)
def test_the_part_that_is_seen(size: tuple[int, int], how: Resizing, tmp_path: Path) -> None:
    """A picture whose red is the column and whose green is the row says where pixels are from."""
    width, height = size
    rows, columns = np.mgrid[0:height, 0:width]
    where = np.stack([columns, rows, rows * 0], axis=-1).astype(np.uint8)
    Image.fromarray(where).save(tmp_path / "where.png")
    info = bundle.TensorInfo(
        "input", (1, 64, 64, 3), "float32", "NHWC", PIXELS, "rgb", resizing=how
    )
    seen = image.read(tmp_path / "where.png", info)[0]
    part = image.part_of(tmp_path / "where.png", info)
    middles = (np.arange(64) + 0.5) / 64
    for axis, (begin, length) in enumerate([(part.left, part.width), (part.top, part.height)]):
        along = seen[32, :, 0] if axis == 0 else seen[:, 32, 1]
        found = along[8:-8] + 0.5  # borders are averages of less
        assert np.abs(found - (begin + middles * length)[8:-8]).max() < 0.8


def test_a_detector_sees_the_whole_picture() -> None:
    how = models.resizing_of(models.config_from("mobilenet_v1", 0.25, head="ssd"))
    assert how == Resizing(300, "stretch")
    assert models.resizing_of(models.config_from("mobilenet_v1")) is None


def test_a_picture_that_would_take_all_memory(tmp_path: Path) -> None:
    Image.new("RGB", (65, 1)).save(tmp_path / "line.png")
    with pytest.raises(BadInput, match="expected sides of at most 1 to 64, got 65x1; cut it"):
        ours(tmp_path / "line.png", Resizing(64))
    assert ours(tmp_path / "line.png", Resizing(64, "stretch")).shape == (64, 64, 3)
