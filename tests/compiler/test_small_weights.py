"""Bundles that hold each weight once: how many bytes that is, and that the numbers are right."""

from __future__ import annotations

import numpy as np
import pytest
from support.static_programs import compiled, execute, expected, relax_of, seeded
from torch import nn

from tvm_mobilenet.compiler.options import CompileOptions
from tvm_mobilenet.errors import BadInput
from tvm_mobilenet.hardware import target

IMAGE, CLASSES = (1, 3, 16, 16), 90
ALIGNMENT = 64  # bytes, of each kernel's weights and biases


def network() -> nn.Module:
    """With a product for Strassen's algorithm, a 3x3 convolution for Winograd's, a classifier."""
    return seeded(
        nn.Sequential(
            nn.Conv2d(3, 128, 3, 2, 1),
            nn.Conv2d(128, 128, 3, 1, 1, groups=128),
            nn.Conv2d(128, 128, 1),
            nn.Conv2d(128, 32, 3, 1, 1),
            *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, CLASSES)),
        )
    )


@pytest.mark.isa("avx2")
def test_each_weight_is_stored_once(rng: np.random.Generator) -> None:
    module = network()
    mod = relax_of(module, IMAGE)
    large, small = compiled(mod), compiled(mod, small_weights=True)
    names = {call.kernel.partition("_")[0] for call in large.calls}
    assert {"strassen", "winograd"} <= names
    assert not {"strassen", "winograd"} & {call.kernel.partition("_")[0] for call in small.calls}
    numbers = sum(one.numel() for one in module.parameters())
    # the classifier's last vector is not full, and everything begins at a cache line
    filled = -CLASSES % 16 * 33 * 4 + ALIGNMENT * 2 * len(small.calls)
    assert numbers * 4 <= len(small.parameters) <= numbers * 4 + filled < len(large.parameters)
    x = rng.standard_normal(IMAGE, dtype=np.float32)
    (right,) = expected(module, x)
    (got,) = execute(small, x, [right.shape])
    np.testing.assert_allclose(got, right, rtol=1e-4, atol=1e-4 * float(np.abs(right).max()))


def test_a_gpu_stores_each_once_in_any_case() -> None:
    with pytest.raises(BadInput, match="leave out --small-weights"):
        CompileOptions(target.resolve("cuda-sm_90"), small_weights=True)
