"""The runtimes that ``bench`` can time, each in a process of its own.

Only the standard library is imported here: an engine's module is imported by its own worker.
"""

from __future__ import annotations

import argparse
import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Need = Literal["bundle", "config", "onnx", "tflite"]


@dataclass(frozen=True)
class EngineEntry:
    """Where an engine is, what it loads, and how to get it.

    ``path`` is ``module:class``; ``needs`` names the field of a ``Job`` that it loads;
    ``requires`` is the module that has to be importable, ``install`` the command that brings it.
    """

    path: str
    needs: Need
    requires: str
    install: str

    def missing(self) -> str | None:
        """Why this engine cannot run here, with what to install; None where it can be tried."""
        if importlib.util.find_spec(self.requires) is not None:
            return None
        return f"{self.requires} is not installed: {self.install}"


_PEERS = "pip install 'tvm-mobilenet[bench]'"

ENGINES: dict[str, EngineEntry] = {
    "bundle": EngineEntry(
        "tvm_mobilenet.benchmark.engines.bundle:BundleEngine",
        needs="bundle",
        requires="tvm_ffi",
        install="pip install tvm-mobilenet",
    ),
    "pytorch": EngineEntry(
        "tvm_mobilenet.benchmark.engines.pytorch:PyTorch",
        needs="config",
        requires="torch",
        install="pip install torch",
    ),
    "torch-compile": EngineEntry(
        "tvm_mobilenet.benchmark.engines.pytorch:TorchCompile",
        needs="config",
        requires="torch",
        install="pip install torch",
    ),
    "onnxruntime": EngineEntry(
        "tvm_mobilenet.benchmark.engines.onnxruntime:OnnxRuntime",
        needs="onnx",
        requires="onnxruntime",
        install=_PEERS,
    ),
    "openvino": EngineEntry(
        "tvm_mobilenet.benchmark.engines.openvino:OpenVino",
        needs="onnx",
        requires="openvino",
        install=_PEERS,
    ),
    "litert": EngineEntry(
        "tvm_mobilenet.benchmark.engines.litert:LiteRt",
        needs="tflite",
        requires="litert_torch",
        # no extra of ours: its converter asks for an older typing_extensions than TVM's runtime
        install="pip install ai-edge-litert litert-torch && pip install 'typing-extensions>=4.13'",
    ),
}

OURS = "bundle"
PEERS = tuple(name for name in ENGINES if name != OURS)


def parse_peers(text: str) -> tuple[str, ...]:
    """Engine names as in ``onnxruntime,openvino``, each once; ``none`` for none. For argparse."""
    names = () if text == "none" else tuple(dict.fromkeys(text.split(",")))
    unknown = [name for name in names if name not in PEERS]
    if unknown:
        raise argparse.ArgumentTypeError(
            f"unknown engine {unknown[0]!r}; known: {', '.join(PEERS)}, or none"
        )
    return names


def onnx_worker_file() -> Path:
    """The program that runs ONNX Runtime on another machine; it needs nothing else of ours."""
    return Path(__file__).with_name("onnx_worker.py")
