"""The command ``bench``: time bundles beside the runtimes people use today → results JSON.

Every engine runs in a process of its own, on the same input with the same number of threads, and
only after its output was verified; they take turns, round by round (``benchmark.rounds``).
With ``--rpc-tracker`` they run on a device, timed by its clock; with ``--count-instructions`` on an
emulated ARM core, where instructions are counted in place of time.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from tvm_mobilenet import cli, extras
from tvm_mobilenet.benchmark.engines import PEERS, parse_peers
from tvm_mobilenet.benchmark.request import BenchRequest
from tvm_mobilenet.benchmark.rounds import PATIENCE, make_plan
from tvm_mobilenet.remote.tracker import tracker_address
from tvm_mobilenet.results.schema import Neighbour

if TYPE_CHECKING:
    from rich.console import Console

RESUME = "--resume"
DEFAULT_PEERS, DEVICE_PEERS = "pytorch,torch-compile,onnxruntime,openvino", "onnxruntime"


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status 0 when measured, 1 where an engine of ours or every one failed, 2, 130."""
    argv = sys.argv[1:] if argv is None else argv
    # a sweep that goes on is the one that was begun
    words = [word for word in argv if word != RESUME]
    command = shlex.join(["tvm-mobilenet", "bench", *words])
    args = cli.parse(make_parser(), argv)
    return cli.run_command(lambda args: _run(args, command), args)


def make_parser() -> argparse.ArgumentParser:
    parser = cli.make_parser("bench", "Time bundles side by side with other runtimes.")
    add = parser.add_argument
    add("bundles", nargs="*", type=Path, metavar="BUNDLE", help="from `compile`")
    what = (
        f"comma-separated, of {', '.join(PEERS)}; or none (default: {DEFAULT_PEERS}; on a device: "
        f"{DEVICE_PEERS})"
    )
    add("--against", type=parse_peers, metavar="ENGINES", help=what)
    what = "thread counts, each measured by itself (default: 1)"
    add("--threads", type=cli.thread_counts, default=(1,), metavar="N,...", help=what)
    what = (
        "measure again while a process keeps another CPU busy: with memory traffic (memory), or "
        "with multiply-adds (fma)"
    )
    add("--noise", type=parse_noise, default=(), metavar="KIND,...", help=what)
    what = "time the layers of one BUNDLE against what a core can do at best; no peers"
    add("--profile", action="store_true", help=what)
    add("--json", type=Path, metavar="FILE", help="write the results here")
    add("--onnx", type=Path, metavar="FILE", help="the network of a bundle compiled from ONNX")
    what = "the weights of a bundle compiled with --weights"
    add("--weights", type=Path, metavar="FILE", help=what)
    what = "samples that the peers of an int8 bundle are quantized with, as of `compile`"
    add("--calibrate", type=Path, metavar="SAMPLES", help=what)
    what = "let every engine classify the images of a .npz with images and labels, for its accuracy"
    add("--labelled", type=Path, metavar="FILE.npz", help=what)
    add("--min-time", type=cli.duration, default=3.0, metavar="S", help="per engine (default: 3s)")
    add("--min-runs", type=cli.positive_int, default=100, metavar="N", help="(default: 100)")
    what = (
        "how long in all to wait, before turns, while the machine is slower than it has been; not "
        f"on a device (default: {PATIENCE} times --min-time)"
    )
    add("--patience", type=cli.duration, metavar="S", help=what)
    cli.add_target_flag(parser)

    group = parser.add_argument_group("sweep")
    which = group.add_mutually_exclusive_group().add_argument
    what = "compile and time MobileNetV1's 16 variants: alpha 1 to 0.25 by resolution 224 to 128"
    which("--sweep", dest="sweep", action="store_const", const="variants", help=what)
    what = "compile and time the networks people ship"
    which("--zoo", dest="sweep", action="store_const", const="zoo", help=what)
    add = group.add_argument
    what = "go on with what --json FILE holds of the same sweep, after an interrupt"
    add(RESUME, action="store_true", help=what)
    what = "of all engines; int8: each network quantized, the same file for all (default: fp32)"
    add("--precision", choices=("fp32", "bf16", "fp16", "int8"), help=what)
    add("--batch", type=cli.positive_int, default=1, help="(default: %(default)s)")
    what = "compile with these records instead of those that are found"
    add("--tuning-records", type=Path, metavar="DIR", help=what)

    add = parser.add_argument_group("device").add_argument
    what = "measure on a device of this RPC tracker, by the device's own clock"
    add("--rpc-tracker", type=tracker_address, metavar="HOST[:PORT]", help=what)
    what = "the key the tracker has the device under (default: rpc_key of the target's file)"
    add("--rpc-key", metavar="KEY", help=what)
    what = "count what an emulated ARM core executes, in place of time (make arm-emulator)"
    add("--count-instructions", action="store_true", help=what)
    return parser


