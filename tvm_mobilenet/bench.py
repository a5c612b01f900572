"""The ``bench`` stage: time bundles beside the runtimes people use today → results JSON.

Every engine runs in a process of its own, on the same input with the same number of threads, and
only after its output was verified; they take turns, round by round (``benchmark.rounds``).

With ``--rpc-tracker`` they run on a device, timed by its clock; with ``--count-instructions`` on an
emulated ARM core, where instructions are counted in place of time.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import shlex
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from tvm_mobilenet import cli, extras, files
from tvm_mobilenet.benchmark.engines import PEERS
from tvm_mobilenet.errors import BadInput, RunFailed
from tvm_mobilenet.models.variants import ALPHAS, RESOLUTIONS, VARIANTS
from tvm_mobilenet.provenance import now
from tvm_mobilenet.remote.tracker import tracker_address

if TYPE_CHECKING:
    from rich.console import Console

    from tvm_mobilenet.benchmark.cases import Case
    from tvm_mobilenet.benchmark.places.places import Place
    from tvm_mobilenet.benchmark.profile.layers import Profile
    from tvm_mobilenet.benchmark.progress import PlainProgress
    from tvm_mobilenet.results.schema import Results

DEFAULT_PEERS = "pytorch,torch-compile,onnxruntime,openvino"
DEVICE_PEERS = "onnxruntime"
ROUNDS = 25
PATIENCE = 10  # times --min-time


def main(argv: Sequence[str] | None = None) -> int:
    argv = sys.argv[1:] if argv is None else argv
    args = cli.parse(_parser(), argv)
    args.command = shlex.join(["tvm-mobilenet", "bench", *argv])
    return cli.run_stage(_body, args)


def _parser() -> argparse.ArgumentParser:
    parser = cli.make_parser("bench", "Time bundles side by side with other runtimes.")
    parser.add_argument("bundles", nargs="*", type=Path, metavar="BUNDLE", help="from `compile`")
    parser.add_argument(
        "--against",
        type=peer_names,
        metavar="ENGINES",
        help=f"comma-separated, of {', '.join(PEERS)}; or none (default: {DEFAULT_PEERS}; "
        f"on a device: {DEVICE_PEERS})",
    )
    parser.add_argument(
        "--threads",
        type=cli.thread_counts,
        default=(1,),
        metavar="N,...",
        help="thread counts, each measured by itself (default: 1)",
    )
    parser.add_argument(
        "--profile",
        action="store_true",
        help="time the layers of one BUNDLE against what a core can do at best; no peers",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results here")
    parser.add_argument(
        "--onnx", type=Path, metavar="FILE", help="the network of a bundle compiled from ONNX"
    )
    parser.add_argument(
        "--min-time", type=cli.duration, default=3.0, metavar="S", help="per engine (default: 3s)"
    )
    parser.add_argument(
        "--min-runs", type=cli.positive_int, default=100, metavar="N", help="(default: 100)"
    )
    parser.add_argument(
        "--patience",
        type=cli.duration,
        metavar="S",
        help="how long in all to wait, before turns, while the machine is slower than it has been; "
        f"not on a device (default: {PATIENCE} times --min-time)",
    )
    cli.add_target_flag(parser)
    _add_sweep_flags(parser)
    _add_device_flags(parser)
    return parser


def _add_sweep_flags(parser: argparse.ArgumentParser) -> None:
    alphas = ", ".join(f"{alpha:g}" for alpha in ALPHAS)
    resolutions = ", ".join(map(str, RESOLUTIONS))
    group = parser.add_argument_group("sweep")
    group.add_argument(
        "--sweep",
        action="store_true",
        help=f"compile and time all {len(VARIANTS)} variants: alpha {alphas} by {resolutions}",
    )
    group.add_argument("--batch", type=cli.positive_int, default=1, help="(default: %(default)s)")
    group.add_argument(
        "--tuning-records",
        type=Path,
        metavar="DIR",
        help="compile with these records instead of those that ship",
    )


def _add_device_flags(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("device")
    group.add_argument(
        "--rpc-tracker",
        type=tracker_address,
        metavar="HOST[:PORT]",
        help="measure on a device of this RPC tracker, by the device's own clock",
    )
    group.add_argument(
        "--rpc-key",
        metavar="KEY",
        help="the key the tracker has the device under (default: rpc_key of the target's file)",
    )
    group.add_argument(
        "--count-instructions",
        action="store_true",
        help="count what an emulated ARM core executes, in place of time (make arm-emulator)",
    )


def peer_names(text: str) -> tuple[str, ...]:
    """Engine names as in ``onnxruntime,openvino``, each once; ``none`` for no peer."""
    names = () if text == "none" else tuple(dict.fromkeys(text.split(",")))
    unknown = [name for name in names if name not in PEERS]
    if unknown:
        raise argparse.ArgumentTypeError(
            f"unknown engine {unknown[0]!r}; known: {', '.join(PEERS)}, or none"
        )
    return names


def _body(args: argparse.Namespace) -> int:
    _check(args)
    extras.require_module("rich", "bench")  # peers that are missing are rows with a reason

    from rich.console import Console

    if args.profile:
        return _profile(args, Console())

    from tvm_mobilenet.benchmark.progress import open_progress
    from tvm_mobilenet.reporting import terminal

    out = Console()
    with open_progress(Console(stderr=True)) as progress, _open_place(args, progress) as place:
        results = _measure_all(args, place, progress, out)
    terminal.print_conclusions(out, results)
    if args.json:
        print(f"wrote {args.json}")
    _raise_for_failures(results)
    return 0


def _profile(args: argparse.Namespace, out: Console) -> int:
    from tvm_mobilenet.benchmark.profile.layers import print_profile, to_json
    from tvm_mobilenet.files import write_text
    from tvm_mobilenet.provenance import describe_machine

    profiles: list[tuple[str, Profile]] = []
    for title, one in (_profiles_on_device if args.rpc_tracker else _profiles_here)(args):
        print_profile(out, title, one)
        profiles.append((title, one))
        if args.json:
            write_text(args.json, to_json(profiles, describe_machine(), args.command, now()))
    if args.json:
        print(f"wrote {args.json}")
    return 0


def _profiles_here(args: argparse.Namespace) -> Iterator[tuple[str, Profile]]:
    from tvm_mobilenet.benchmark.profile.layers import profile
    from tvm_mobilenet.runtime.session import load

    (bundle,) = args.bundles
    for threads in args.threads:
        with load(bundle, threads) as session:
            session.input[...] = session.bundle.sample_input()
            yield f"{bundle}, threads: {threads}", profile(session)


def _profiles_on_device(args: argparse.Namespace) -> Iterator[tuple[str, Profile]]:
    from tvm_mobilenet.benchmark.places import places
    from tvm_mobilenet.benchmark.profile.remote import profile
    from tvm_mobilenet.remote.session import load

    (bundle,) = args.bundles
    key = args.rpc_key or places.rpc_key_of(places.targets_of(args.bundles)[0])
    for threads in args.threads:
        with load(bundle, args.rpc_tracker, key, threads) as session:
            session.set_input(session.bundle.sample_input())
            title = f"{bundle} on {session.about.cpu}, threads: {threads}"
            yield title, profile(session, args.min_runs)


def _check(args: argparse.Namespace) -> None:
    """Refuse what cannot work, before any work."""
    if args.rpc_key is not None and args.rpc_tracker is None:
        raise BadInput("--rpc-key goes with --rpc-tracker: which tracker has the device")
    if args.count_instructions and (args.rpc_tracker or args.profile):
        raise BadInput("--count-instructions takes neither --rpc-tracker nor --profile")
    if args.against is None:
        on_device = args.rpc_tracker or args.count_instructions
        args.against = peer_names(DEVICE_PEERS if on_device else DEFAULT_PEERS)
    if args.profile and (args.sweep or len(args.bundles) != 1):
        raise BadInput("--profile takes one BUNDLE, and no --sweep")
    if args.sweep and (args.bundles or args.onnx):
        raise BadInput("--sweep compiles its own bundles; drop BUNDLE and --onnx")
    if not args.sweep and not args.bundles:
        raise BadInput("nothing to measure: pass a BUNDLE (from tvm-mobilenet compile), or --sweep")
    if args.onnx:
        cli.existing_file(args.onnx, "--onnx")
    if args.json and (args.json.is_dir() or not os.access(args.json.absolute().parent, os.W_OK)):
        raise BadInput(f"--json {args.json}: not a file that can be written")


def _open_place(args: argparse.Namespace, progress: PlainProgress) -> AbstractContextManager[Place]:
    """Where to measure, for as long as it is open."""
    from tvm_mobilenet.benchmark.places import places
    from tvm_mobilenet.benchmark.rounds import Plan

    rounds = min(ROUNDS, args.min_runs)
    patience = PATIENCE * args.min_time if args.patience is None else args.patience
    plan = Plan(
        args.min_runs, args.min_time, rounds, chunk_s=args.min_time / 10, patience_s=patience
    )
    if not (args.rpc_tracker or args.count_instructions):
        return nullcontext(places.Here(plan, args.threads, progress))
    targets = [places.named_target(args.target)] if args.sweep else places.targets_of(args.bundles)
    if args.rpc_tracker:
        key = args.rpc_key or places.rpc_key_of(targets[0])
        return places.on_a_device(args.rpc_tracker, key, targets[0], plan, progress)

    from tvm_mobilenet.benchmark.places import instructions

    core = instructions.emulated([target.name for target in targets])
    return nullcontext(places.OnAnEmulatedCore(core))


def _measure_all(
    args: argparse.Namespace, place: Place, progress: PlainProgress, out: Console
) -> Results:
    """Measure case after case; the results file holds every finished one at any time."""
    from tvm_mobilenet.reporting import terminal
    from tvm_mobilenet.results import schema

    results = schema.Results(place.machine(), (), args.command, now())
    with (
        files.own_temporary_folder(),  # a sweep compiles, and so exports
        tempfile.TemporaryDirectory(prefix="tvm-mobilenet-bench-") as scratch,
    ):
        try:
            for case in _cases(args, Path(scratch), place.architecture, progress):
                for threads in args.threads:
                    progress.heading(f"{case.title}, {threads} thread{'s' if threads > 1 else ''}")
                    rows = place.measure(case, threads)
                    results = dataclasses.replace(
                        results, machine=place.machine(), results=(*results.results, *rows)
                    )
                    if args.json:
                        schema.dump(results, args.json)
                    terminal.print_comparisons(out, dataclasses.replace(results, results=(*rows,)))
        except KeyboardInterrupt:
            if args.json and results.results:
                progress.note(f"{args.json} holds the {len(results.results)} rows finished so far")
            raise
    return results


def _cases(
    args: argparse.Namespace, scratch: Path, architecture: str | None, progress: PlainProgress
) -> Iterator[Case]:
    from tvm_mobilenet.benchmark import cases, sweep

    if args.sweep:
        return sweep.sweep(
            args.target,
            args.batch,
            args.tuning_records,
            args.against,
            scratch,
            progress,
            architecture,
        )
    return cases.from_bundles(args.bundles, args.onnx, args.against, scratch, architecture)


def _raise_for_failures(results: Results) -> None:
    """RunFailed where ours has no latency, or nobody has."""
    from tvm_mobilenet.results.tables import is_ours

    failed = [row for row in results.results if is_ours(row) and row.status != "ok"]
    if failed:
        raise RunFailed(f"{failed[0].engine} was not measured: {failed[0].reason}")
    if not any(row.status == "ok" for row in results.results):
        raise RunFailed("no engine could be measured")


if __name__ == "__main__":
    sys.exit(main())
