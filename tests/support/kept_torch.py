"""PyTorch's process, kept from test to test: to start one takes longer than to export a network."""

from __future__ import annotations

import tempfile
import weakref
from collections.abc import Mapping
from typing import Any

import pytest

from tvm_mobilenet import models
from tvm_mobilenet.network import torch_process
from tvm_mobilenet.network.torch_process import Array, Run, TorchNetwork, TorchProcess

MOST_NETWORKS = 48  # it holds them all


class KeptTorch:
    """In the place of ``TorchProcess``: the same process as before, where that is as good as new.

    It is not where it died, or where a test ended before it had taken every answer.
    """

    def __init__(self) -> None:
        self._folder = tempfile.gettempdir()
        self._process: _Counting | None = None
        self._started: weakref.WeakSet[_Counting] = weakref.WeakSet()

    def __call__(self) -> TorchProcess:
        if self._process is None or not self._process.as_new:
            with pytest.MonkeyPatch.context() as patch:
                # not a folder that goes with the test or command
                patch.setattr(tempfile, "tempdir", self._folder)
                patch.setenv("TMPDIR", self._folder)
                patch.setattr(torch_process, "WORKER", "support.torch_exporter")
                self._process = _Counting()
                self._started.add(self._process)
        return self._process

    def close(self) -> None:
        """End every process that has not ended."""
        for one in self._started:
            one.close()


class _Counting(TorchProcess):
    """Knows how many answers it owes."""

    def __init__(self) -> None:
        super().__init__()
        self._owed = self._networks = 0

    @property
    def as_new(self) -> bool:
        return self._owed == 0 and self._networks < MOST_NETWORKS

    def close(self) -> None:
        self._end()

    def open(
        self,
        config: models.Config,
        sample: Array,
        state: Mapping[str, Array] | None = None,
        *,
        export: bool = True,
    ) -> TorchNetwork:
        self._owed += export
        self._networks += 1
        return super().open(config, sample, state, export=export)

    def ask(self, question: Run) -> Any:
        self._owed += 1
        return super().ask(question)

    def receive(self) -> Any:
        answer = super().receive()
        self._owed -= 1  # where nothing came, it stays
        return answer
