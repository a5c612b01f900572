"""Random weights for any network, as ``random_weights`` draws them for MobileNetV1.

What follows from weights alone in a chain of layers has to be measured where branches join and
gates multiply: the network runs once on random images, and each layer, when its turn comes, gets
weights that suit the input it really has. So no layer dies, activations keep their scale, and what
the network answers depends on the image.

The run is in float64 and its moments are rounded, so one seed gives one network on every machine.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from tvm_mobilenet.models.blocks import Branch, SqueezeExcite
from tvm_mobilenet.models.random_weights import (
    BIAS_STD,
    MEAN_ERROR_STD,
    SCALE_RANGE,
    SHIFT_MEAN,
    SHIFT_STD,
    VARIANCE_ERROR_RANGE,
)
from tvm_mobilenet.models.ssd import Predictor

# As many images as give a channel of the last map, a 32nd of the size, about this many values.
LAST_MAP_VALUES = 96
LEAST_IMAGES = 4
# Of all channels' own: one that is alive in few of these images may be in all of others, and is not
# blown up more than this.
LEAST_STD = 0.5
# Of its own size, for a layer without a norm: what hardly changes from image to image is mostly
# rounding.
LEAST_SPREAD = 0.5
LEAST_GATE_SPREAD = 1.0  # gates need not change: what they multiply does
# What a branch adds to those beside it is small, as in trained networks: else each of many blocks
# would multiply what two ways of rounding differ by.
BRANCH_SCALE = 0.3
# A detector's scores are a softmax: what two ways of rounding differ by in its logits, beyond the
# biases, they differ by relative to themselves, and nothing averages it away before.
PREDICTOR_SCALE = 0.3
# Moments are rounded to a 1024th of their power of two: what processors differ by in float64 is
# lost, but where it crosses the middle between two neighbours.
MANTISSA_STEPS = 1024

Values = npt.NDArray[np.float64]


def fill(network: nn.Module, input_shape: tuple[int, int, int], seed: int) -> None:
    """Overwrite weights, biases and batch norm of ``network`` in place. Leaves it in eval mode.

    ``input_shape`` is (C, H, W) of its images. Its layers with weights are Conv2d, BatchNorm2d and
    Linear.
    """
    rng = np.random.default_rng(seed)
    values = input_shape[1] * input_shape[2] / 32**2
    count = max(LEAST_IMAGES, math.ceil(LAST_MAP_VALUES / values))
    images = torch.from_numpy(rng.standard_normal((count, *input_shape)))
    branch_ends = {_last_norm(one) for one in network.modules() if isinstance(one, Branch)}
    predictors = {
        inner for one in network.modules() if isinstance(one, Predictor) for inner in one.modules()
    }
    gates = {
        inner
        for one in network.modules()
        if isinstance(one, SqueezeExcite)
        for inner in one.modules()
    }

    def fill_module(module: nn.Module, inputs: tuple[torch.Tensor]) -> None:
        if isinstance(module, nn.BatchNorm2d):
            _fill_norm(module, inputs[0], rng, BRANCH_SCALE if module in branch_ends else 1)
        elif isinstance(module, nn.Conv2d | nn.Linear):
            least = LEAST_GATE_SPREAD if module in gates else LEAST_SPREAD
            factor = PREDICTOR_SCALE if module in predictors else 1
            _fill_layer(module, inputs[0], rng, least, factor)

    hooks = [module.register_forward_pre_hook(fill_module) for module in network.modules()]
    with torch.no_grad():
        network.eval().double()(images)
    for hook in hooks:
        hook.remove()
    network.float()


def _last_norm(block: nn.Module) -> nn.Module:
    return [module for module in block.modules() if isinstance(module, nn.BatchNorm2d)][-1]


def _fill_norm(
    norm: nn.BatchNorm2d, x: torch.Tensor, rng: np.random.Generator, factor: float
) -> None:
    # off from what is measured, as statistics of training are
    channels = x.transpose(0, 1).flatten(1).numpy()
    mean, std = channels.mean(axis=1), channels.std(axis=1)
    std = _rounded(np.maximum(std, LEAST_STD * np.sqrt(np.mean(std**2))))
    count = norm.num_features
    _write(norm.weight, factor * rng.uniform(*SCALE_RANGE, count))
    _write(norm.bias, factor * rng.normal(SHIFT_MEAN, SHIFT_STD, count))
    _write(norm.running_mean, _rounded(mean) + std * rng.normal(0, MEAN_ERROR_STD, count))
    _write(norm.running_var, std**2 * rng.uniform(*VARIANCE_ERROR_RANGE, count))


def _fill_layer(
    layer: nn.Conv2d | nn.Linear,
    x: torch.Tensor,
    rng: np.random.Generator,
    least: float,
    factor: float,
) -> None:
    weight = rng.standard_normal(tuple(layer.weight.shape))
    weight *= math.sqrt(2 / np.prod(weight.shape[1:]))
    _write(layer.weight, weight)
    if layer.bias is None:
        return  # a batch norm follows
    # Without one the layer itself brings its outputs to about ``factor``, about a bias that depends
    # on no image: so no gate stays shut, and no class wins for every image.
    layer.bias.zero_()
    channels = layer.forward(x).transpose(0, 1).flatten(1).numpy()
    mean, size = channels.mean(axis=1), np.sqrt(np.mean(channels**2))
    spread = np.sqrt(np.mean(channels.var(axis=1)))
    scale = _rounded(np.maximum(spread, least * size)) / factor
    _write(layer.weight, weight / scale)
    _write(layer.bias, rng.normal(0, BIAS_STD, len(mean)) - _rounded(mean) / scale)


def _rounded(values: Values) -> Values:
    mantissa, exponent = np.frexp(values)
    rounded: Values = np.ldexp(np.round(mantissa * MANTISSA_STEPS) / MANTISSA_STEPS, exponent)
    return rounded


def _write(tensor: torch.Tensor | None, values: Values) -> None:
    assert tensor is not None
    tensor.copy_(torch.from_numpy(values))
