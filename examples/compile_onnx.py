"""Compile a network from an ONNX file, and say which of its layers have a kernel of this project.

python examples/compile_onnx.py NETWORK.onnx [BUNDLE]
"""

from __future__ import annotations

import sys
from pathlib import Path

import tvm_mobilenet


def main(onnx: str, path: str | None = None) -> None:
    bundle = tvm_mobilenet.compile_bundle(path or Path(onnx).stem, onnx=onnx)
    with tvm_mobilenet.load(bundle) as session:
        for layer in session.manifest.layers:
            how = "tuned" if layer.tuned else "default schedule"
            print(f"{layer.name} {layer.workload}: {layer.flops / 1e6:.1f} MFLOP, {how}")
    print(f"{bundle}: ready")


if __name__ == "__main__":
    main(*sys.argv[1:])
