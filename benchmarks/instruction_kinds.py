"""What the instructions of an inference are for, as emulated ARM cores execute them.

    python benchmarks/instruction_kinds.py [--target arm-rpi4 ...] [--precision int8]
                                           [--alpha 1.0] [--resolution 224] [--json FILE]

MobileNetV1 is compiled for each target, and one inference of it is executed by QEMU on the target's
core, on one thread, which is how ``bench --count-instructions`` counts: counts repeat exactly, and
what came out is held against the reference. Every instruction is of one kind, by its name and its
operands (KINDS); the file has each by name too. An instruction of a name that serves several ends,
as ``uzp1``, is counted where kernels use it most.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from tvm_mobilenet import cli
from tvm_mobilenet.compiler.precision import Precision

if TYPE_CHECKING:
    from tvm_mobilenet.benchmark.sweep import Sweep

TARGETS = ("arm-rpi4", "arm-graviton2", "arm-graviton3")
PRECISIONS = tuple(one for one in get_args(Precision) if one != "tf32")
VECTOR = re.compile(r"\b[vqdshb]\d+\b")
BYTES_ADDED = re.compile(r"v\d+\.(?:8|16)b")
# the first operand: its kind of register, and how it is divided
FIRST = re.compile(r"^\{? ?([vqdshbxw])\d+(\.\w+)?")
LOADS, SCALAR = "loads and stores", "addresses and branches"
PRODUCTS = "products, and what sums them"
RESULTS = "sums made results"
COPIES = "what sums start at, and other copies"
ORDER = "vectors put in order, parts of sums added up"
OTHER = "others over vectors"
# of instructions over vectors, by name
NAMES = {
    PRODUCTS: "sdot udot usdot smmla usmmla smull smull2 smlal smlal2 sadalp saddw saddw2 mul mla "
    "fmla fmls fmul fmadd bfdot bfmmla",
    RESULTS: "sqrdmulh sqxtn sqxtn2 sqxtun sqxtun2 uzp1 scvtf fcvtns fcvtzs frintn eor smax smin "
    "fmax fmin fmaxnm fminnm fcvtn fcvtn2 fcvtl fcvtl2 bfcvtn bfcvtn2 shl shll sshl srshr",
    COPIES: "mov movi mvni dup ins fmov",
    ORDER: "add addp addv fadd faddp saddlp zip1 zip2 trn1 trn2 uzp2 ext tbl tbx rev64 rev32 rev16 "
    "xtn xtn2 sxtl sxtl2 sshll sshll2 ushll ushll2",
}
KIND_OF = {name: kind for kind, names in NAMES.items() for name in names.split()}
KINDS = (PRODUCTS, LOADS, RESULTS, COPIES, ORDER, SCALAR, OTHER)


def main() -> int:
    parser = cli.make_parser("instruction_kinds", "What the instructions of an inference are for.")
    add = parser.add_argument
    what = f"64-bit ARM ones (default: {', '.join(TARGETS)})"
    add("--target", action="append", metavar="T", help=what)
    add("--precision", choices=PRECISIONS, default="int8", help="(default: %(default)s)")
    add("--alpha", type=cli.alpha, default=1.0, help="(default: %(default)s)")
    add("--resolution", type=cli.resolution, default=224, help="(default: %(default)s)")
    add("--json", type=Path, metavar="FILE", help="write it here")
    return cli.run_command(report, parser.parse_args())


def report(args: argparse.Namespace) -> int:
    from tvm_mobilenet import tvm_runtime
    from tvm_mobilenet.benchmark.sweep import Sweep
    from tvm_mobilenet.files import write_text

    tvm_runtime.compiler()
    networks = [
        Sweep(name, precision=args.precision, only=(args.alpha, args.resolution))
        for name in args.target or TARGETS
    ]
    cores = [count(network) for network in networks]
    variant = {"alpha": args.alpha, "resolution": args.resolution}
    document = {"model": "mobilenet_v1", **variant, "precision": args.precision, "cores": cores}
    if args.json is not None:
        write_text(args.json, json.dumps(document, indent=1) + "\n")
    for core in cores:
        print(f"{core['target']}, {core['core']}: {core['instructions'] / 1e6:.1f} million")
        for kind, names in core["kinds"].items():
            print(f"  {sum(names.values()) / 1e6:6.1f} {kind}")
    return 0


def count(network: Sweep) -> dict[str, Any]:
    """The instructions of an inference on the target's core, by kind and name.

    Raises BadInput for a target that is none of 64-bit ARM, RunFailed where the network does not
    compile or what came out is wrong.
    """
    import tempfile

    from rich.console import Console

    from tvm_mobilenet.benchmark.engines import verify
    from tvm_mobilenet.benchmark.places.emulated_core import find_emulator
    from tvm_mobilenet.benchmark.progress import open_progress
    from tvm_mobilenet.bundle import open_bundle
    from tvm_mobilenet.emulation import executed
    from tvm_mobilenet.errors import RunFailed

    device = find_emulator([network.target])
    with tempfile.TemporaryDirectory(prefix="tvm-mobilenet-") as scratch:
        with open_progress(Console(stderr=True)) as progress:
            (case,) = network.cases((), Path(scratch), progress, "aarch64")
        (ours,) = case.candidates
        if ours.bundle is None:
            raise RunFailed(f"--target {network.target}: {ours.absent}")
        with open_bundle(ours.bundle, "aarch64") as bundle:
            found = executed.count_each(bundle, case.network.inputs, device)
    try:
        given = case.network
        verify.check(found.outputs, given.expected, given.precision, given.tolerance)
    except verify.WrongResult as error:
        raise RunFailed(f"--target {network.target}: {error}") from None
    kinds = by_kind(found.instructions)
    total = found.instructions.total()
    return {"target": network.target, "core": device.cpu, "instructions": total, "kinds": kinds}


def by_kind(instructions: Mapping[str, int]) -> dict[str, dict[str, int]]:
    """Of every kind the names of its instructions, the most frequent first."""
    kinds: dict[str, Counter[str]] = defaultdict(Counter)
    for text, times in instructions.items():
        kinds[kind_of(text)][name_of(text)] += times
    return {kind: dict(kinds[kind].most_common()) for kind in KINDS if kind in kinds}


def kind_of(text: str) -> str:
    """What an instruction is for."""
    name, _, operands = text.partition(" ")
    if name.startswith(("ld", "st", "prf")):
        return LOADS
    if not VECTOR.search(operands):
        return SCALAR
    if name == "add" and BYTES_ADDED.match(operands):
        return RESULTS  # a zero point
    return KIND_OF.get(name, OTHER)


def name_of(text: str) -> str:
    """Its name, with what its first operand is: ``fmla v.4s``, ``ldp q``, ``b.ne``."""
    name, _, operands = text.partition(" ")
    first = FIRST.match(operands)
    return name if first is None else f"{name} {first[1]}{first[2] or ''}"


if __name__ == "__main__":
    sys.exit(main())
