"""What arithmetic expects of kernels by AMX's tiles, and beside it what a profile measured.

    python benchmarks/amx_cycles.py [--precision int8] [--profile FILE] [--json FILE]

Without a profile: MobileNetV1 1.0-224's 1x1 layers, as docs/amx.md has them. Expected are cycles of
one thread on a core of its own, of four kinds that overlap, so that the largest counts: products;
the loads of their tiles, weights from the second-level cache for a band's first block of pixels
and from the first-level one for the others (schedules/x86/tiles_conv2d.py); what is made of the
sums, beside products at one float vector a cycle; and the weights, which come from the last level
cache. The costs were measured on an Emerald Rapids core. FILE is of ``bench --profile``.
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
L1_BYTES = 48 * 1024
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
# µs of hand-written kernels in int8 on that core, in this order, weights out of its caches
BY_HAND_US = (96, 41, 64, 25, 43, 29, 47, 47, 107)


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
    """Of a layer. ``loads`` are those of tiles, a step's products or loads whichever is longer."""

    products: float
    loads: float
    epilogue: float
    weights: float

    @property
    def expected(self) -> float:
        return max(self.loads, self.epilogue, self.weights)


def cycles_of(layer: Product) -> Cycles:
    """By the schedule's own block and bands, for one thread."""
    from schedules.cpu.sharing import even_bands
    from schedules.x86 import pixel_tiles as costs
    from schedules.x86.tile_products import LANES, ROWS
    from schedules.x86.tiles_conv2d import BAND_BYTES, block_of

    size = CHANNEL_BYTES[layer.precision]
    depth = costs.depth_of(layer.channels_in, size)
    steps = layer.taps * depth.steps
    kept = steps <= costs.KEPT_STEPS
    tiles = costs.pixel_tiles(layer.height, layer.width, steps)
    down, across = tiles.counts
    vectors = -(-layer.channels_out // LANES)
    above, beside, together = block_of(down, across, vectors, steps if kept else 0)
    row_bytes = above * across * tiles.pixels * steps * depth.channels * size
    bands = even_bands(down // above, row_bytes, BAND_BYTES)
    panels = vectors // together
    blocks = down // above * across // beside  # of each panel, in all bands

    products = above * beside * together * costs.cycles_of(tiles.pixels)
    pixels = above * beside * costs.PIXELS_LOAD
    first = pixels + together * costs.WEIGHTS_LOAD
    panel_bytes = steps * together * LANES * depth.channels * size
    stays = panel_bytes + down // above // bands * row_bytes <= L1_BYTES
    again = pixels + together * costs.PIXELS_LOAD if stays else first
    if kept:  # in registers, for a band
        first = again = pixels
    steps_of_first = panels * steps * bands
    steps_of_others = panels * steps * (blocks - bands)
    return Cycles(
        products=panels * steps * blocks * products,
        loads=steps_of_first * max(products, first) + steps_of_others * max(products, again),
        epilogue=down
        * across
        * tiles.pixels
        * vectors
        * (EPILOGUE[layer.precision] + STORE / ROWS),
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
    """1.0-224's layers as Markdown: thousands of cycles, and µs.

    In int8 those of the hand-written kernels, and of VNNI at best.
    """
    vnni = precision == "int8"
    header = ["layer", "times", "products", "with loads", "epilogue", "weights", "expected, µs"]
    header += ["by hand, µs", "VNNI's floor, µs"] if vnni else []
    lines = [header, [":--", *["--:"] * (len(header) - 1)]]
    sums = [0.0, 0.0, 0.0]
    for (side, channels_in, channels_out, count), by_hand in zip(LAYERS, BY_HAND_US, strict=True):
        layer = Product(precision, side, side, channels_in, channels_out)
        found = cycles_of(layer)
        parts = (found.products, found.loads, found.epilogue, found.weights)
        floor = 2 * layer.multiply_adds / VNNI_OPERATIONS / CLOCK_MHZ
        expected = found.expected / CLOCK_MHZ
        times = (expected, by_hand, floor) if vnni else (expected,)
        cells = [layer.title, str(count), *(f"{one / 1e3:.0f}" for one in parts)]
        lines.append([*cells, *(f"{one:.0f}" for one in times)])
        sums = [total + count * one for total, one in zip(sums, times, strict=False)]
    last = ["all", "13", "", "", "", "", *(f"{one:.0f}" for one in sums)]
    return [f"| {' | '.join(line)} |" for line in [*lines, last]]


if __name__ == "__main__":
    sys.exit(main())
