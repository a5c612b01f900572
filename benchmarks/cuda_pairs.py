"""Which layers of 1.0-224 the model of times fuses on each GPU, and what that is worth, in µs.

    python benchmarks/cuda_pairs.py [--target cuda-sm_90] [--batches 1,8,64]

Nothing is measured here: the times are those of `schedules/cuda/kernel_times.py`, of the depthwise
and 1x1 convolutions without the first layer and the classifier. Each line tells the kernels, `S` a
depthwise convolution with the 1x1 after it, `P` a 1x1 with the depthwise convolution after it, `.`
a layer by itself; then the time, and that of the best choice without any `P`.
"""

from __future__ import annotations

import argparse
import math

from schedules.cuda.device import DEVICES
from schedules.cuda.fusion import Pair, cheapest
from schedules.cuda.kernel_times import KernelTimes
from schedules.cuda.tiles import Tile
from schedules.cuda.workload import Convolution
from schedules.filter_window import Window
from tvm_mobilenet.models import MobileNetConfig, stages

PRECISIONS = ("fp32", "tf32", "fp16")
NO_TF32 = "sm_75"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--target", help="one of them; all where not given")
    parser.add_argument("--batches", default="1,8,64", help="numbers of images")
    args = parser.parse_args()
    for arch in [args.target.removeprefix("cuda-")] if args.target else sorted(DEVICES):
        for precision in PRECISIONS[:: 2 if arch == NO_TF32 else 1]:
            for batch in map(int, args.batches.split(",")):
                print(f"{arch} {precision} batch {batch:>2}: {line(arch, precision, batch)}")


def line(arch: str, precision: str, batch: int) -> str:
    chain = chain_of(MobileNetConfig(), batch)
    time, pairs = cheapest(KernelTimes(DEVICES[arch], precision), chain)
    without, _ = cheapest(WithoutPointwiseDepthwise(DEVICES[arch], precision), chain)
    gain = 100 * (1 - time / without)
    return f"{kernels(pairs, len(chain)):26} {time:8.1f} without P {without:8.1f} ({gain:4.1f} %)"


class WithoutPointwiseDepthwise(KernelTimes):
    """Under which that kernel is never chosen."""

    def pointwise_depthwise(
        self, first: Convolution, second: Convolution
    ) -> tuple[float, Tile | None]:
        return math.inf, None


def kernels(pairs: list[Pair], layers: int) -> str:
    """A letter a kernel."""
    letters = ["."] * layers
    for pair in pairs:
        letters[pair.first : pair.first + 2] = ["P" if pair.tile else "S", ""]
    return "".join(letters)


def chain_of(config: MobileNetConfig, batch: int) -> list[Convolution]:
    """The depthwise and 1x1 convolutions of a network, in order."""
    chain = []
    for layer in stages.trunk_layers(config)[1:]:
        depthwise = layer.op == "depthwise3x3"
        source = (batch, layer.in_size, layer.in_size, layer.in_channels)
        result = (batch, layer.out_size, layer.out_size, layer.out_channels)
        window = Window((layer.kernel,) * 2, (layer.stride,) * 2, (layer.kernel // 2,) * 2)
        chain.append(Convolution(depthwise, source, result, window))
    return chain


if __name__ == "__main__":
    main()
