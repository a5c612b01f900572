"""The ``tvm-mobilenet`` command: hands over to the stage it names, and imports only that one."""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import sys
from collections.abc import Sequence
from types import FrameType
from typing import NamedTuple, NoReturn

from tvm_mobilenet import __version__

STDERR = 2  # the file descriptor


class Stage(NamedTuple):
    """A stage of the command line: its module (with ``main(argv) -> int``) and what it does."""

    module: str
    summary: str


STAGES: dict[str, Stage] = {
    "tune": Stage("tvm_mobilenet.tune", "search schedules for a target, keep the best as records"),
    "records": Stage("tvm_mobilenet.records", "list, verify and merge tuning records"),
    "compile": Stage("tvm_mobilenet.compile", "compile a network with its records into a bundle"),
    "run": Stage("tvm_mobilenet.run", "run a bundle on its sample, an array or an image"),
    "inspect": Stage("tvm_mobilenet.inspect", "what a bundle holds: tensors, memory, layers"),
    "bench": Stage("tvm_mobilenet.bench", "time bundles beside other engines, results as JSON"),
    "report": Stage("tvm_mobilenet.report", "results JSON to Markdown, HTML or a table"),
    "devices": Stage("tvm_mobilenet.devices", "targets known, this host, devices of a tracker"),
    "cost": Stage("tvm_mobilenet.cost", "multiply-adds and parameters by layer and by type"),
}


def command() -> NoReturn:
    """The installed program, and ``python -m tvm_mobilenet``."""
    signal.signal(signal.SIGINT, _end_at_once)  # until ``ending`` is imported and takes over
    from tvm_mobilenet import ending

    ending.leave(main())


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``tvm-mobilenet STAGE …``; returns the stage's exit status, 2 for an unknown stage."""
    from tvm_mobilenet import ending

    arguments = list(sys.argv[1:] if argv is None else argv)
    return ending.run(lambda: _hand_over(arguments), debug="--debug" in arguments)


def _end_at_once(number: int, _frame: FrameType | None) -> None:
    """On Ctrl-C before anything was begun."""
    with contextlib.suppress(OSError):
        os.write(STDERR, b"interrupted\n")
    os._exit(128 + number)


def _hand_over(arguments: list[str]) -> int:
    from tvm_mobilenet import ending

    name = arguments[0] if arguments else ""
    if name in ("-h", "--help"):
        print(_help())
        return 0
    if name == "--version":
        print(f"tvm-mobilenet {__version__}")
        return 0
    if name not in STAGES:
        what = f"unknown stage {name!r}" if name else "no stage given"
        ending.say(f"error: {what}; there are: {', '.join(STAGES)}")
        return ending.BAD_INPUT
    status: int = importlib.import_module(STAGES[name].module).main(arguments[1:])
    return status


def _help() -> str:
    width = max(map(len, STAGES))
    stages = "\n".join(f"  {name:{width}}  {stage.summary}" for name, stage in STAGES.items())
    return (
        "usage: tvm-mobilenet [--help] [--version] STAGE ...\n\n"
        "MobileNet from PyTorch through ONNX into Apache TVM, tuned per target.\n\n"
        f"stages:\n{stages}\n\n"
        "'tvm-mobilenet STAGE --help' shows a stage's flags.\n"
        "exit status: 0 done, 1 it ran and failed, 2 bad input, 130 interrupted by\n"
        "Ctrl-C, 143 by SIGTERM, 129 by SIGHUP"
    )


if __name__ == "__main__":
    command()
