"""The command ``tune``: search schedules for kernels, keep every measurement as a record.

MetaSchedule provides the design spaces (from our rules), the traces, the record format and the
XGBoost cost model; what is searched next, building and measuring are ours (``tuning/``).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tvm_mobilenet import cli, extras, network_flags, tvm_runtime
from tvm_mobilenet.remote.tracker import tracker_address

if TYPE_CHECKING:
    from tvm_mobilenet.hardware.target import TargetSpec
    from tvm_mobilenet.tuning.request import TuneRequest

TIME_BUDGET_S = 270.0  # with loading the network, the five minutes a person waits
EARLY_STOPPING = 96
TIMEOUT_S = 10.0


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status 0 when tuned, 1 when nothing was measured, 2 for bad input, 130 on Ctrl-C."""
    return cli.run_command(_run, cli.parse(make_parser(), argv))


def make_parser() -> argparse.ArgumentParser:
    """The flags of the command."""
    parser = cli.make_parser("tune", "Search schedules for a network's kernels on a target.")
    cli.add_target_flag(parser)
    network_flags.add_network_flags(parser, "For the pictures of --calibrate, as for 'compile'.")
    _add_flags(parser)
    return parser


def _add_flags(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    what = "tune the 16 published variants of --model together"
    add("--sweep", action="store_true", help=what)
    what = "show the tasks and an estimate, measure nothing"
    add("--dry-run", action="store_true", help=what)

    add = parser.add_argument_group("budget").add_argument
    add("--trials", type=cli.positive_int, metavar="N", help="measure at most N")
    what = "at most N for each kernel (default: the target's [tune] trials_per_task, if any)"
    add("--trials-per-task", type=cli.positive_int, metavar="N", help=what)
    what = f"stop after 90s, 5m or 1h (default: {TIME_BUDGET_S:.0f}s, none with --trials)"
    add("--time-budget", type=cli.positive_duration, metavar="T", help=what)
    what = "leave a kernel after N trials without a gain (default: %(default)s)"
    add("--early-stopping", type=cli.positive_int, default=EARLY_STOPPING, metavar="N", help=what)
    what = "of the search (default: %(default)s)"
    add("--seed", type=cli.whole_number, default=0, metavar="N", help=what)

    add = parser.add_argument_group("records").add_argument
    what = "where the records go (default: tuning_records/<target>)"
    add("--work-dir", type=Path, metavar="DIR", help=what)
    what = "measure nothing again that the work directory knows; skip lines it cannot read"
    add("--resume", action="store_true", help=what)
    what = "records of this or a neighbouring target to try first, each measured here"
    add("--tuning-records", type=Path, nargs="+", default=[], metavar="DIR", help=what)
    _add_measuring_flags(parser.add_argument_group("measuring"))


def _add_measuring_flags(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    what = (
        "seconds a candidate may take to build, and to run, and that devices over RPC may all be "
        f"away (default: the target's [tune] timeout_s, else {TIMEOUT_S:g})"
    )
    add("--timeout", type=cli.positive_duration, metavar="S", help=what)
    what = "threads a kernel is measured on (default: %(default)s)"
    add("--threads", type=cli.positive_int, default=1, metavar="N", help=what)
    what = "leave the weights in the cache between calls"
    add("--warm", action="store_true", help=what)
    what = (
        "on this machine, on devices over RPC, or by a model of the core, for which no device is "
        "needed (default: rpc with --rpc-tracker, else native)"
    )
    add("--measure", choices=("native", "rpc", "model"), help=what)
    what = "measure on the devices that this RPC tracker has"
    add("--rpc-tracker", type=tracker_address, metavar="HOST[:PORT]", help=what)
    what = "the tracker's key of those devices, used all at once (default: the target's rpc_key)"
    add("--rpc-key", metavar="KEY", help=what)


def _run(args: argparse.Namespace) -> int:
    extras.require("compile", "tune")
    tvm_runtime.compiler()  # TVM without PyTorch, which it would import where others import it
    from tvm_mobilenet.hardware import target
    from tvm_mobilenet.tuning import tuner

    request = make_request(args, target.resolve(args.target))
    tuner.check(request)
    trained = request.networks.network.trained
    if trained is not None:
        print(f"weights {trained.line}", file=sys.stderr)
    if args.dry_run:
        print(*tuner.preview(request), sep="\n")
    else:
        tuner.tune(request)
    return 0


def make_request(args: argparse.Namespace, spec: TargetSpec) -> TuneRequest:
    """The flags as values; what they do not say, the target's file may.

    Raises BadInput for a precision that the target does not have, and for flags that do not go
    together.
    """
    from tvm_mobilenet.tuning.kernels import Networks
    from tvm_mobilenet.tuning.request import Budget, Conditions, TuneRequest

    time_budget_s = args.time_budget
    if time_budget_s is None and args.trials is None:
        time_budget_s = TIME_BUDGET_S
    options = network_flags.options_of(args, spec)
    networks = Networks(
        network_flags.spec_of(args), args.sweep, network_flags.preparation_of(args, options)
    )
    return TuneRequest(
        networks=networks,
        options=options,
        budget=Budget(
            args.trials,
            args.trials_per_task or spec.trials_per_task,
            time_budget_s,
            args.early_stopping,
        ),
        work_dir=args.work_dir,
        resume=args.resume,
        transfer=tuple(args.tuning_records),
        seed=args.seed,
        conditions=Conditions(
            by=args.measure or ("native" if args.rpc_tracker is None else "rpc"),
            timeout_s=args.timeout or spec.timeout_s or TIMEOUT_S,
            threads=args.threads,
            warm=args.warm,
            tracker=args.rpc_tracker,
            key=args.rpc_key or (args.rpc_tracker and spec.rpc_key),
        ),
    )


if __name__ == "__main__":
    cli.leave(main())
