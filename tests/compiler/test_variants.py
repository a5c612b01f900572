"""The 16 MobileNets agree with PyTorch: at 1 and 2 threads, by way of ONNX.

A run takes half of them, each width and each resolution twice; --seed chooses which half. The
widest and largest, and the narrowest and smallest, are in every run, at batch 4.

Every variant is exported, compiled and linked into a bundle as ``compile`` does it, with random
weights and batch-norm statistics, and runs on inputs that nobody has seen before.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from support.network_kernels import VARIANTS

from tvm_mobilenet.building.bundles import build_bundle
from tvm_mobilenet.compiler.options import CompileOptions
from tvm_mobilenet.hardware import target
from tvm_mobilenet.models import MobileNetConfig
from tvm_mobilenet.network import source
from tvm_mobilenet.network.torch_process import TorchProcess
from tvm_mobilenet.numerics import relative_error
from tvm_mobilenet.runtime.session import load

RELATIVE = 1e-4
THREADS = (1, 2)
ENDS = (VARIANTS[0], VARIANTS[-1])
REPEATS = 5  # at 2 threads: a missing wait between kernels does not show every time


def name(value: MobileNetConfig | int) -> str:
    return str(value) if isinstance(value, int) else f"{value.alpha:g}-{value.resolution}"


@pytest.fixture(scope="module")
def pytorch() -> TorchProcess:
    """One for all: importing PyTorch and the first export take longer than compiling."""
    return TorchProcess()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if metafunc.function is test_agrees_with_pytorch:
        half = two_of_every_row_and_column(metafunc.config.option.seed)
        cases = [*((config, 1) for config in half), *((config, 4) for config in ENDS)]
        metafunc.parametrize(("config", "batch"), cases, ids=name)


def two_of_every_row_and_column(seed: int) -> list[MobileNetConfig]:
    """Of the table of widths by resolutions: two diagonals, as they wrap around."""
    widths = list(dict.fromkeys(config.alpha for config in VARIANTS))
    resolutions = list(dict.fromkeys(config.resolution for config in VARIANTS))
    count = len(resolutions)
    assert len(VARIANTS) == len(widths) * count
    return [
        config
        for config in VARIANTS
        if (widths.index(config.alpha) + resolutions.index(config.resolution) + seed) % count < 2
    ]


def test_every_variant_is_in_some_run() -> None:
    halves = [two_of_every_row_and_column(seed) for seed in range(4)]
    assert {config for half in halves for config in half} == set(VARIANTS)
    for half in halves:
        assert sorted(Counter(one.alpha for one in half).values()) == [2, 2, 2, 2]
        assert sorted(Counter(one.resolution for one in half).values()) == [2, 2, 2, 2]


def test_agrees_with_pytorch(
    config: MobileNetConfig,
    batch: int,
    pytorch: TorchProcess,
    tmp_path: Path,
    rng: np.random.Generator,
) -> None:
    network = source.from_config(config, batch, pytorch)
    built = build_bundle(network, CompileOptions(target.resolve("x86")), tmp_path / "bundle")
    assert built.difference is not None, "it ran here"
    assert built.difference.relative <= RELATIVE
    x = rng.standard_normal(network.image.shape, dtype=np.float32)
    (wanted,) = network.reference(x)
    results = []
    for threads in THREADS:
        with load(built.path, threads) as session:
            results += [session.run(x) for _ in range(REPEATS if threads > 1 else 1)]
    for result in results:
        assert isinstance(result, np.ndarray)
        assert relative_error(result, wanted) <= RELATIVE
        # how the work is shared out does not change a sum
        np.testing.assert_array_equal(result, results[0])
