"""TVM's RPC tracker and RPC server, each in one process: what an emulated device starts.

``python -m tvm.exec.rpc_server`` starts a second Python, which serves while the first one waits for
it, and so does the tracker. Both import all of TVM, 10 s each under emulation, and torch where that
is installed. Here is the same server in the process itself.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from tvm_mobilenet import tvm_runtime
from tvm_mobilenet.remote.tracker import TrackerAddress, tracker_address


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until killed."""
    parser = argparse.ArgumentParser(prog="python -m tvm_mobilenet.remote.serve")
    kinds = parser.add_subparsers(dest="kind", required=True)
    for kind in ("tracker", "server"):
        flags = kinds.add_parser(kind)
        flags.add_argument("--host", required=True)
        flags.add_argument("--port", type=int, required=True, help="the first that it tries")
        flags.add_argument("--port-end", type=int, required=True, help="the one after the last")
    flags.add_argument("--tracker", type=tracker_address, required=True)
    flags.add_argument("--key", required=True)
    args = parser.parse_args(argv)
    ports = range(args.port, args.port_end)
    if args.kind == "tracker":
        serve_tracker(args.host, ports)
    else:
        serve_device(args.host, ports, args.tracker, args.key)
    return 1  # it does not end by itself


def serve_tracker(host: str, ports: range) -> None:
    """A tracker on the first of ``ports`` that is free."""
    with tvm_runtime.torch_left_out():
        from tvm.rpc.tracker import PopenTrackerServerState

    PopenTrackerServerState(host, ports.start, ports.stop, silent=True).thread.join()


def serve_device(host: str, ports: range, tracker: TrackerAddress, key: str) -> None:
    """This machine as a device of ``key``, on the first of ``ports`` that is free."""
    with tvm_runtime.torch_left_out():
        from tvm.rpc.server import PopenRPCServerState

    PopenRPCServerState(
        host,
        ports.start,
        ports.stop,
        tracker_addr=tuple(tracker),
        key=key,
        silent=True,
        # otherwise of two servers that start at once both may bind a port, and one cannot listen
        reuse_addr=False,
    ).thread.join()


if __name__ == "__main__":
    raise SystemExit(main())
