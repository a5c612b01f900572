"""What arithmetic expects of kernels by AMX's tiles, and beside it what a profile measured.

    python benchmarks/amx_cycles.py [--precision int8] [--profile FILE] [--json FILE]

Without a profile: MobileNetV1 1.0-224's 1x1 layers, as docs/amx.md has them. Expected are cycles of
one thread on a core of its own, of four kinds that overlap, so that the largest counts: products
and the loads of their tiles (schedules/x86/pixel_tiles.py); what is made of the sums, beside
products at one float vector a cycle; and the weights, which come from the last level cache. The
costs are those of hand-written kernels on an Emerald Rapids core. FILE is of ``bench --profile``.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tvm_mobilenet import cli, provenance
from tvm_mobilenet.errors import BadInput

if TYPE_CHECKING:
    from tvm_mobilenet.results.profiles import Profiles

Precision = Literal["int8", "bf16"]
CHANNEL_BYTES: dict[Precision, int] = {"int8": 1, "bf16": 2}
# Cycles of float units for each vector of sums, by the network's assembly: of int8 to a float,
# scale and bias, to an integer; of bf16 bias, and half of what rounds two vectors, which takes two
# cycles. Bounds and packing are of integers, which run beside products.
EPILOGUE: dict[Precision, int] = {"int8": 3, "bf16": 2}
STORE = 16  # cycles of a tile of 16 rows
L3_BYTES = 9.4  # a cycle
CLOCK_MHZ = 2450  # where no profile tells: of that core, with vectors of 512 bits
VNNI_OPERATIONS = 256  # a cycle, two for a product
MATRIX = re.compile(r"(quantized|bf16)_tiles_(?:pointwise_)?conv2d_(\d+)x(\d+)x(\d+)_(\d+)")
PRECISIONS: dict[str, Precision] = {"quantized": "int8", "bf16": "bf16"}
# side of the image, input and output channels, how often
LAYERS = (
    (112, 32, 64, 1),
    (56, 64, 128, 1),
    (56, 128, 128, 1),
    (28, 128, 256, 1),
    (28, 256, 256, 1),
    (14, 256, 512, 1),
    (14, 512, 512, 5),
    (7, 512, 1024, 1),
    (7, 1024, 1024, 1),
)


@dataclass(frozen=True)
class Product:
    """A convolution by tiles: ``taps`` of its filter, 1 for a 1x1."""

    precision: Precision
    height: int
    width: int
    channels_in: int
    channels_out: int
    taps: int = 1

    @property
    def title(self) -> str:
        return f"{self.height}x{self.width}x{self.channels_in} to {self.channels_out}"

    @property
    def multiply_adds(self) -> int:
        return self.height * self.width * self.channels_in * self.channels_out * self.taps


@dataclass(frozen=True)
class Cycles:
    """Of a layer. ``loaded`` are the products with the loads of their tiles."""

    products: float
    loaded: float
    epilogue: float
    weights: float

    @property
    def expected(self) -> float:
        return max(self.loaded, self.epilogue, self.weights)


def cycles_of(layer: Product) -> Cycles:
    from schedules.x86.pixel_tiles import BLOCK_WEIGHTS, KEPT_STEPS, depth_of, pixel_tiles
    from schedules.x86.tile_products import LANES, ROWS

    size = CHANNEL_BYTES[layer.precision]
    steps = layer.taps * depth_of(layer.channels_in, size).steps
    tiles = pixel_tiles(layer.height, layer.width, steps)
    loaded, products = tiles.cycles(kept=steps <= KEPT_STEPS)
    vectors = layer.channels_out / LANES
    times = steps * vectors / BLOCK_WEIGHTS
    down, across = tiles.counts
    rows = down * across * tiles.pixels * vectors  # of tiles of sums, a vector each
    return Cycles(
        products=times * products,
        loaded=times * loaded,
        epilogue=rows * (EPILOGUE[layer.precision] + STORE / ROWS),
        weights=layer.channels_in * layer.channels_out * layer.taps * size / L3_BYTES,
    )


def main() -> int:
    parser = cli.make_parser("amx_cycles", "Expected cycles of kernels by AMX's tiles.")
    what = "of 1.0-224's layers (default: %(default)s)"
    parser.add_argument("--precision", choices=("int8", "bf16"), default="int8", help=what)
    what = "of `bench --profile --json`: its layers by tiles, and what they took"
    parser.add_argument("--profile", type=Path, metavar="FILE", help=what)
    parser.add_argument("--json", type=cli.new_file, metavar="FILE", help="write the layers here")
    return cli.run_command(report, parser.parse_args())


def report(args: argparse.Namespace) -> int:
    if args.profile is None:
        print("\n".join(table(args.precision)))
        if args.json:
            raise BadInput("--json is for what was measured: add --profile FILE")
        return 0
    from tvm_mobilenet.results import inputs

    ((_, file),) = inputs.load([args.profile]).profiles or ((None, None),)
    if file is None:
        raise BadInput(f"{args.profile}: expected a file of `bench --profile --json`")
    clock_mhz = clock_of(file)
    found = list(measured(file, clock_mhz))
    if not found:
        raise BadInput(f"{args.profile}: no layer is by AMX's tiles; compile for a target with AMX")
    print("\n".join(beside(found, clock_mhz)))
    if args.json:
        rows = [asdict(one) for one in found]
        what = "µs of each layer by AMX's tiles, and what arithmetic expected"
        provenance.write_results(args.json, {"what": what, "clock_mhz": clock_mhz, "layers": rows})
    return 0


@dataclass(frozen=True)
class Measured:
    """A layer on one thread, in µs."""

    name: str
    kernel: str
    expected_us: float
    us: float


def clock_of(file: Profiles) -> int:
    """As it was measured with vectors at the profile's start."""
    facts = file.machine.facts
    return CLOCK_MHZ if facts is None or not facts.vector_clock_mhz else facts.vector_clock_mhz


