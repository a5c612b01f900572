"""Train a small MobileNet on scikit-learn's handwritten digits, and export it to ONNX.

python examples/digits/train.py [FOLDER [EPOCHS]]

As in the paper (section 3): RMSprop, little augmentation, and no weight decay on depthwise filters.
Half a minute on one core. Writes ``digits.onnx`` and ``digits-test.npz``: the images of the test
set, which the network never saw, their labels, and the classes that PyTorch finds for them. Some of
the images that it was trained on go into ``digits-calibration.npy``, for int8.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

from tvm_mobilenet import models
from tvm_mobilenet.network import onnx_export

CONFIG = models.config_from("mobilenet_v1", alpha=0.25, resolution=32, num_classes=10)
EPOCHS, BATCH = 40, 64
LEARNING_RATE, WEIGHT_DECAY = 0.01, 4e-5
TEST_IMAGES = 360  # a fifth
CALIBRATION_IMAGES = 128
MOST_SHIFT = 2  # pixels of 32, in each direction

Images = NDArray[np.float32]
Labels = NDArray[np.int64]


def read_digits() -> tuple[tuple[Images, Labels], tuple[Images, Labels]]:
    """The images (N, 3, 32, 32), -1 to 1, and labels to train on; then those of the test set."""
    digits = load_digits()
    small = torch.from_numpy(digits.images.astype(np.float32))[:, None] / 16
    large = nn.functional.interpolate(small, size=CONFIG.resolution, mode="bilinear")
    images = np.repeat(large.numpy() * 2 - 1, 3, axis=1)
    split = train_test_split(
        images, digits.target, test_size=TEST_IMAGES, stratify=digits.target, random_state=0
    )
    train, test, train_labels, test_labels = split
    return (train, train_labels), (test, test_labels)


def train(images: Images, labels: Labels, epochs: int) -> nn.Module:
    """The trained network, in eval mode."""
    # channels last and one thread are fastest for layers as small as these
    network: nn.Module = models.network_of(CONFIG)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    initialise(network)
    optimiser = torch.optim.RMSprop(
        groups(network), lr=LEARNING_RATE, alpha=0.9, momentum=0.9, eps=0.1
    )
    steps = -(-len(images) // BATCH)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, epochs * steps)
    x, y = torch.from_numpy(images), torch.from_numpy(labels)
    network.train()
    for epoch in range(epochs):
        total = 0.0
        for batch in torch.split(torch.randperm(len(x)), BATCH):
            shift = torch.randint(-MOST_SHIFT, MOST_SHIFT + 1, (2,)).tolist()
            moved = torch.roll(x[batch], shift, (2, 3)).to(memory_format=torch.channels_last)
            loss = nn.functional.cross_entropy(network(moved), y[batch])
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()
            total += loss.item() * len(batch)
        if epoch % 10 == 9:
            print(f"epoch {epoch + 1} of {epochs}: loss {total / len(x):.4f}", flush=True)
    return network.eval()


def initialise(network: nn.Module) -> None:
    """Weights that keep the variance of what goes through 27 layers, as PyTorch's do not."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)


def groups(network: nn.Module) -> list[dict[str, object]]:
    """The parameters with weight decay, and those without: depthwise filters, norms, biases."""
    decayed: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, parameter in network.named_parameters():
        free = "depthwise" in name or parameter.ndim == 1
        (others if free else decayed).append(parameter)
    return [{"params": decayed, "weight_decay": WEIGHT_DECAY}, {"params": others}]


def main(folder: str = ".", epochs: str = str(EPOCHS)) -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    (images, labels), (test, test_labels) = read_digits()
    network = train(images, labels, int(epochs))
    network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    with torch.inference_mode():
        found = network(torch.from_numpy(test)).argmax(dim=1).numpy()
    onnx_export.export(network, (1, *CONFIG.input_shape), Path(folder, "digits.onnx"))
    arrays = {"images": test, "labels": test_labels, "pytorch": found}
    np.savez(Path(folder, "digits-test.npz"), **arrays)
    np.save(Path(folder, "digits-calibration.npy"), images[:CALIBRATION_IMAGES])
    print(f"PyTorch: {np.mean(found == test_labels):.2%} of {len(test)} test images")


if __name__ == "__main__":
    main(*sys.argv[1:])
