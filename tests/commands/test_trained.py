"""Weights in, labels out: the commands with ``--weights``, and photographs into what they make."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support import near_calls
from support.torch_networks import TorchvisionV2

from tvm_mobilenet import bench, cost, models, run, tune, weights
from tvm_mobilenet import compile as compile_command
from tvm_mobilenet.results import schema

Image: Any = pytest.importorskip("PIL.Image", reason="pip install 'tvm-mobilenet[images]'")
Capture = pytest.CaptureFixture[str]

SIZE, CLASSES = 64, ("plane", "car", "bird", "cat", "deer")
MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
MODEL = ("--model", "mobilenet_v2", "--resolution", str(SIZE))
DONE, BAD = 0, 2


class Trained:
    """A checkpoint, the network it is of, a photograph, and the bundle made of the first."""

    def __init__(self, folder: Path) -> None:
        self.network = TorchvisionV2(0.35, len(CLASSES)).eval()
        alive = models.config_from("mobilenet_v2", 0.35, SIZE, num_classes=len(CLASSES))
        self.network.load_state_dict(models.build(alive).state_dict())
        self.file, self.photo = folder / "w.pth", folder / "photo.jpg"
        self.labels, self.bundle = folder / "labels.txt", folder / "bundle"
        torch.save({"state_dict": self.network.state_dict(), "epoch": 7}, self.file)
        self.labels.write_text("\n".join(CLASSES))
        pixels = np.random.default_rng(0).integers(0, 256, (12, 16, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((200, 150)).save(self.photo)

    def probabilities(self, filter: int, size: int) -> Any:
        """Of the photograph, by PyTorch on what Pillow makes of it."""
        picture = Image.open(self.photo).resize((size * 200 // 150, size), filter)
        left, top = round((picture.width - SIZE) / 2), round((size - SIZE) / 2)
        pixels = np.asarray(picture.crop((left, top, left + SIZE, top + SIZE)))
        values = ((pixels / 255 - MEAN) / STD).transpose(2, 0, 1)[np.newaxis]
        with torch.inference_mode():
            return self.network(torch.from_numpy(values).float()).softmax(1)[0].numpy()


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    made = Trained(tmp_path_factory.mktemp("trained"))
    flags = ["--weights", made.file, "--labels", made.labels, "-o", made.bundle]
    status = compile_command.main([*MODEL, "--on-untuned", "allow", *map(str, flags)])
    assert status == DONE
    return made


@pytest.fixture(autouse=True)
def reads_weights_here(trained: Trained) -> Iterator[None]:
    """In a process of its own PyTorch has read them for the bundle."""
    with near_calls.used():
        yield


def check_top(printed: str, probabilities: Any, count: int) -> None:
    lines = printed.splitlines()
    assert len(lines) == count, printed
    best = np.argsort(probabilities)[::-1][:count]
    for line, index in zip(lines, best, strict=True):
        number, percent, name = line.split()
        assert (int(number), name) == (index, CLASSES[index])
        assert abs(float(percent.rstrip("%")) / 100 - probabilities[index]) < 2e-4


def test_a_photograph_gets_the_names_pytorch_gives_it(trained: Trained, capsys: Capture) -> None:
    shot = [str(trained.bundle), "--input", str(trained.photo), "--top", "3"]
    assert run.main(shot) == DONE
    expected = trained.probabilities(Image.Resampling.BILINEAR, 73)
    check_top(capsys.readouterr().out, expected, 3)

    assert run.main([*shot, "--crop", "1", "--interpolation", "bicubic"]) == DONE
    other = trained.probabilities(Image.Resampling.BICUBIC, SIZE)
    assert np.abs(other - expected).max() > 1e-3, "another part of it"
    check_top(capsys.readouterr().out, other, 3)


def test_the_bundle_says_what_it_is_of(trained: Trained) -> None:
    manifest = json.loads((trained.bundle / "manifest.json").read_text())
    assert manifest["weights"] == "file"
    assert manifest["weights_file"]["source"] == "torchvision"
    assert manifest["weights_file"]["sha256"] == weights.hash_of(trained.file)
    assert manifest["weights_file"]["implies"][:3] == ["its state_dict", "alpha 0.35", "5 classes"]
    assert (manifest["model"]["alpha"], manifest["model"]["num_classes"]) == (0.35, 5)
    (image,) = manifest["inputs"]
    assert image["resizing"] == {
        "size": 73,
        "fit": "cover",
        "interpolation": "bilinear",
        "cut": 1.0,
    }


def test_cost_is_of_the_file(trained: Trained, capsys: Capture) -> None:
    assert cost.main([*MODEL, "--weights", str(trained.file), "--json"]) == DONE
    said = capsys.readouterr()
    (result,) = json.loads(said.out)["results"]
    expected = sum(one.numel() for one in trained.network.parameters())
    assert result["parameters"] == expected
    (line,) = said.err.splitlines()
    assert line.startswith("weights w.pth: torchvision's; its state_dict; alpha 0.35; 5 classes; ")
    assert "symmetric padding" in line and "shorter side 73, bilinear, cropped to 64x64" in line


def test_tune_takes_the_file_and_no_sweep_of_it(trained: Trained, capsys: Capture) -> None:
    flags = [*MODEL, "--weights", str(trained.file), "--dry-run"]
    assert tune.main(flags) == DONE
    assert "stem_conv2d_32x32x16_s2: 1 calls" in capsys.readouterr().out
    assert tune.main([*flags, "--sweep"]) == BAD
    assert "the file of --weights has one, drop it" in capsys.readouterr().err


def test_bench_measures_it_beside_pytorch(
    trained: Trained, tmp_path: Path, capsys: Capture
) -> None:
    quick = ["--min-time", "0.05s", "--min-runs", "5", "--patience", "1s"]
    json_file = tmp_path / "r.json"
    flags = [str(trained.bundle), "--against", "pytorch", "--json", str(json_file), *quick]
    assert bench.main([*flags, "--weights", str(trained.file)]) == DONE
    ours, pytorch = schema.load(json_file).results
    assert (ours.status, pytorch.status, ours.reference) == ("ok", "ok", "pytorch")
    assert pytorch.max_abs_diff is not None and pytorch.max_abs_diff < 1e-4

    assert bench.main(flags) == DONE
    ours, pytorch = schema.load(json_file).results
    assert (ours.status, pytorch.status, ours.reference) == ("ok", "not run", "expected_output")
    assert "pass --weights FILE" in (pytorch.reason or "")

    capsys.readouterr()
    assert bench.main([*flags, "--weights", str(trained.photo)]) == BAD
    assert "compiled with another file of weights than" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--onnx", "x.onnx", "--weights", "w.pth"], "--weights: not for --onnx"),
        (["--weights", "absent.pth"], "weights absent.pth: no such file"),
        (["--model", "resnet18", "--weights", "FILE"], "expected conv1.weight and the like"),
        ([*MODEL, "--alpha", "0.5", "--weights", "FILE"], "expected shape"),
        ([*MODEL, "--weights", "FILE", "--crop", "2"], "--crop: expected a share"),
    ],
)
def test_one_line(flags: list[str], says: str, trained: Trained, capsys: Capture) -> None:
    given = [str(trained.file) if flag == "FILE" else flag for flag in flags]
    assert compile_command.main([*given, "-o", str(trained.bundle) + "-other"]) == BAD
    *_, last = capsys.readouterr().err.splitlines()
    assert last.startswith("error: ") and says in last
