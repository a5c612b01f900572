"""What ``bench`` is asked to measure, as plain values, and what of it cannot be."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tvm_mobilenet import files
from tvm_mobilenet.benchmark.rounds import Plan
from tvm_mobilenet.errors import BadInput

if TYPE_CHECKING:
    from tvm_mobilenet.benchmark.sweep import Sweep
    from tvm_mobilenet.remote.tracker import TrackerAddress
    from tvm_mobilenet.results.schema import Neighbour


@dataclass(frozen=True)
class BenchRequest:
    """What is measured: ``bundles``, or a ``sweep`` of bundles compiled for it, beside ``against``.

    ``onnx`` or ``weights`` is the file that the bundles' network is from, ``calibrate`` the samples
    that peers are quantized with beside bundles in int8, ``labelled`` the images that all engines
    classify. Each of ``threads`` is measured by itself, and again beside each kind of ``noise``;
    ``precision`` is what was asked for of a
    sweep. It happens on this machine, on a device that ``tracker`` has under ``key`` (None: that of
    the target's file), or with ``count_instructions`` on an emulated core. With ``profile`` the
    layers of one bundle are timed instead. ``json`` is where the results go, ``command`` what they
    say they were made by; with ``resume`` what is there already stays.
    """

    bundles: tuple[Path, ...]
    against: tuple[str, ...] = ()
    threads: tuple[int, ...] = (1,)
    plan: Plan = field(default_factory=Plan)
    noise: tuple[Neighbour, ...] = ()
    onnx: Path | None = None
    weights: Path | None = None
    calibrate: Path | None = None
    labelled: Path | None = None
    sweep: Sweep | None = None
    precision: str | None = None
    profile: bool = False
    tracker: TrackerAddress | None = None
    key: str | None = None
    count_instructions: bool = False
    json: Path | None = None
    resume: bool = False
    command: str = ""

    def check(self) -> None:
        """Raise BadInput, before any work, for what cannot work."""
        if self.key is not None and self.tracker is None:
            raise BadInput("--rpc-key goes with --rpc-tracker: which tracker has the device")
        if self.count_instructions and (self.tracker or self.profile):
            raise BadInput("--count-instructions takes neither --rpc-tracker nor --profile")
        if self.noise and (self.tracker or self.count_instructions or self.profile):
            raise BadInput("--noise is for latencies on this machine; drop it")
        if self.profile and (self.sweep or len(self.bundles) != 1):
            raise BadInput("--profile takes one BUNDLE, and neither --sweep nor --zoo")
        if self.sweep and (self.bundles or self.onnx or self.weights):
            raise BadInput(
                "--sweep and --zoo compile their own bundles; drop BUNDLE, --onnx and --weights"
            )
        if self.precision is not None and not self.sweep:
            raise BadInput("--precision is for --sweep and --zoo; a BUNDLE has its own, drop it")
        if not self.sweep and not self.bundles:
            raise BadInput(
                "nothing to measure: pass a BUNDLE (from tvm-mobilenet compile), --sweep or --zoo"
            )
        if self.onnx is not None:
            files.check_file(self.onnx, f"--onnx {self.onnx}")
        if self.weights is not None:
            files.check_file(self.weights, f"--weights {self.weights}")
        if self.calibrate is not None and not self.calibrate.exists():
            raise BadInput(f"--calibrate {self.calibrate}: no such file")
        if self.labelled is not None and (self.sweep or self.profile or self.count_instructions):
            raise BadInput("--labelled is for the latencies of a BUNDLE; drop it")
        if self.labelled is not None:
            files.check_file(self.labelled, f"--labelled {self.labelled}")
        if self.resume and (self.sweep is None or self.json is None):
            raise BadInput(
                "--resume goes with --sweep or --zoo, and with the --json FILE to go on with"
            )
        if self.json is not None:
            files.check_replaceable(self.json, "--json")
