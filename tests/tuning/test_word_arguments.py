"""Kernels that take sums for small enough are measured with weights whose sums are."""

from __future__ import annotations

import numpy as np
import pytest
from support.kernel_cases import Convolution
from support.odd_kernels import SAME
from support.quantized_cases import QuantizedConvolution

from tvm_mobilenet.scheduling.space import workload_module
from tvm_mobilenet.tuning.workers import case
from tvm_mobilenet.tuning.workers.arguments import arguments_of

PRODUCT = Convolution("conv2d", (64, 32), (3, 5))


def values_of(kernel: QuantizedConvolution) -> list[np.ndarray]:
    return case.random_values(arguments_of(workload_module(kernel.func())), seed=1)


@pytest.mark.parametrize(("together", "most"), [(2, 63), (4, 31)])
def test_weights_fit_together(together: int, most: int) -> None:
    kernel = QuantizedConvolution(PRODUCT, dtype="int8", depth=16, together=together)
    _, weight, *_ = values_of(kernel)
    assert np.abs(weight.astype(int)).max() == most


def test_a_table_has_every_step_and_joins_none() -> None:
    kernel = QuantizedConvolution(PRODUCT, dtype="int8", depth=16, together=2, table=True)
    _, weight, table, *_ = values_of(kernel)
    assert weight.min() == -128 and table.shape == (2, 4, 6)
    assert (table == [0, 1, 2, 3, 0, 0]).all()


def test_taps_of_any_weights() -> None:
    taps = Convolution("depthwise", (16, 16), (4, 4), kernel=(3, 3), padding=SAME)
    _, weight, *_ = values_of(QuantizedConvolution(taps, dtype="int8", depth=16))
    assert weight.min() < -100
