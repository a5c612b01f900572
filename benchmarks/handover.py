"""How far apart two CPUs are: by how long a cache line takes from one to the other and back.

    python benchmarks/handover.py

A virtual machine's CPUs are now two cores beside one cache, now two that share none, and for one
thread both are the same. ``bench`` asks once, at its start.
"""

from __future__ import annotations

import sys

from tvm_mobilenet import cli
from tvm_mobilenet.errors import RunFailed
from tvm_mobilenet.hardware.core_facts import handover_ns
from tvm_mobilenet.hardware.cores import usable_cores


class Handover:
    """Measures between the first two CPUs that this process may use when it is made.

    Raises RunFailed where there is one CPU only.
    """

    def __init__(self) -> None:
        self.cpus = usable_cores()[:2]
        if len(self.cpus) < 2:
            raise RunFailed("a handover is between two CPUs, and this process may use one")

    def ns(self) -> float:
        """Nanoseconds there and back, now. Raises RunFailed on another CPU than an x86-64."""
        try:
            return handover_ns(*self.cpus)
        except OSError as error:
            raise RunFailed(f"cannot measure a handover: {error}") from error


def main() -> int:
    parser = cli.make_parser("handover", "How long a cache line takes between two CPUs.")
    return cli.run_command(lambda _: show(), parser.parse_args())


def show() -> int:
    handover = Handover()
    first, second = handover.cpus
    print(f"CPU {first} to CPU {second} and back: {handover.ns():.0f} ns")
    return 0


if __name__ == "__main__":
    sys.exit(main())
