"""The 16 MobileNets agree with PyTorch: at 1 and 2 threads, by way of ONNX.

A run takes a quarter of them, each width and each resolution once; --seed chooses which. The
widest and largest, or the narrowest and smallest, is in every run at batch 4, in turns.

Every variant is exported, compiled and linked into a bundle as ``compile`` does it, with random
weights and batch-norm statistics, and runs on inputs that nobody has seen before.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support.network_kernels import VARIANTS

from tvm_mobilenet.building.bundles import build_bundle
from tvm_mobilenet.compiler.options import CompileOptions
from tvm_mobilenet.hardware import target
from tvm_mobilenet.models import MobileNetConfig
from tvm_mobilenet.network import source
from tvm_mobilenet.numerics import relative_error
from tvm_mobilenet.runtime.session import load

RELATIVE = 1e-4
THREADS = (1, 2)
ENDS = (VARIANTS[0], VARIANTS[-1])
REPEATS = 5  # at 2 threads: a missing wait between kernels does not show every time


def name(value: MobileNetConfig | int) -> str:
    return str(value) if isinstance(value, int) else f"{value.alpha:g}-{value.resolution}"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if metafunc.function is test_agrees_with_pytorch:
        some = one_of_every_row_and_column(metafunc.config.option.seed)
        # of the ends another one when all quarters have been
        end = ENDS[metafunc.config.option.seed // 4 % len(ENDS)]
        cases = [*((config, 1) for config in some), (end, 4)]
        metafunc.parametrize(("config", "batch"), cases, ids=name)


def one_of_every_row_and_column(seed: int) -> list[MobileNetConfig]:
    """Of the table of widths by resolutions: a diagonal, as it wraps around."""
    widths = list(dict.fromkeys(config.alpha for config in VARIANTS))
    resolutions = list(dict.fromkeys(config.resolution for config in VARIANTS))
    count = len(resolutions)
    assert len(VARIANTS) == len(widths) * count
    return [
        config
        for config in VARIANTS
        if (widths.index(config.alpha) + resolutions.index(config.resolution) + seed) % count == 0
    ]


def test_every_variant_is_in_some_run() -> None:
    quarters = [one_of_every_row_and_column(seed) for seed in range(4)]
    assert {config for quarter in quarters for config in quarter} == set(VARIANTS)
    for quarter in quarters:
        assert len({one.alpha for one in quarter}) == len(quarter) == 4
        assert len({one.resolution for one in quarter}) == 4


def test_agrees_with_pytorch(
    config: MobileNetConfig,
    batch: int,
    tmp_path: Path,
    rng: np.random.Generator,
) -> None:
    network = source.from_config(config, batch)
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
