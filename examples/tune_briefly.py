"""Search schedules for a network for a short time, then compile it with the records.

python examples/tune_briefly.py NETWORK.onnx [TIME_BUDGET [TRIALS]]

The budget needs about a second per kernel for the final comparison, plus what the search gets. With
TRIALS the search ends after so many, if there is time for them.
"""

from __future__ import annotations

import sys
from pathlib import Path

import tvm_mobilenet
from tvm_mobilenet import tune


def main(onnx: str, budget: str = "60s", trials: str | None = None) -> None:
    records = f"{Path(onnx).stem}-records"
    limits = ["--time-budget", budget, *([] if trials is None else ["--trials", trials])]
    status = tune.main(["--onnx", onnx, *limits, "--work-dir", records])
    if status:
        sys.exit(status)
    bundle = tvm_mobilenet.compile_bundle(
        f"{Path(onnx).stem}-tuned", onnx=onnx, tuning_records=records
    )
    with tvm_mobilenet.load(bundle) as session:
        tuned = sum(layer.tuned for layer in session.manifest.layers)
        print(f"{bundle}: {tuned} of {len(session.manifest.layers)} layers tuned")


if __name__ == "__main__":
    main(*sys.argv[1:])
