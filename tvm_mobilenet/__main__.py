"""The ``tvm-mobilenet`` command: hands over to the stage it names, and imports only that one."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from typing import NamedTuple

from tvm_mobilenet import __version__, ending


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


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``tvm-mobilenet STAGE …``; returns the stage's exit status, 2 for an unknown stage."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    return ending.run(lambda: _hand_over(arguments), debug="--debug" in arguments)


def _hand_over(arguments: list[str]) -> int:
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
        "exit status: 0 done, 1 it ran and failed, 2 bad input, 130 interrupted (by\n"
        "Ctrl-C, SIGTERM or SIGHUP; nothing is left in the temporary folder)"
    )


if __name__ == "__main__":
    sys.exit(main())
