"""The ``devices`` stage: targets known, this host, and the devices an RPC tracker holds."""

from __future__ import annotations

import argparse
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from tvm_mobilenet import cli, cpu, target
from tvm_mobilenet.errors import BadInput, RunFailed

if TYPE_CHECKING:
    from rich.table import Table

EMULATED_KEY = "arm-emulated"
TRACKER_PORT = 9190  # what tvm.exec.rpc_tracker listens on unless told otherwise
TRACKER_TIMEOUT_S = 5.0
LAST_PORT = 65535


class TrackerAddress(NamedTuple):
    """Where an RPC tracker listens."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True)
class DeviceQueue:
    """The devices a tracker holds under one key, and the requests that wait for one."""

    key: str
    servers: tuple[str, ...]
    free: int
    pending: int


def tracker_address(text: str) -> TrackerAddress:
    """``HOST``, ``HOST:PORT`` or ``[IPV6]:PORT``, for argparse's ``type=``."""
    host, port = text, str(TRACKER_PORT)
    if text.startswith("["):
        host, _, rest = text[1:].partition("]")
        if rest:
            host, port = (host, rest[1:]) if rest.startswith(":") else ("", port)
    elif text.count(":") == 1:
        host, port = text.split(":")
    if not host or not port.isdecimal() or not 0 < int(port) <= LAST_PORT:
        raise argparse.ArgumentTypeError(f"expected HOST or HOST:PORT, got {text!r}")
    return TrackerAddress(host, int(port))


def query_tracker(address: TrackerAddress) -> list[DeviceQueue]:
    """What the tracker at ``address`` holds, by key.

    Imports TVM once the tracker answers. Raises RunFailed where nothing listens there, or something
    that is not a TVM tracker does.
    """
    try:
        # TVM itself keeps trying a closed port for a minute
        socket.create_connection(address, TRACKER_TIMEOUT_S).close()
    except OSError as error:
        raise RunFailed(
            f"no RPC tracker at {address} ({error.strerror or error}); "
            "start one with: python -m tvm.exec.rpc_tracker"
        ) from None

    from tvm import rpc

    try:
        with _socket_timeout(TRACKER_TIMEOUT_S):
            session = rpc.connect_tracker(address.host, address.port)
            try:
                return queues(session.summary())
            finally:
                session.close()
    # TVM raises a plain RuntimeError, and what it makes of foreign bytes can be anything of these
    except (OSError, RuntimeError, ValueError) as error:
        raise RunFailed(
            f"what listens at {address} does not answer as a TVM RPC tracker ({error})"
        ) from error


def queues(summary: dict[str, Any]) -> list[DeviceQueue]:
    """The tracker's summary, sorted by key; keys that nobody serves or waits for left out."""
    servers: dict[str, list[str]] = {}
    for server in summary["server_info"]:
        # the tracker names a server "server:KEY"
        key = str(server["key"]).partition(":")[2]
        servers.setdefault(key, []).append(":".join(map(str, server["addr"])))
    counts = summary["queue_info"]
    found = [
        DeviceQueue(
            key,
            tuple(sorted(servers.get(key, []))),
            free=counts.get(key, {}).get("free", 0),
            pending=counts.get(key, {}).get("pending", 0),
        )
        for key in sorted({*servers, *counts})
    ]
    return [queue for queue in found if queue.servers or queue.pending]


def main(argv: Sequence[str] | None = None) -> int:
    """Command line of the ``devices`` stage; returns the exit status."""
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
        metavar=("arm", "N"),
        action=Emulate,
        help="start a tracker and N emulated ARM devices here, until Ctrl-C; "
        "--rpc-tracker then says where (make arm-emulator sets the device up)",
    )
    args = parser.parse_args(argv)
    return cli.run_stage(_body if args.emulate is None else _emulate, args)


class Emulate(argparse.Action):
    """``arm N``: the family of the emulated devices, and how many."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        family, count = values
        if family != "arm":
            parser.error(f"--emulate: only arm can be emulated, got {family!r}")
        try:
            namespace.emulate = cli.positive_int(count)
        except argparse.ArgumentTypeError as error:
            parser.error(f"--emulate: {error}")


def _emulate(args: argparse.Namespace) -> int:
    import signal

    from tvm_mobilenet import emulated_devices

    port = args.rpc_tracker.port if args.rpc_tracker else TRACKER_PORT
    with emulated_devices.serving(args.emulate, EMULATED_KEY, port) as (host, _):
        print(
            f"tracker {host}:{port} holds {args.emulate} emulated devices, key {EMULATED_KEY}; "
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


@contextmanager
def _socket_timeout(seconds: float) -> Iterator[None]:
    """TVM's tracker client has no timeout of its own; new sockets take this one meanwhile."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


if __name__ == "__main__":
    sys.exit(main())
