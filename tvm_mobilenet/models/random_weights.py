"""Random weights that behave like trained ones: no dead channels, no vanishing or exploding layers.

PyTorch's own initial weights would hide errors: batch norm is the identity there, and after 27
layers the output hardly depends on the input. Here each batch norm gets the mean and variance that
its input really has, as far as they follow from the weights, and scale and shift of its own.

The moments assume independent inputs: an approximation, which the random factors below roughen
anyway. All numbers come from NumPy's generator, so one seed gives one network on every machine.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from tvm_mobilenet.models.stages import Layer

Vector = npt.NDArray[np.float64]

# Scale and shift of batch norm: about one activation in a hundred passes 6, so ReLU6 has work,
# and a channel whose map is one pixel still has about two chances in three to be alive.
SCALE_RANGE = (0.75, 2.5)
SHIFT_MEAN, SHIFT_STD = 0.7, 1.0
# How far batch norm's statistics are off from the moments computed here.
MEAN_ERROR_STD = 0.2  # in standard deviations
VARIANCE_ERROR_RANGE = (0.7, 1.4)
BIAS_STD = 0.5

_erf = np.vectorize(math.erf, otypes=[np.float64])


class Moments(NamedTuple):
    """Mean and variance over images and pixels, one value a channel."""

    mean: Vector
    variance: Vector


def fill(state: Mapping[str, torch.Tensor], layers: Sequence[Layer], seed: int) -> None:
    """Overwrite the tensors of MobileNetV1's ``state_dict`` in place.

    The trunk is drawn first: networks that differ in their classifier share the trunk's weights.
    Expects inputs of about mean 0 and variance 1, as normalised images have.
    """
    rng = np.random.default_rng(seed)
    first = layers[0].in_channels
    moments = Moments(np.zeros(first), np.ones(first))
    for layer in layers:
        if layer.op == "fully_connected":
            _fill_classifier(state, layer, moments, rng, pooled=layers[-2].out_size ** 2)
        else:
            moments = _fill_convolution(state, layer, moments, rng)


def _fill_convolution(
    state: Mapping[str, torch.Tensor], layer: Layer, given: Moments, rng: np.random.Generator
) -> Moments:
    shape = (layer.out_channels, layer.in_channels // layer.groups, layer.kernel, layer.kernel)
    weight = rng.standard_normal(shape) * math.sqrt(2 / layer.fan_in)
    out = _convolve(weight, given, depthwise=layer.op == "depthwise3x3")

    count = layer.out_channels
    scale = rng.uniform(*SCALE_RANGE, count)
    shift = rng.normal(SHIFT_MEAN, SHIFT_STD, count)
    mean = out.mean + np.sqrt(out.variance) * rng.normal(0, MEAN_ERROR_STD, count)
    variance = out.variance * rng.uniform(*VARIANCE_ERROR_RANGE, count)

    name = f"trunk.{layer.name}"
    _write(state, f"{name}.conv.weight", weight)
    _write(state, f"{name}.norm.weight", scale)
    _write(state, f"{name}.norm.bias", shift)
    _write(state, f"{name}.norm.running_mean", mean)
    _write(state, f"{name}.norm.running_var", variance)

    normalised = Moments(
        shift + scale * (out.mean - mean) / np.sqrt(variance), scale**2 * out.variance / variance
    )
    return _rectify(normalised)


def _fill_classifier(
    state: Mapping[str, torch.Tensor],
    layer: Layer,
    given: Moments,
    rng: np.random.Generator,
    pooled: int,
) -> None:
    # Averaging ``pooled`` pixels divides the variance; undone here, so that the logits differ by
    # about 1 from image to image. Centred, so that no class wins for every image.
    weight = rng.standard_normal((layer.out_channels, layer.in_channels))
    weight *= math.sqrt(pooled / given.variance.sum())
    bias = rng.normal(0, BIAS_STD, layer.out_channels) - weight @ given.mean
    _write(state, "classifier.weight", weight)
    _write(state, "classifier.bias", bias)


def _convolve(weight: npt.NDArray[np.float64], given: Moments, *, depthwise: bool) -> Moments:
    """Moments of a convolution's output; ``weight`` is (out, in / groups, kh, kw)."""
    taps = weight.sum(axis=(2, 3))
    power = (weight**2).sum(axis=(2, 3))
    if depthwise:
        return Moments(taps[:, 0] * given.mean, power[:, 0] * given.variance)
    return Moments(taps @ given.mean, power @ given.variance)


def _rectify(given: Moments) -> Moments:
    """Moments of max(x, 0) for normally distributed x."""
    mean, std = given.mean, np.sqrt(given.variance)
    density = np.exp(-0.5 * (mean / std) ** 2) / math.sqrt(2 * math.pi)
    below = 0.5 * (1 + _erf(mean / std / math.sqrt(2)))
    first = mean * below + std * density
    second = (mean**2 + std**2) * below + mean * std * density
    return Moments(first, second - first**2)


def _write(state: Mapping[str, torch.Tensor], name: str, value: npt.NDArray[np.float64]) -> None:
    state[name].copy_(torch.from_numpy(value))
