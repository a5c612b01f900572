"""Means that rounding shifts are taken back, and only what samples have in common."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support.float_networks import mobile, samples_of

from tvm_mobilenet.quantization.bias import common_part
from tvm_mobilenet.quantization.collecting import channel_means
from tvm_mobilenet.quantization.prepare import prepare
from tvm_mobilenet.quantization.quantize import How, quantize


def test_it_lowers_the_error_of_a_network_of_uneven_channels(tmp_path: Path) -> None:
    """Channels of sizes over two powers of ten, as those of a trained network, and not centred."""
    plain = corrected = 0.0
    for seed in range(4):
        rng = np.random.default_rng(seed)
        model = mobile(rng, spread=2.0)
        x = rng.exponential(size=(32, 8, 8, 8)).astype(np.float32)
        samples = samples_of(x, tmp_path)
        how = How("minmax", correct_biases=False, equalize=False)
        plain += quantize(model, samples, how).report.agreement.error
        found = quantize(model, samples, How("minmax", equalize=False)).report
        corrected += found.agreement.error
    assert corrected < 0.95 * plain


def test_means_before_activations_are_the_float_networks(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    model = mobile(rng, spread=2.0)
    x = rng.exponential(size=(24, 8, 8, 8)).astype(np.float32)
    samples = samples_of(x, tmp_path)
    batches = list(samples.batches())
    names = ["c0", "c1", "c3", "c4"]
    right = channel_means(prepare(model).to_model(), names, batches)
    off = []
    for correct in (False, True):
        how = How("minmax", correct_biases=correct, equalize=False)
        found = quantize(model, samples, how)
        assert found.report.summary.bias_corrected is correct
        means = channel_means(found.model, names, batches)
        off.append([np.abs(np.mean(means[name] - right[name], axis=0)).sum() for name in names])
    plain, corrected = map(np.array, off)
    assert (corrected < 0.6 * plain).all()


@pytest.mark.parametrize("sign", [1, -1])
def test_what_differs_from_sample_to_sample_stays(sign: int, rng: np.random.Generator) -> None:
    noise = rng.standard_normal(30)
    shifts = np.stack(
        [
            np.full(30, 2.0 * sign),  # all alike
            np.where(np.arange(30) < 3, 40.0 * sign, 0.01 * sign),  # three beyond the range
            noise - np.median(noise) + 0.3 * sign,
        ],
        axis=1,
    )
    alike, beyond, noisy = common_part(shifts)
    assert alike == pytest.approx(2.0 * sign)
    assert abs(beyond) <= 0.01 and abs(noisy) < 0.1
    assert common_part(shifts[:1]) == pytest.approx(shifts[0])
