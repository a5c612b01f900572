"""What --calibrate takes, and the one line for what it does not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tvm_mobilenet.errors import BadInput
from tvm_mobilenet.network.signature import InputTensor
from tvm_mobilenet.quantization.samples import Samples, open_samples

IMAGE = (InputTensor("x", (1, 3, 4, 4)),)
TWO = (InputTensor("image", (2, 3, 4, 4)), InputTensor("scale", (2, 1)))


def nothing(path: Path) -> NDArray[Any]:
    raise AssertionError(f"{path}: no picture")


def values(count: int, *shape: int) -> NDArray[np.float32]:
    shape = shape or (3, 4, 4)
    return np.random.default_rng(0).standard_normal((count, *shape)).astype(np.float32)


def opened(folder: Path, array: NDArray[Any]) -> Samples:
    np.save(folder / "a.npy", array)
    return open_samples(folder / "a.npy", IMAGE, nothing)


@pytest.mark.parametrize(("count", "held"), [(1, 1), (2, 1), (3, 1), (4, 1), (8, 2), (101, 25)])
def test_a_quarter_is_held_out(count: int, held: int, tmp_path: Path) -> None:
    used, kept = opened(tmp_path, values(count)).kept()
    assert len(kept) == held and len(used) == max(count - held, 1)
    if count > 1:
        assert sorted((*used.places, *kept.places)) == list(range(count))
        again = opened(tmp_path, values(count)).kept()
        assert (used.places, kept.places) == (again[0].places, again[1].places)


def test_samples_in_the_order_of_their_classes_are_mixed(tmp_path: Path) -> None:
    """Every fourth would be all of one class."""
    _, kept = opened(tmp_path, values(64)).kept()
    assert len({place % 4 for place in kept.places}) == 4


def test_batches_are_those_of_the_network(tmp_path: Path) -> None:
    arrays: dict[str, Any] = {
        "image": values(5),
        "scale": np.arange(5.0)[:, None] - 1,
    }
    np.savez(tmp_path / "a.npz", image=arrays["image"], scale=arrays["scale"])
    samples = open_samples(tmp_path / "a.npz", TWO, nothing)
    batches = list(samples.batches())
    assert [[one.shape for one in batch] for batch in batches] == [[(2, 3, 4, 4), (2, 1)]] * 3
    assert batches[2][1].ravel().tolist() == [3, -1]  # filled up from the start
    assert {one.dtype for batch in batches for one in batch} == {np.dtype(np.float32)}
    np.testing.assert_array_equal(np.concatenate([a for a, _ in batches])[:5], arrays["image"])


def test_few_are_from_all_over(tmp_path: Path) -> None:
    samples = opened(tmp_path, values(100))
    assert samples.few(5).places == (0, 25, 50, 74, 99)
    assert samples.few(100) is samples


def test_a_folder_of_pictures_is_read_when_it_is_asked_for(tmp_path: Path) -> None:
    for name in ("b.png", "a.JPG", "notes.txt"):
        (tmp_path / name).write_bytes(b"")
    seen = []

    def read(path: Path) -> NDArray[Any]:
        seen.append(path.name)
        picture: NDArray[Any] = values(1)[0]
        return picture

    samples = open_samples(tmp_path, IMAGE, read)
    assert len(samples) == 2 and seen == ["a.JPG", "b.png"]
    assert len(list(samples.batches())) == 2


NAN = values(3)
NAN[1, 2, 3, 3] = np.nan
WRONG: dict[str, tuple[Any, str]] = {
    "wrong shape": (values(3, 3, 4, 5), "expected float32 of shape Nx3x4x4 for the input x, got"),
    "one sample without N": (values(1, 4)[0], "got float32 of shape 4"),
    "pixels": (np.zeros((4, 3, 4, 4), np.uint8), "expected float32 of shape Nx3x4x4 for the input"),
    "not numbers": (np.array(["a"]), "expected float32"),
    "objects": (np.array([{}]), "not a readable .npy"),
    "nan": (NAN, "sample 1 has nan or infinity in it"),
    "infinity": (np.full((2, 3, 4, 4), np.inf, np.float32), "sample 0 has nan or infinity"),
    "blank": (
        np.ones((4, 3, 4, 4), np.float32) * np.arange(3, dtype=np.float32)[:, None, None],
        "every sample is one value all over",
    ),
    "constant": (np.ones((4, 3, 4, 4), np.float32), "every sample is one value all over"),
    "none": (values(0), "no samples in it"),
}


@pytest.mark.parametrize("name", WRONG)
def test_an_array_that_does_not_fit_is_one_line(name: str, tmp_path: Path) -> None:
    array, reason = WRONG[name]
    with pytest.raises(BadInput, match="--calibrate") as raised:
        opened(tmp_path, array)
    assert reason in str(raised.value) and "\n" not in str(raised.value)


def test_one_blank_sample_among_others_is_no_fault(tmp_path: Path) -> None:
    array = values(3)
    array[0] = 1
    assert len(opened(tmp_path, array)) == 3


def files(folder: Path) -> dict[str, tuple[Path, str]]:
    """Paths that hold no samples, by what is wrong with them."""
    (folder / "text.npy").write_text("no array")
    (folder / "cut.npz").write_bytes(b"PK\x03\x04")
    (folder / "a.txt").write_text("")
    (folder / "empty").mkdir()
    np.savez(folder / "other.npz", image=values(2), size=values(2))
    np.savez(folder / "uneven.npz", image=values(2), scale=values(3, 1))
    return {
        "text": (folder / "text.npy", "not a readable .npy"),
        "cut off": (folder / "cut.npz", "not a readable .npz"),
        "no array": (folder / "a.txt", "not a folder of pictures, a .npy or a .npz"),
        "missing": (folder / "b.npy", "no such file"),
        "empty": (folder / "empty", "has 2 inputs; give a .npz"),
        "another name": (folder / "other.npz", "expected an array for each input, image, scale"),
        "uneven": (folder / "uneven.npz", "expected as many samples of each input"),
    }


@pytest.mark.parametrize(
    "name", ["text", "cut off", "no array", "missing", "empty", "another name", "uneven"]
)
def test_a_file_that_is_none_is_one_line(name: str, tmp_path: Path) -> None:
    path, reason = files(tmp_path)[name]
    with pytest.raises(BadInput, match="--calibrate") as raised:
        open_samples(path, TWO, nothing)
    assert reason in str(raised.value) and "\n" not in str(raised.value)


@pytest.mark.parametrize(("dtype", "fits"), [("u1", True), ("f4", False), ("i8", False)])
def test_integers_are_not_cut_down(dtype: str, fits: bool, tmp_path: Path) -> None:
    """Of an input of bytes: fractions, and what might be no byte, say so."""
    pixels = np.arange(2 * 48).reshape(2, 3, 4, 4).astype(dtype)
    np.save(tmp_path / "a.npy", pixels)
    inputs = (InputTensor("x", (1, 3, 4, 4), "uint8"),)
    if fits:
        samples = open_samples(tmp_path / "a.npy", inputs, nothing)
        np.testing.assert_array_equal([samples.read(i)[0] for i in range(2)], pixels)
    else:
        with pytest.raises(BadInput, match="expected uint8 of shape Nx3x4x4 for the input x"):
            open_samples(tmp_path / "a.npy", inputs, nothing)


def test_folders_of_pictures_by_class_are_named(tmp_path: Path) -> None:
    (tmp_path / "cat").mkdir()
    with pytest.raises(BadInput, match="in folders of it, which are not searched"):
        open_samples(tmp_path, IMAGE, nothing)


def test_an_empty_folder_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no samples in it"):
        open_samples(tmp_path, IMAGE, nothing)
