"""Which layers of a network wait for a board's memory, on paper.

    python benchmarks/roofline.py [--target arm-rpi4 ...] [--json FILE]

Of every layer of MobileNetV1 1.0-224: what four threads need at least for its multiplications, and
for the bytes that come from memory or go there. Weights come from memory at each inference, there
being more of them than any cache holds. A tensor does where it is larger than half of the cache
that the cores share: what one layer writes the next one then reads from there again. The layers are
those of the target with fused blocks, and without: a fused block's middle tensor is in no memory.

Widths, clocks and counts of cores are those of targets/*.toml; what the memory gives was measured
by others, on the boards (BOARDS). No board has been measured for this.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tvm_mobilenet import cli, tvm_runtime
from tvm_mobilenet.errors import BadInput

if TYPE_CHECKING:
    import tvm

    from tvm_mobilenet.compiler.precision import Precision
    from tvm_mobilenet.hardware.target import TargetSpec

FUSED = "separable_conv2d"


@dataclass(frozen=True)
class Board:
    """The cache that all cores share, what memory gives them together, and who measured that."""

    shared_cache_bytes: int
    memory_gb_s: float
    source: str


BOARDS = {
    # the four kernels of STREAM reach 4.8 to 5.6; tinymembench copies 2.78 GB/s, which is 5.6 in
    # both directions (github.com/geerlingguy/sbc-reviews, issue 110)
    "arm-rpi4": Board(2**20, 5.5, "www.sci-pi.org.uk/bench/stream.html"),
    # tinymembench copies 5.56 to 6.16 GB/s (boards of 8 and of 4 GB), twice that in both directions
    "arm-rpi5": Board(2 * 2**20, 11.1, "github.com/raspberrypi/firmware, issue 1876"),
}
PRECISIONS: dict[str, tuple[Precision, ...]] = {
    "arm-rpi4": ("fp32", "int8"),
    "arm-rpi5": ("fp32", "fp16", "int8"),
}
# products of an instruction, where the core starts ``fmas`` a cycle: ``sdot``; ``smull`` and
# ``smlal``, whose ``sadalp`` has a pipeline of its own; ``smlal`` of 16 bits in the first layer
DOT_PRODUCTS, PRODUCTS, WIDE_PRODUCTS = 16, 8, 4


@dataclass(frozen=True)
class LayerFloor:
    """Microseconds that a layer takes at least, on all cores; megabytes from memory and to it."""

    name: str
    arithmetic_us: float
    memory_us: float
    megabytes: float


def main() -> int:
    parser = cli.make_parser("roofline", "Which layers wait for a board's memory, on paper.")
    what = f"of {', '.join(BOARDS)} (default: all)"
    parser.add_argument("--target", action="append", metavar="T", help=what)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write it here")
    return cli.run_command(report, parser.parse_args())


def report(args: argparse.Namespace) -> int:
    from tvm_mobilenet.files import write_text

    tvm_runtime.compiler()
    document = make(args.target or list(BOARDS))
    text = json.dumps(document, indent=1) + "\n"
    if args.json is None:
        print(text, end="")
    else:
        write_text(args.json, text)
        print(f"wrote {args.json}")
    return 0


def make(targets: Sequence[str]) -> dict[str, Any]:
    """The whole study, as it is stored. Raises BadInput for a board that nobody measured."""
    from tvm_mobilenet.hardware import target

    for name in targets:
        if name not in BOARDS:
            raise BadInput(f"--target {name}: expected one of {', '.join(BOARDS)}")
    modules = {in_int8: module_of(in_int8=in_int8) for in_int8 in (False, True)}
    boards = []
    for name in targets:
        spec, board = target.resolve(name), BOARDS[name]
        for precision in PRECISIONS[name]:
            module = modules[precision == "int8"]
            # a quantized network says by itself what is in int8
            compiled: Precision = "fp32" if precision == "int8" else precision
            fused, apart = (
                layer_floors(module, spec, board, compiled, fused=fused) for fused in (True, False)
            )
            boards.append(
                {
                    "target": name,
                    "precision": precision,
                    **asdict(board),
                    "layers": [asdict(one) for one in fused],
                    "unfused": [asdict(one) for one in apart],
                }
            )
    return {"network": "mobilenet_v1 1.0-224", "boards": boards}


def module_of(*, in_int8: bool) -> tvm.IRModule:
    """MobileNetV1 1.0-224, in int8 with random weights and samples."""
    import tempfile

    from tvm_mobilenet.benchmark import cases
    from tvm_mobilenet.models import config_from
    from tvm_mobilenet.network import source

    config = config_from("mobilenet_v1")
    if not in_int8:
        return source.from_config(config).relax_module()
    with tempfile.TemporaryDirectory(prefix="tvm-mobilenet-") as scratch:
        made = cases.quantized(config, 1, (), Path(scratch), "int8")
        assert made.onnx is not None
        return source.from_onnx(made.onnx).relax_module()


def layer_floors(
    module: tvm.IRModule, spec: TargetSpec, board: Board, precision: Precision, *, fused: bool
) -> list[LayerFloor]:
    """Of each call of a kernel, in order."""
    from tvm_mobilenet.compiler import pipeline
    from tvm_mobilenet.compiler.cpu.backends import StaticBackend
    from tvm_mobilenet.compiler.memory_plan import kernel_calls
    from tvm_mobilenet.compiler.options import CompileOptions

    backend = StaticBackend(CompileOptions(spec, precision))
    if not fused:
        backend.rules = backend.rules - {FUSED}
    lowered = pipeline.lower_graph(module, backend.legalize())
    return [floor_of(call, lowered, spec, board) for _, call in kernel_calls(lowered)]


def floor_of(call: Any, lowered: tvm.IRModule, spec: TargetSpec, board: Board) -> LayerFloor:
    """Of one kernel: all its tensors but those that the shared cache holds."""
    from tvm.ir import Constant

    from tvm_mobilenet.compiler.memory_plan import flops

    kernel = call.args[0]
    func, facts = lowered[kernel], spec.facts
    *read, written = func.params
    given = [isinstance(one, Constant) for one in call.args[1].fields]
    nbytes = 0
    for constant, buffer in zip([*given, False], [*read, written], strict=True):
        size = bytes_of(buffer)
        if constant or size > board.shared_cache_bytes // 2:
            nbytes += size
    lanes = products_of(kernel.name_hint, spec)
    per_second = 2 * lanes * facts["fmas"] * facts["clock_mhz"] * 1e6 * spec.num_cores
    return LayerFloor(
        kernel.name_hint,
        round(flops(func) / per_second * 1e6, 1),
        round(nbytes / board.memory_gb_s / 1e3, 1),
        round(nbytes / 1e6, 3),
    )


def products_of(kernel: str, spec: TargetSpec) -> int:
    """How many products one instruction of a kernel makes."""
    if kernel.startswith("fp16_"):
        return 2 * spec.vector_width
    if not kernel.startswith("quantized_"):
        return spec.vector_width
    if "asimddp" in spec.cpu_features:
        return DOT_PRODUCTS
    return WIDE_PRODUCTS if "stem" in kernel else PRODUCTS


def bytes_of(buffer: Any) -> int:
    import math

    from tvm.runtime import DataType

    size = math.prod(int(dim) for dim in buffer.shape)
    return int(size * DataType(str(buffer.dtype)).itemsize)


if __name__ == "__main__":
    sys.exit(main())
