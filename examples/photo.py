"""Name what is on a photograph: a checkpoint and its labels in, the five likeliest names out.

python examples/photo.py WEIGHTS LABELS PHOTO [MODEL]

The first run compiles a bundle, others find it. How the photograph is resized and normalised is in
the bundle, as the program does it that the weights are from.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

import tvm_mobilenet
from tvm_mobilenet.runtime import classes, image


def main(weights: str, labels: str, photo: str, model: str = "mobilenet_v2") -> None:
    path, names = Path(f"{Path(weights).stem}-photo"), classes.read_labels(Path(labels))
    if not path.exists():
        tvm_mobilenet.compile_bundle(path, weights=weights, name=model, labels=names)
    with tvm_mobilenet.load(path) as session:
        (takes,), (gives,) = session.manifest.inputs, session.manifest.outputs
        scores = np.asarray(session.run(image.read(Path(photo), takes)))
    for line in classes.top_classes(5, scores, gives.scores, names):
        print(line)


if __name__ == "__main__":
    main(*sys.argv[1:])
