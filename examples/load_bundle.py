"""Load a bundle with the public API and run it, with and without copies.

python examples/load_bundle.py BUNDLE [THREADS]

Needs numpy and TVM's runtime only: no compiler, PyTorch or ONNX.
"""

from __future__ import annotations

import sys
import time

import numpy as np

import tvm_mobilenet

RUNS = 20


def main(path: str, threads: str = "1") -> None:
    with tvm_mobilenet.load(path, threads=int(threads)) as session:
        (tensor,) = session.manifest.inputs
        x = np.zeros(tensor.shape, tensor.dtype)

        y = session.run(x)  # copies x in, and a new array out

        session.input[:] = x  # or let the compiled code read what you write here ...
        times = []
        for _ in range(RUNS):
            begin = time.perf_counter()
            session.infer_in_place()
            times.append(time.perf_counter() - begin)
        assert np.array_equal(session.output, y)  # ... and leave its result there
    print(f"{path}: {np.median(times) * 1e3:.3f} ms, median of {RUNS} runs on {threads} thread(s)")


if __name__ == "__main__":
    main(*sys.argv[1:])
