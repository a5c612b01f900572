"""Which layers of 1.0-224 the model of times fuses on each GPU, and what that is worth, in µs.

    python benchmarks/cuda_pairs.py [--target cuda-sm_90] [--batches 1,8,64]

Nothing is measured here: the times are those of ``schedules/cuda/kernel_times.py``, of the
depthwise and 1x1 convolutions without the first layer and the classifier. Each line tells the
kernels, ``S`` a depthwise convolution with the 1x1 after it, ``P`` a 1x1 with the depthwise
convolution after it, ``.`` a layer by itself; then the time, and that of the best choice without
any ``P``.
"""

from __future__ import annotations

import argparse
import math
import sys
from typing import TYPE_CHECKING

from tvm_mobilenet import cli
from tvm_mobilenet.hardware import target
from tvm_mobilenet.models import MobileNetConfig, stages

if TYPE_CHECKING:
    from schedules.cuda.fusion import Pair
    from schedules.cuda.kernel_times import KernelTimes
    from schedules.cuda.workload import Convolution

PRECISIONS = ("fp32", "tf32", "fp16")
NO_TF32 = "sm_75"


def main() -> int:
    parser = cli.make_parser("cuda_pairs", "Which layers of 1.0-224 are one kernel on each GPU.")
    parser.add_argument("--target", help="one of them; all where not given")
    parser.add_argument("--batches", type=cli.thread_counts, default=(1, 8, 64), metavar="N,...")
    return cli.run_command(body, parser.parse_args())


def body(args: argparse.Namespace) -> int:
    known = [name for name in target.known() if name.startswith("cuda-")]
    for arch in [name.removeprefix("cuda-") for name in ([args.target] if args.target else known)]:
        for precision in PRECISIONS[:: 2 if arch == NO_TF32 else 1]:
            for batch in args.batches:
                print(f"{arch} {precision} batch {batch:>2}: {line(arch, precision, batch)}")
    return 0


def line(arch: str, precision: str, batch: int) -> str:
    from schedules.cuda.device import device_of
    from schedules.cuda.fusion import cheapest
    from schedules.cuda.kernel_times import KernelTimes

    chain = chain_of(MobileNetConfig(), batch)
    times = KernelTimes(device_of(target.resolve(f"cuda-{arch}").tvm_target()), precision)
    time, pairs = cheapest(times, chain)
    without, _ = cheapest(without_pointwise_depthwise(times), chain)
    gain = 100 * (1 - time / without)
    return f"{kernels(pairs, len(chain)):26} {time:8.1f} without P {without:8.1f} ({gain:4.1f} %)"


def without_pointwise_depthwise(times: KernelTimes) -> KernelTimes:
    """The same times, under which a 1x1→depthwise kernel is never chosen."""
    from schedules.cuda.kernel_times import KernelTimes

    class Without(KernelTimes):
        def pointwise_depthwise(
            self, first: Convolution, second: Convolution
        ) -> tuple[float, None]:
            return math.inf, None

    return Without(times.device, times.precision)


def kernels(pairs: list[Pair], layers: int) -> str:
    """A letter a kernel."""
    letters = ["."] * layers
    for pair in pairs:
        letters[pair.first : pair.first + 2] = ["P" if pair.tile else "S", ""]
    return "".join(letters)


def chain_of(config: MobileNetConfig, batch: int) -> list[Convolution]:
    """The depthwise and 1x1 convolutions of a network, in order."""
    from schedules.cuda.workload import Convolution
    from schedules.filter_window import Window

    chain = []
    for layer in stages.trunk_layers(config)[1:]:
        depthwise = layer.op == "depthwise3x3"
        source = (batch, layer.in_size, layer.in_size, layer.in_channels)
        result = (batch, layer.out_size, layer.out_size, layer.out_channels)
        window = Window((layer.kernel,) * 2, (layer.stride,) * 2, (layer.kernel // 2,) * 2)
        chain.append(Convolution(depthwise, source, result, window))
    return chain


if __name__ == "__main__":
    sys.exit(main())
