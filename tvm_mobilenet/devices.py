"""The command ``devices``: targets known, this host, and the devices an RPC tracker holds."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tvm_mobilenet import cli
from tvm_mobilenet.errors import BadInput
from tvm_mobilenet.hardware import cpu, target
from tvm_mobilenet.remote.tracker import (
    EMULATED_KEY,
    TRACKER_PORT,
    DeviceQueue,
    TrackerAddress,
    query_tracker,
    tracker_address,
)

if TYPE_CHECKING:
    from rich.table import Table


def main(argv: Sequence[str] | None = None) -> int:
    """Command line of ``devices``; returns the exit status."""
    parser = cli.make_parser(
        "devices", "The targets known, this host, and the devices a tracker holds."
    )
    parser.add_argument(
        "--rpc-tracker",
        type=tracker_address,
        metavar="HOST[:PORT]",
        help=f"also ask this RPC tracker (port {TRACKER_PORT} unless given)",
    )
    parser.add_argument(
        "--emulate",
        nargs=2,
        metavar=("TARGET", "N"),
        action=Emulate,
        help="start a tracker and N emulated devices here, until Ctrl-C, of a 64-bit ARM target "
        "(arm: arm-rpi4); --rpc-tracker then says where (make arm-emulator sets the device up)",
    )
    args = parser.parse_args(argv)
    return cli.run_command(_body if args.emulate is None else _emulate, args)


class Emulate(argparse.Action):
    """``TARGET N``: what the emulated devices are, and how many."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        name, count = values
        try:
            namespace.emulate = name, cli.positive_int(count)
        except argparse.ArgumentTypeError as error:
            parser.error(f"--emulate: {error}")


def _emulate(args: argparse.Namespace) -> int:
    import signal

    from tvm_mobilenet.emulation import cores, devices

    name, count = args.emulate
    device = cores.device_of(name)
    port = args.rpc_tracker.port if args.rpc_tracker else TRACKER_PORT
    with devices.serving(count, EMULATED_KEY, port, device) as (host, _):
        print(
            f"tracker {host}:{port} holds {count} emulated devices, key {EMULATED_KEY}; "
            "Ctrl-C ends them",
            flush=True,
        )
        signal.pause()
    return 0


def _body(args: argparse.Namespace) -> int:
    # asked first: a tracker that is down is then the only thing said
    held = query_tracker(args.rpc_tracker) if args.rpc_tracker else None

    from rich.console import Console

    console = Console()
    # piped into a file there is no screen to fit
    console = console if console.is_terminal else Console(width=120)
    console.print(_target_table())
    console.print(_host_line(), highlight=False, markup=False)
    if held:
        console.print(_tracker_table(args.rpc_tracker, held))
    elif held is not None:
        console.print(f"Tracker {args.rpc_tracker}: no device registered", markup=False)
    return 0


def _target_table() -> Table:
    from rich.table import Table

    table = Table(title="Targets known", title_justify="left")
    for heading in ("name", "device", "compiled for"):
        table.add_column(heading)
    for heading in ("cores", "float32 lanes"):
        table.add_column(heading, justify="right")
    for name in target.known():
        spec = target.resolve(name)
        compiled_for = spec.target.get("mcpu") or spec.target.get("arch", "")
        table.add_row(name, spec.device, compiled_for, str(spec.num_cores), str(spec.vector_width))
    return table


def _host_line() -> str:
    what = f"This host: {cpu.host_model()}"
    try:
        spec = target.detect_host()
    except BadInput as error:
        # the list is still worth having on a machine that only compiles for others
        return f"{what}: {error}"
    cores = "1 core" if spec.num_cores == 1 else f"{spec.num_cores} cores"
    return f"{what}, {cores}: target {spec.name}"


def _tracker_table(address: TrackerAddress, held: Sequence[DeviceQueue]) -> Table:
    from rich.table import Table
    from rich.text import Text

    # as Text, or rich takes the brackets of an IPv6 address for markup
    table = Table(title=Text(f"Tracker {address}"), title_justify="left")
    table.add_column("key")
    for heading in ("devices", "free", "waiting"):
        table.add_column(heading, justify="right")
    table.add_column("servers")
    for queue in held:
        numbers = (len(queue.servers), queue.free, queue.pending)
        table.add_row(queue.key, *map(str, numbers), " ".join(queue.servers))
    return table


if __name__ == "__main__":
    cli.leave(main())
