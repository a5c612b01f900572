"""Compile the trained digits network and run the bundle on the whole test set.

python examples/digits/evaluate.py [FOLDER] [TARGET] [PRECISION]

Needs what ``train.py`` wrote there. The bundle's classes have to be PyTorch's, and its manifest
then says how accurate it is, which ``bench`` puts beside its latency. With the precision ``int8``
the network is quantized first, with ``bf16`` rounded, and may see a digit another way.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

import tvm_mobilenet
from tvm_mobilenet import bundle
from tvm_mobilenet.models.normalisation import SYMMETRIC
from tvm_mobilenet.quantization.calibration import Calibration

LABELS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def main(folder: str = ".", target: str = "x86", precision: str = "fp32") -> None:
    with np.load(Path(folder, "digits-test.npz")) as file:
        images, labels, pytorch = (file[name] for name in ("images", "labels", "pytorch"))
    int8 = precision == "int8"
    calibration = Calibration(Path(folder, "digits-calibration.npy")) if int8 else None
    path = tvm_mobilenet.compile_bundle(
        Path(folder, "digits" if precision == "fp32" else f"digits-{precision}"),
        onnx=Path(folder, "digits.onnx"),
        target=target,
        normalisation=SYMMETRIC,
        labels=LABELS,
        calibration=calibration,
        precision=precision,
    )
    with tvm_mobilenet.load(path) as session:
        logits = [np.asarray(session.run(image[np.newaxis])) for image in images]
    found = np.concatenate(logits).argmax(axis=1)
    different = int(np.count_nonzero(found != pytorch))
    accuracy = bundle.Accuracy(
        int(np.count_nonzero(found == labels)), len(labels), "scikit-learn's digits, test set"
    )
    bundle.record_accuracy(path, accuracy)
    print(f"{path}: {accuracy}; {different} classes other than PyTorch's")


if __name__ == "__main__":
    main(*sys.argv[1:])
