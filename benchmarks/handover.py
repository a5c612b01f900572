"""How far apart two CPUs are: by how long a cache line takes from one to the other and back.

    python benchmarks/handover.py

A virtual machine's CPUs are now two cores beside one cache, now two that share none, and for one
thread both are the same. Compiled from handover.c, since no Python is fast enough to ask.
"""

from __future__ import annotations

import ctypes
import subprocess
import sys
import tempfile
from pathlib import Path

from tvm_mobilenet import cli
from tvm_mobilenet.errors import RunFailed
from tvm_mobilenet.hardware.cores import usable_cores

SOURCE = Path(__file__).with_name("handover.c")
FLAGS = ("-O2", "-shared", "-fPIC", "-pthread")
TURNS = 1500  # about half a millisecond


class Handover:
    """Measures between the first two CPUs that this process may use when it is made.

    Raises RunFailed where there is one CPU only, or no gcc.
    """

    def __init__(self) -> None:
        self.cpus = usable_cores()[:2]
        if len(self.cpus) < 2:
            raise RunFailed("a handover is between two CPUs, and this process may use one")
        with tempfile.TemporaryDirectory() as folder:
            library = Path(folder, "handover.so")
            command = ["gcc", *FLAGS, "-o", str(library), str(SOURCE)]
            try:
                subprocess.run(command, check=True, capture_output=True, text=True)
            except (OSError, subprocess.CalledProcessError) as error:
                raise RunFailed(f"cannot compile {SOURCE.name}: {error}") from error
            self._function = ctypes.CDLL(str(library)).handover_ns
        self._function.restype = ctypes.c_double

    def ns(self) -> float:
        """Nanoseconds there and back, now."""
        return float(self._function(*self.cpus, TURNS))


def main() -> int:
    parser = cli.make_parser("handover", "How long a cache line takes between two CPUs.")
    return cli.run_stage(lambda _: show(), parser.parse_args())


def show() -> int:
    handover = Handover()
    first, second = handover.cpus
    print(f"CPU {first} to CPU {second} and back: {handover.ns():.0f} ns")
    return 0


if __name__ == "__main__":
    sys.exit(main())
