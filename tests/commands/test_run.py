"""The run stage's command line: exit statuses, one-line errors, what it prints and writes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from support import tiny_bundle

from tvm_mobilenet import bundle, run
from tvm_mobilenet.errors import BadInput
from tvm_mobilenet.runtime import image

ROOT = Path(__file__).parents[2]
Capture = pytest.CaptureFixture[str]


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    path = tmp_path / "tiny"
    tiny_bundle.write(path, tiny_bundle.classifier())
    return path


def ok(capsys: Capture, *arguments: str | Path) -> str:
    """What ``run`` prints when it ends well."""
    status = run.main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    assert (status, captured.err) == (0, "")
    return captured.out


def fails(capsys: Capture, status: int, *arguments: str | Path) -> str:
    """The one line that ``run`` ends with."""
    assert run.main([str(argument) for argument in arguments]) == status
    line = capsys.readouterr().err
    assert line.startswith("error: ")
    assert line.count("\n") == 1
    return line


def test_the_sample_is_checked(capsys: Capture, tiny: Path) -> None:
    assert ok(capsys, tiny).endswith("at most 1e-05 allowed: ok\n")


def test_another_result_than_expected_exits_1(capsys: Capture, tmp_path: Path) -> None:
    x = tiny_bundle.sample_input()
    library = tmp_path / "model.so"
    library.write_bytes(tiny_bundle.classifier())
    bundle.write(
        tmp_path / "tiny",
        tiny_bundle.manifest(),
        library=library,
        parameters=tiny_bundle.WEIGHTS,
        sample_inputs=[x],
        expected_outputs=[tiny_bundle.reference(x) * np.float32(1.001)],
        tolerance=1e-4,
        licenses="",
    )
    line = fails(capsys, 1, tmp_path / "tiny")
    assert "differs from the expected output by 0.001 (relative), expected at most 0.0001" in line


def test_input_to_output(capsys: Capture, tiny: Path, tmp_path: Path) -> None:
    x = np.random.default_rng().standard_normal(tiny_bundle.INPUT_SHAPE, dtype=np.float32)
    np.save(tmp_path / "x.npy", x)
    out = ok(capsys, tiny, "--input", tmp_path / "x.npy", "--output", tmp_path / "y.npy")
    assert out == f"wrote {tmp_path / 'y.npy'}\n"
    y = np.load(tmp_path / "y.npy")
    np.testing.assert_allclose(y, tiny_bundle.reference(x), rtol=1e-5, atol=1e-5)
    assert ok(capsys, tiny, "--input", tmp_path / "x.npy").startswith("logits: float32 1x3, from ")


def test_several_outputs_are_written_by_name(capsys: Capture, tmp_path: Path) -> None:
    tiny_bundle.write(tmp_path / "tiny", tiny_bundle.classifier(two_outputs=True), two_outputs=True)
    assert "expected a .npz" in fails(capsys, 2, tmp_path / "tiny", "--output", tmp_path / "y.npy")
    ok(capsys, tmp_path / "tiny", "--output", tmp_path / "y.npz")
    with np.load(tmp_path / "y.npz") as arrays:
        assert sorted(arrays) == ["features", "logits"]
    assert "expected a classifier" in fails(capsys, 2, tmp_path / "tiny", "--top", "1")


def test_top_prints_index_probability_and_name(capsys: Capture, tiny: Path, tmp_path: Path) -> None:
    x = np.zeros(tiny_bundle.INPUT_SHAPE, np.float32)
    x[0, :, 0, 0] = [1, 1, 1]  # logits 1, 2, 3
    np.save(tmp_path / "x.npy", x)
    (tmp_path / "labels.txt").write_text("cat\ndog\nbird\n")
    out = ok(capsys, tiny, "--input", tmp_path / "x.npy", "--top", "2")
    assert [line.split() for line in out.splitlines()] == [["2", "66.52%"], ["1", "24.47%"]]
    out = ok(capsys, tiny, "--input", tmp_path / "x.npy", "--labels", tmp_path / "labels.txt")
    assert [line.split()[-1] for line in out.splitlines()] == ["bird", "dog", "cat"]


# what the classifier gives for logits of 1, 2 and 3; the sum of a softmax's is 1, a sigmoid's not
TOP_OF_123 = {
    "logits": [["2", "66.52%"], ["1", "24.47%"], ["0", "9.00%"]],
    "softmax": [["2", "50.00%"], ["1", "33.33%"], ["0", "16.67%"]],
    "sigmoid": [["2", "50.00%"], ["1", "33.33%"], ["0", "16.67%"]],
}


@pytest.mark.parametrize("scores", TOP_OF_123)
def test_top_takes_the_softmax_of_logits_alone(
    capsys: Capture, tmp_path: Path, scores: str
) -> None:
    outputs = (bundle.TensorInfo("scores", (1, 3), "float32", "NC", scores=scores),)
    tiny_bundle.write(tmp_path / "tiny", tiny_bundle.classifier(), outputs=outputs)
    x = np.zeros(tiny_bundle.INPUT_SHAPE, np.float32)
    x[0, :, 0, 0] = 1 if scores == "logits" else 1 / 6  # then 1/6, 2/6 and 3/6
    np.save(tmp_path / "x.npy", x)
    out = ok(capsys, tmp_path / "tiny", "--input", tmp_path / "x.npy", "--top", "3")
    assert [line.split() for line in out.splitlines()] == TOP_OF_123[scores]


def test_top_of_scores_that_are_not_known(capsys: Capture, tmp_path: Path) -> None:
    outputs = (bundle.TensorInfo("scores", (1, 3), "float32", "NC"),)
    tiny_bundle.write(tmp_path / "tiny", tiny_bundle.classifier(), outputs=outputs)
    np.save(tmp_path / "x.npy", np.ones(tiny_bundle.INPUT_SHAPE, np.float32))
    lines = ok(capsys, tmp_path / "tiny", "--input", tmp_path / "x.npy", "--top", "2").splitlines()
    assert [line.split() for line in lines[:2]] == [["2", "48"], ["1", "32"]]
    assert lines[2:] == ["the bundle does not say what the scores are: they are shown as they are"]


def test_top_says_that_weights_are_random(capsys: Capture, tmp_path: Path) -> None:
    tiny_bundle.write(tmp_path / "tiny", tiny_bundle.classifier(), weights="random")
    np.save(tmp_path / "x.npy", np.ones(tiny_bundle.INPUT_SHAPE, np.float32))
    asked = (tmp_path / "tiny", "--input", tmp_path / "x.npy")
    assert "random" in ok(capsys, *asked, "--top", "1").splitlines()[-1]
    assert "random" not in ok(capsys, *asked)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (
            np.zeros((1, 3, 4, 5), np.float32),
            "expected float32 of shape 1x3x4x4 (NCHW), got float32",
        ),
        (np.zeros(tiny_bundle.INPUT_SHAPE), "got float64 of shape 1x3x4x4; convert it"),
        (np.full(tiny_bundle.INPUT_SHAPE, np.nan, np.float32), "got 48 of 48 that are nan or inf"),
        (np.array([{}], dtype=object), "not a readable .npy"),
    ],
    ids=["shape", "dtype", "not finite", "pickled"],
)
def test_a_bad_input_array(
    capsys: Capture, tiny: Path, tmp_path: Path, array: np.ndarray, message: str
) -> None:
    np.save(tmp_path / "x.npy", array)
    line = fails(capsys, 2, tiny, "--input", tmp_path / "x.npy", "--output", tmp_path / "y.npy")
    assert message in line
    assert str(tmp_path / "x.npy") in line
    assert not (tmp_path / "y.npy").exists()


def test_bad_requests(capsys: Capture, tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "text.npy").write_text("hello")
    (tmp_path / "two.txt").write_text("cat\ndog\n")
    assert "no such bundle" in fails(capsys, 2, tmp_path / "absent")
    assert "no such file" in fails(capsys, 2, tiny, "--input", tmp_path / "absent.npy")
    assert "not a readable .npy" in fails(capsys, 2, tiny, "--input", tmp_path / "text.npy")
    assert "expected 3 lines" in fails(capsys, 2, tiny, "--labels", tmp_path / "two.txt")
    assert "cannot be written" in fails(capsys, 2, tiny, "--output", "/proc/absent/y.npy")
    assert "threads asked" in fails(capsys, 2, tiny, "--threads", "100000")


def test_a_changed_bundle_exits_2(capsys: Capture, tiny: Path) -> None:
    library = tiny / "model.so"
    library.write_bytes(library.read_bytes()[:100])
    assert "model.so is not the file that was compiled" in fails(capsys, 2, tiny)


def test_the_command_itself(tiny: Path, tmp_path: Path) -> None:
    """In a fresh interpreter: exit status and streams, one plain line and no traceback."""

    def command(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
        words = [sys.executable, "-m", "tvm_mobilenet.run", *map(str, arguments)]
        return subprocess.run(words, capture_output=True, text=True, cwd=ROOT, timeout=240)

    done = command(tiny)
    assert (done.returncode, done.stderr) == (0, "")
    done = command(tmp_path / "absent")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    done = command(tiny, "--threads", "none")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "Traceback" in command(tmp_path / "absent", "--debug").stderr


# Pictures


def test_normalisation() -> None:
    pixels = np.random.default_rng(3).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    imagenet = bundle.Normalisation(1 / 255, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    x = image.normalise(pixels, image.Pixels(imagenet))
    assert x.shape == (4, 4, 3)
    assert x.dtype == np.float32
    for c, (mean, std) in enumerate(zip(imagenet.mean, imagenet.std, strict=True)):
        wanted = (pixels[:, :, c] / 255 - mean) / std
        np.testing.assert_allclose(x[..., c], wanted, rtol=1e-5, atol=1e-6)
    blue_first = image.normalise(pixels, image.Pixels(imagenet, bgr=True))
    np.testing.assert_array_equal(blue_first, x[..., ::-1])


def test_without_pillow_the_line_names_the_extra(
    capsys: Capture, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    (tmp_path / "cat.jpg").write_bytes(b"")
    line = fails(capsys, 2, tiny, "--input", tmp_path / "cat.jpg")
    assert "pip install 'tvm-mobilenet[images]'" in line


def test_a_network_whose_normalisation_is_not_known(capsys: Capture, tmp_path: Path) -> None:
    pillow = pytest.importorskip("PIL.Image", reason="pip install 'tvm-mobilenet[images]'")
    inputs = (bundle.TensorInfo("input", tiny_bundle.INPUT_SHAPE, "float32", "NCHW"),)
    tiny_bundle.write(tmp_path / "tiny", tiny_bundle.classifier(), inputs=inputs)
    pillow.new("RGB", (8, 8), (255, 127, 0)).save(tmp_path / "cat.png")
    picture = (tmp_path / "tiny", "--input", tmp_path / "cat.png")
    assert "give --mean and --std as the network was trained" in fails(capsys, 2, *picture)
    flags = ("--mean", "1,1,1", "--std", "1,1,1", "--scale", "1/127.5", "--top", "3")
    out = ok(capsys, *picture, *flags)
    assert [line.split()[0] for line in out.splitlines()] == ["0", "1", "2"]
    assert "expected --input IMAGE" in fails(capsys, 2, tmp_path / "tiny", "--mean", "0,0,0")
    assert "got 2" in fails(capsys, 2, *picture, "--mean", "0,0,0", "--std", "1,1")
    assert "std other than 0" in fails(capsys, 2, *picture, "--std", "1,0,1")
    assert "expected one mean a channel (3), got 1" in fails(capsys, 2, *picture, "--mean", "0.5")


def test_a_network_that_takes_no_picture(capsys: Capture, tmp_path: Path) -> None:
    inputs = (bundle.TensorInfo("input", (2, 3, 4, 4), "float32", "NCHW"),)
    with pytest.raises(BadInput, match=r"shape 2x3x4x4 \(NCHW\), not one picture; give a .npy"):
        image.read(tmp_path / "cat.jpg", inputs[0])


def test_a_picture(capsys: Capture, tiny: Path, tmp_path: Path) -> None:
    pillow = pytest.importorskip("PIL.Image", reason="pip install 'tvm-mobilenet[images]'")
    # left half black, right half white, wider than high: the crop keeps the middle
    pixels = np.zeros((32, 64, 3), np.uint8)
    pixels[:, 32:] = 255
    pillow.fromarray(pixels).save(tmp_path / "cat.png")
    info = tiny_bundle.manifest().inputs[0]
    x = image.read(tmp_path / "cat.png", info)
    assert x.shape == tiny_bundle.INPUT_SHAPE
    assert x.dtype == np.float32
    np.testing.assert_allclose(x[..., 0], (0 - 0.5) / 0.25, atol=0.1)
    np.testing.assert_allclose(x[..., -1], (1 - 0.5) / 0.25, atol=0.1)
    ok(capsys, tiny, "--input", tmp_path / "cat.png", "--top", "1")

    (tmp_path / "cat.jpg").write_bytes(b"no picture")
    assert "not a picture" in fails(capsys, 2, tiny, "--input", tmp_path / "cat.jpg")