def parse_noise(text: str) -> tuple[Neighbour, ...]:
    """Kinds of noise, comma-separated."""
    known: dict[str, Neighbour] = {kind: kind for kind in get_args(Neighbour)}
    kinds = text.split(",")
    if unknown := [kind for kind in kinds if kind not in known]:
        raise argparse.ArgumentTypeError(f"expected {' or '.join(known)}, got {unknown[0]!r}")
    return tuple(known[kind] for kind in kinds)


def make_request(args: argparse.Namespace, command: str) -> BenchRequest:
    """The flags as values; ``command`` is what the results say they were made by."""
    from tvm_mobilenet.benchmark.sweep import Sweep

    there = args.rpc_tracker is not None or args.count_instructions
    default = parse_peers(DEVICE_PEERS if there else DEFAULT_PEERS)
    return BenchRequest(
        bundles=tuple(args.bundles),
        against=default if args.against is None else args.against,
        threads=args.threads,
        noise=args.noise,
        plan=make_plan(args.min_runs, args.min_time, args.patience),
        onnx=args.onnx,
        weights=args.weights,
        calibrate=args.calibrate,
        labelled=args.labelled,
        sweep=args.sweep
        and Sweep(
            args.target,
            args.batch,
            args.tuning_records,
            args.sweep,
            args.precision or "fp32",
        ),
        precision=args.precision,
        profile=args.profile,
        tracker=args.rpc_tracker,
        key=args.rpc_key,
        count_instructions=args.count_instructions,
        json=args.json,
        resume=args.resume,
        command=command,
    )


def _run(args: argparse.Namespace, command: str) -> int:
    extras.require_module("rich", "bench")  # peers that are missing are rows with a reason
    request = make_request(args, command)
    request.check()

    from rich.console import Console

    (_profile if request.profile else _measure)(request, Console())
    if request.json is not None:
        print(f"wrote {request.json}")
    return 0


def _measure(request: BenchRequest, out: Console) -> None:
    from rich.console import Console

    from tvm_mobilenet.benchmark import suite
    from tvm_mobilenet.benchmark.places.opening import open_place
    from tvm_mobilenet.benchmark.progress import open_progress
    from tvm_mobilenet.reporting import terminal

    with open_progress(Console(stderr=True)) as progress, open_place(request, progress) as place:
        results = suite.measure(
            request, place, progress, lambda rows: terminal.print_comparisons(out, rows)
        )
    terminal.print_conclusions(out, results)
    suite.check_measured(results)


def _profile(request: BenchRequest, out: Console) -> None:
    from tvm_mobilenet.benchmark.profile.layers import to_json
    from tvm_mobilenet.benchmark.profile.titled import profile_bundle
    from tvm_mobilenet.files import write_text
    from tvm_mobilenet.hardware.core_facts import find_core_facts
    from tvm_mobilenet.provenance import describe_machine, now
    from tvm_mobilenet.reporting.profile import print_profile

    machine = replace(describe_machine(), facts=find_core_facts())
    profiles = []
    for title, one in profile_bundle(request):
        print_profile(out, title, one)
        profiles.append((title, one))
        if request.json is not None:
            text = to_json(profiles, machine, request.command, now())
            write_text(request.json, text)


if __name__ == "__main__":
    cli.leave(main())
