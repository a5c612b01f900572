"""Compile a built-in network for this machine and run it on a NumPy array.

python examples/compile_and_run.py [BUNDLE]

The weights are random: the time is real, the class is not.
"""

from __future__ import annotations

import sys

import numpy as np

import tvm_mobilenet


def main(path: str = "mobilenet-0.25-128") -> None:
    tvm_mobilenet.compile_bundle(path, alpha=0.25, resolution=128)

    image = np.random.default_rng(0).standard_normal((1, 3, 128, 128), dtype=np.float32)
    with tvm_mobilenet.load(path) as session:
        logits = np.asarray(session.run(image))
    print(f"{path}: logits of shape {logits.shape}, the largest for class {logits.argmax()}")


if __name__ == "__main__":
    main(*sys.argv[1:])
