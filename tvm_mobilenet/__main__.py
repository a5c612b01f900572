"""``tvm-mobilenet``: hands over to the command it names, and imports only that one.

Next to nothing is imported here: until ``command`` has run, Ctrl-C shows a traceback of Python's.
"""

from __future__ import annotations

import os
import signal
import sys

TYPE_CHECKING = False  # what typing's stands for, without importing typing
if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType
    from typing import NoReturn

STDERR = 2  # the file descriptor

# By name, what it does; each is the module of that name, with ``main(argv) -> int``.
COMMANDS = {
    "tune": "search schedules for a target, keep the best as records",
    "records": "list, verify and merge tuning records",
    "compile": "compile a network with its records into a bundle",
    "run": "run a bundle on its sample, an array or an image",
    "inspect": "what a bundle holds: tensors, memory, layers",
    "bench": "time bundles beside other engines, results as JSON",
    "report": "results JSON to Markdown, HTML or a table",
    "devices": "targets known, this host, devices of a tracker",
    "cost": "multiply-adds and parameters by layer and by type",
}


def command() -> NoReturn:
    """The installed program, and ``python -m tvm_mobilenet``."""
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # as in a script's background
        signal.signal(signal.SIGINT, _end_at_once)  # until ``ending`` is imported and takes over
    from tvm_mobilenet import ending

    ending.leave(main())


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``tvm-mobilenet COMMAND …``; returns its exit status, 2 for one that is unknown."""
    from tvm_mobilenet import ending

    arguments = list(sys.argv[1:] if argv is None else argv)
    return ending.run(lambda: _hand_over(arguments), debug="--debug" in arguments)


def module_of(name: str) -> str:
    """The module of a command."""
    return f"tvm_mobilenet.{name}"


def _end_at_once(number: int, _frame: FrameType | None) -> None:
    """On Ctrl-C before anything was begun."""
    try:  # noqa: SIM105 - without importing contextlib
        os.write(STDERR, b"interrupted\n")
    except OSError:  # nowhere to say it
        pass
    os._exit(128 + number)


def _hand_over(arguments: list[str]) -> int:
    import importlib

    from tvm_mobilenet import __version__, ending

    name = arguments[0] if arguments else ""
    if name in ("-h", "--help"):
        print(_help())
        return 0
    if name == "--version":
        print(f"tvm-mobilenet {__version__}")
        return 0
    if name not in COMMANDS:
        what = f"unknown command {name!r}" if name else "no command given"
        ending.say(f"error: {what}; there are: {', '.join(COMMANDS)}")
        return ending.BAD_INPUT
    status: int = importlib.import_module(module_of(name)).main(arguments[1:])
    return status


def _help() -> str:
    width = max(map(len, COMMANDS))
    commands = "\n".join(f"  {name:{width}}  {summary}" for name, summary in COMMANDS.items())
    return (
        "usage: tvm-mobilenet [--help] [--version] COMMAND ...\n\n"
        "MobileNet from PyTorch through ONNX into Apache TVM, tuned per target.\n\n"
        f"commands:\n{commands}\n\n"
        "'tvm-mobilenet COMMAND --help' shows a command's flags.\n"
        "exit status: 0 done, 1 it ran and failed, 2 bad input, 130 interrupted by\n"
        "Ctrl-C, 143 by SIGTERM, 129 by SIGHUP"
    )


if __name__ == "__main__":
    command()
