"""Exports that are kept: found again, never taken for others, rebuilt where damaged."""

from __future__ import annotations

import importlib.metadata
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tvm_mobilenet.models import MobileNetConfig
from tvm_mobilenet.network import export_cache, source

SHAPE = (1, 3, 32, 32)


@pytest.fixture(autouse=True)
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_what_is_kept_is_found(small_config: MobileNetConfig) -> None:
    assert export_cache.read(small_config, SHAPE) is None
    export_cache.keep(small_config, SHAPE, b"a model")
    assert export_cache.read(small_config, SHAPE) == b"a model"


def test_another_network_is_another_entry(small_config: MobileNetConfig) -> None:
    export_cache.keep(small_config, SHAPE, b"a model")
    others = [replace(small_config, seed=small_config.seed + 1), replace(small_config, alpha=0.5)]
    assert [export_cache.read(other, SHAPE) for other in others] == [None, None]
    assert export_cache.read(small_config, (2, *SHAPE[1:])) is None


def test_other_weights_are_another_entry(small_config: MobileNetConfig) -> None:
    weights = {"trunk.stem.conv.weight": np.ones((8, 3, 3, 3), np.float32)}
    others: list[dict[str, Any]] = [
        {name: array + np.float32(1e-7) for name, array in weights.items()},
        {name: array.reshape(24, 3, 3, 1) for name, array in weights.items()},
        {f"{name}s": array for name, array in weights.items()},
    ]
    export_cache.keep(small_config, SHAPE, b"a model", weights)
    assert export_cache.read(small_config, SHAPE, weights) == b"a model"
    assert export_cache.read(small_config, SHAPE) is None
    assert [export_cache.read(small_config, SHAPE, other) for other in others] == [None] * 3


def test_another_exporter_is_another_entry(
    small_config: MobileNetConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    export_cache.keep(small_config, SHAPE, b"a model")
    monkeypatch.setattr(importlib.metadata, "version", lambda name: f"{name} 99")
    assert export_cache.read(small_config, SHAPE) is None


def test_a_damaged_entry_is_exported_again(small_config: MobileNetConfig) -> None:
    first = source.from_config(small_config).onnx.SerializeToString()
    (entry,) = export_cache.folder().iterdir()
    content = entry.read_bytes()
    entry.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert export_cache.read(small_config, SHAPE) is None
    assert source.from_config(small_config).onnx.SerializeToString() == first
    assert entry.read_bytes() == content


def test_a_kept_export_is_the_same_network(small_config: MobileNetConfig) -> None:
    fresh, kept = (source.from_config(small_config) for _ in range(2))
    assert kept.onnx == fresh.onnx
    x = fresh.sample_inputs()
    for a, b in zip(fresh.reference(*x), kept.reference(*x), strict=True):
        assert (a == b).all()


def test_what_was_not_asked_for_longest_goes(small_config: MobileNetConfig) -> None:
    for seed in range(export_cache.MOST + 3):
        export_cache.keep(replace(small_config, seed=seed), SHAPE, b"a model")
    assert len(list(export_cache.folder().iterdir())) == export_cache.MOST
    assert export_cache.read(replace(small_config, seed=0), SHAPE) is None


def test_a_folder_that_cannot_be_written_keeps_nothing(
    small_config: MobileNetConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    export_cache.keep(small_config, SHAPE, b"a model")
    assert export_cache.read(small_config, SHAPE) is None


def test_a_user_without_a_home_keeps_nothing(
    small_config: MobileNetConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a container that runs for a number that no user has."""

    def home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", home)
    export_cache.keep(small_config, SHAPE, b"a model")
    assert export_cache.read(small_config, SHAPE) is None
