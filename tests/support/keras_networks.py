"""Keras' own networks, on PyTorch, with random weights that keep activations at their scale."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

REPOSITORY = Path(__file__).parent.parent.parent

os.environ["KERAS_BACKEND"] = "torch"
os.environ["KERAS_HOME"] = str(REPOSITORY / "build" / "keras")  # it writes its settings there
keras: Any = pytest.importorskip("keras", reason="pip install '.[dev]'")


def network(name: str, alpha: float, size: int, classes: int = 10) -> Any:
    """``keras.applications.<name>`` without a softmax, for images of so many pixels."""
    made = getattr(keras.applications, name)(
        weights=None,
        alpha=alpha,
        input_shape=(size, size, 3),
        classes=classes,
        classifier_activation=None,
    )
    rng = np.random.default_rng(20170417)
    made.set_weights([_values(one.path, tuple(one.shape), rng) for one in made.weights])
    return made


def _values(path: str, shape: tuple[int, ...], rng: np.random.Generator) -> npt.NDArray[Any]:
    leaf = path.rpartition("/")[2]
    if leaf == "moving_variance":
        values = rng.uniform(0.8, 1.2, shape)
    elif leaf == "gamma":
        values = rng.uniform(0.7, 1.3, shape)
    elif leaf == "kernel":
        inputs = shape[:2] if shape[-1] == 1 else shape[:-1]  # of a depthwise one, one channel
        values = rng.standard_normal(shape) * np.sqrt(2 / np.prod(inputs))
    else:
        values = rng.normal(0, 0.3, shape)
    return values.astype(np.float32)


def logits(made: Any, images: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """What Keras gives for images (N, C, H, W): (N, classes)."""
    import torch

    with torch.no_grad():
        out = made(images.transpose(0, 2, 3, 1), training=False)
    values: npt.NDArray[np.float32] = out.cpu().numpy().reshape(len(images), -1)
    return values
