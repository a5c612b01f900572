"""What torchvision's and timm's networks are, in a few numbers each: the golden networks.json.

Neither library is needed to test against the file. To write it anew, with both installed:

    python tests/support/reference_networks.py
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

GOLDEN = Path(__file__).parent.parent / "golden" / "networks.json"

TORCHVISION = (
    "mobilenet_v2",
    "mobilenet_v3_large",
    "mobilenet_v3_small",
    "mnasnet1_0",
    "shufflenet_v2_x1_0",
    "resnet18",
)
TIMM = (
    "mobilenetv4_conv_small",
    "efficientnet_b0",
    *[f"efficientnet_lite{number}" for number in range(5)],
    "mobileone_s0",
    "lcnet_100",
)
SIZE = 64  # of the image that goes through
LOGITS = 4  # kept of each network, spread over the classes


def describe(network: nn.Module) -> dict[str, Any]:
    """Its state dict's names and shapes, its batch norms' constants, and what it computes."""
    state = network.state_dict()
    entries = "".join(f"{name} {list(value.shape)}\n" for name, value in state.items())
    norms = {
        (module.eps, round(module.momentum or 0, 6))
        for module in network.modules()
        if isinstance(module, nn.BatchNorm2d)
    }
    fill(state)
    with torch.inference_mode():
        logits = network.eval()(image())[0]
    return {
        "entries": len(state),
        "sha256": hashlib.sha256(entries.encode()).hexdigest(),
        "norms": sorted(map(list, norms)),
        "std": float(logits.std()),
        "logits": logits[:: len(logits) // LOGITS].tolist(),
    }


def fill(state: dict[str, torch.Tensor]) -> None:
    """Weights that follow from their order alone, and keep activations at their scale."""
    rng = np.random.default_rng(0)
    for name, tensor in state.items():
        shape = tuple(tensor.shape)
        if name.endswith("num_batches_tracked"):
            continue
        if name.endswith("running_var"):
            values = rng.uniform(0.8, 1.2, shape)
        elif len(shape) > 1:
            values = rng.standard_normal(shape) * np.sqrt(1 / np.prod(shape[1:]))
        elif name.endswith("weight"):
            values = rng.uniform(0.7, 1.0, shape)
        else:  # biases, and means of batch norms
            values = rng.normal(0, 0.2, shape)
        tensor.copy_(torch.from_numpy(values))


def image() -> torch.Tensor:
    """(1, 3, SIZE, SIZE), always the same."""
    values = np.random.default_rng(1).standard_normal((1, 3, SIZE, SIZE), dtype=np.float32)
    return torch.from_numpy(values)


def main() -> None:
    import timm
    import torchvision

    theirs = {
        f"torchvision {torchvision.__version__}": {
            name: getattr(torchvision.models, name)() for name in TORCHVISION
        },
        f"timm {timm.__version__}": {name: timm.create_model(name) for name in TIMM},
    }
    golden = {
        name: {"library": library, **describe(network)}
        for library, networks in theirs.items()
        for name, network in networks.items()
    }
    GOLDEN.write_text(json.dumps(golden, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