def measured(file: Profiles, clock_mhz: int) -> Iterator[Measured]:
    """The layers by tiles of the profile of one thread."""
    for one in file.profiles:
        if one.threads != 1:
            continue
        for layer in one.layers:
            match = MATRIX.match(layer.workload)
            if match is None:
                continue
            width, height, channels_in, channels_out = map(int, match.groups()[1:])
            plain = Product(PRECISIONS[match[1]], height, width, channels_in, channels_out)
            taps = max(1, round(layer.flops / 2 / plain.multiply_adds))
            known = Product(plain.precision, height, width, channels_in, channels_out, taps)
            expected = cycles_of(known).expected / clock_mhz
            yield Measured(layer.name, layer.workload, expected, layer.ms * 1e3)


def beside(found: Sequence[Measured], clock_mhz: int) -> list[str]:
    width = max(len(one.kernel) for one in found)
    lines = [f"{'µs of each layer by tiles':{width + 3}} expected   took   times"]
    for one in found:
        times = one.us / one.expected_us
        lines.append(
            f"{one.name} {one.kernel:{width}} {one.expected_us:8.1f} {one.us:6.1f}   {times:5.2f}"
        )
    sums = sum(one.expected_us for one in found), sum(one.us for one in found)
    return [
        *lines,
        f"in all {sums[0]:.0f} µs expected at {clock_mhz} MHz, {sums[1]:.0f} µs taken: "
        f"{sums[1] / sums[0]:.2f} times",
    ]


def table(precision: Precision) -> list[str]:
    """1.0-224's layers as Markdown: thousands of cycles, and µs; in int8 those of VNNI at best."""
    vnni = precision == "int8"
    header = ["layer", "times", "products", "with loads", "epilogue", "weights", "expected, µs"]
    header += ["VNNI's floor, µs"] if vnni else []
    lines = [header, [":--", *["--:"] * (len(header) - 1)]]
    sums = [0.0, 0.0]
    for side, channels_in, channels_out, count in LAYERS:
        layer = Product(precision, side, side, channels_in, channels_out)
        found = cycles_of(layer)
        parts = (found.products, found.loaded, found.epilogue, found.weights)
        floor = 2 * layer.multiply_adds / VNNI_OPERATIONS / CLOCK_MHZ
        expected = found.expected / CLOCK_MHZ
        cells = [layer.title, str(count), *(f"{one / 1e3:.0f}" for one in parts)]
        lines.append([*cells, f"{expected:.0f}", *([f"{floor:.0f}"] if vnni else [])])
        sums = [sums[0] + count * expected, sums[1] + count * floor]
    last = ["all", "13", "", "", "", "", f"{sums[0]:.0f}", *([f"{sums[1]:.0f}"] if vnni else [])]
    return [f"| {' | '.join(line)} |" for line in [*lines, last]]


if __name__ == "__main__":
    sys.exit(main())
