"""Files that Keras saves and TF-Slim's, against what Keras computes; bundles too."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support import keras_networks, near_calls, slim_files

import tvm_mobilenet
from tvm_mobilenet import weights
from tvm_mobilenet.errors import BadInput
from tvm_mobilenet.models.normalisation import SYMMETRIC
from tvm_mobilenet.models.resizing import Resizing
from tvm_mobilenet.weights.reading import read_here

pytest.importorskip("h5py", reason="pip install '.[weights]'")
# of Keras, which NumPy asks for something newer
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

V1, V2 = "mobilenet_v1", "mobilenet_v2"
# 35 pixels are halved to 18, 9, 5, 3 and 2: from even sizes and from odd ones. At 0.746 Keras'
# rounding differs from TF-Slim's.
NETWORKS = {
    "V1": (V1, "MobileNet", 0.25, 32),
    "V1 of odd width": (V1, "MobileNet", 0.11, 32),
    "V2": (V2, "MobileNetV2", 0.35, 35),
    "V2 of odd width": (V2, "MobileNetV2", 0.746, 32),
}
FORMATS = {"whole.h5": "save", "new.keras": "save", "new.weights.h5": "save_weights"}


def images(size: int) -> Any:
    return np.random.default_rng(7).uniform(-1, 1, (2, 3, size, size)).astype(np.float32)


def difference(trained: weights.Trained, made: Any) -> float:
    """Of our module's logits from Keras', relative to the largest of these."""
    x = images(trained.config.resolution)
    expected = keras_networks.logits(made, x)
    assert expected.std() > 0.1, "the classes are told apart"
    with torch.inference_mode():
        found = weights.build(trained.config, trained.state)(torch.from_numpy(x)).numpy()
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def save(made: Any, path: Path, method: str) -> Path:
    with pytest.MonkeyPatch.context() as patch:  # Keras says that .h5 is old
        patch.setattr("absl.logging.warning", lambda *_: None)
        getattr(made, method)(str(path))
    return path


@pytest.mark.in_turns(2)
@pytest.mark.parametrize(
    ("case", "file"),
    [
        *((case, file) for case in ("V1", "V2") for file in FORMATS),
        ("V1 of odd width", "whole.h5"),
        ("V2 of odd width", "new.keras"),
    ],
)
def test_every_format_is_the_same_network(case: str, file: str, tmp_path: Path) -> None:
    name, kind, alpha, size = NETWORKS[case]
    made = keras_networks.network(kind, alpha, size)
    path = save(made, tmp_path / file, FORMATS[file])
    unsaid = file != "new.weights.h5"  # which alone does not say the size of its input
    given = {} if unsaid else {"resolution": size}
    trained = read_here(path, name, alpha=alpha if alpha == 0.746 else None, **given)
    assert (trained.config.alpha, trained.config.resolution) == (alpha, size)
    assert trained.config.num_classes == 10
    assert trained.source == "keras.applications"
    assert difference(trained, made) < 1e-4


def test_names_of_keras_2(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    made = keras_networks.network("MobileNetV2", 0.35, 32)
    with h5py.File(tmp_path / "old.h5", "w") as file:  # no whole model: layers at the top
        for one in made.weights:
            layer, leaf = one.path.split("/")
            leaf = "depthwise_kernel" if layer.endswith("depthwise") else leaf
            layer = "Logits" if layer == "predictions" else layer
            file[f"{layer}/{layer}/{leaf}:0"] = one.numpy()
    trained = read_here(tmp_path / "old.h5", V2, resolution=32)
    assert difference(trained, made) < 1e-4


@pytest.mark.parametrize("file", ["slim.npz", "slim.pb", "slim.index"])
def test_tf_slims_files_of_1001_classes(file: str, tmp_path: Path) -> None:
    made = keras_networks.network("MobileNet", 0.25, 32, classes=1001)
    variables = slim_files.of_keras(made)
    if file == "slim.npz":
        stored: dict[str, Any] = {f"{name}:0": array for name, array in variables.items()}
        stored |= {f"{name}/RMSProp": array for name, array in variables.items()}
        np.savez(tmp_path / file, **stored, global_step=np.array(7))
    elif file == "slim.pb":
        slim_files.write_graph(tmp_path / file, variables, size=32)
    else:
        slim_files.write_checkpoint(tmp_path / "slim", variables)
    given = {} if file == "slim.pb" else {"resolution": 32}
    trained = read_here(tmp_path / file, V1, **given)
    assert (trained.source, trained.config.num_classes) == ("TF-Slim", 1001)
    assert trained.config.resolution == 32
    assert difference(trained, made) < 1e-4
    assert trained.recipe.resizing == Resizing(32, "stretch", "tensorflow", 0.875)


def test_tf_slims_v2(tmp_path: Path) -> None:
    made = keras_networks.network("MobileNetV2", 0.35, 32, classes=1001)
    slim_files.write_graph(tmp_path / "w.pb", slim_files.of_keras(made), size=32)
    trained = read_here(tmp_path / "w.pb", V2)
    assert (trained.source, trained.config.alpha) == ("TF-Slim", 0.35)
    assert difference(trained, made) < 1e-4


def test_a_graph_says_what_its_norms_add(tmp_path: Path) -> None:
    made = keras_networks.network("MobileNet", 0.25, 32)
    variables = slim_files.of_keras(made)
    variables["MobilenetV1/Conv2d_0/BatchNorm/gamma"][:] = 0.75  # all the same: written as one
    slim_files.write_graph(tmp_path / "w.pb", variables, size=32, epsilon=0.002)
    trained = read_here(tmp_path / "w.pb", V1)
    assert trained.config.batch_norm_epsilon == 0.002
    assert (trained.state["trunk.stem.norm.weight"] == 0.75).all()


@pytest.mark.in_turns(2)
@pytest.mark.parametrize("case", ["V1", "V2"])
def test_a_bundle_answers_as_keras_does(
    case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name, kind, alpha, size = NETWORKS[case]
    made = keras_networks.network(kind, alpha, size)
    path = save(made, tmp_path / "w.keras", "save")
    with near_calls.used():  # which read the file
        bundle = tvm_mobilenet.compile_bundle(tmp_path / "b", weights=path, name=name)
    with tvm_mobilenet.load(bundle) as session:
        found = np.concatenate([session.run(one[np.newaxis]) for one in images(size)])
        image = session.manifest.inputs[0]
    expected = keras_networks.logits(made, images(size))
    assert np.abs(found - expected).max() < 1e-4 * np.abs(expected).max()

    assert (image.normalisation, image.resizing) == (
        SYMMETRIC,
        Resizing(size, "stretch", "nearest"),
    )
    manifest = json.loads((bundle / "manifest.json").read_text())
    assert manifest["weights"] == "file"
    file = manifest["weights_file"]
    assert (file["name"], file["sha256"]) == ("w.keras", weights.hash_of(path))
    assert "TensorFlow's SAME padding" in file["implies"]
    assert "batch-norm epsilon 0.001" in file["implies"]


def test_features_need_the_trunk_alone(tmp_path: Path) -> None:
    whole = keras_networks.network("MobileNet", 0.25, 32)
    trunk = keras_networks.keras.Model(whole.input, whole.get_layer("conv_pw_13_relu").output)
    path = save(trunk, tmp_path / "w.h5", "save")
    with pytest.raises(BadInput, match="conv_preds/kernel is missing"):
        read_here(path, V1)
    trained = read_here(path, V1, feature_strides=(8, 32))
    with torch.no_grad():
        expected = trunk(images(32).transpose(0, 2, 3, 1), training=False).numpy()
        _, found = weights.build(trained.config, trained.state)(torch.from_numpy(images(32)))
    np.testing.assert_allclose(found.numpy(), expected.transpose(0, 3, 1, 2), atol=1e-4)

    path = save(whole, tmp_path / "w.h5", "save")
    again = read_here(path, V1, feature_strides=(8, 32))
    assert again.state.keys() == trained.state.keys()


def test_a_name_that_says_other_padding_is_refused(tmp_path: Path) -> None:
    made = keras_networks.network("MobileNetV2", 0.35, 32)
    path = save(made, tmp_path / "w.h5", "save")
    with pytest.raises(BadInput, match="are for padding tensorflow, and mobilenet_v2 was to have"):
        read_here(path, V2, padding="pytorch")
