"""Bundles of one network, layer by layer in turns: which kernels are faster in which of them.

    python benchmarks/layer_pairs.py A B [C ...] [--runs 300] [--json FILE]

For kernels of two kinds on one CPU, such as VNNI's beside AMX's: whether the target was right to
take the last bundle's for each layer. All bundles run in one process on one thread, ten inferences
each in turns; a layer's time is the median of what the CPU's counter said within the inference.
Where the core had two states (docs/measuring.md), it is of inferences in the one that most were in.
"""

from __future__ import annotations

import argparse
import contextlib
import re
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tvm_mobilenet import cli, provenance
from tvm_mobilenet.errors import BadInput

if TYPE_CHECKING:
    from tvm_mobilenet.benchmark.profile.local import LocalNetwork
    from tvm_mobilenet.benchmark.profile.turns import Series
    from tvm_mobilenet.bundle import Manifest

TURN = 10  # inferences
APART = 1.1  # of less is not told: layers of a few µs of two equal bundles differ by 5 %
SIZES = re.compile(r"\d+x\d+x\d+(?:_\d+)?|\d+_\d+")  # of a layer, in its kernel's name


@dataclass(frozen=True)
class LayerTimes:
    """A layer's kernel and median in each bundle, in their order."""

    name: str
    kernels: tuple[str, ...]
    us: tuple[float, ...]

    @property
    def fastest(self) -> int:
        return self.us.index(min(self.us))

    @property
    def better_elsewhere(self) -> bool:
        """Than in the last bundle."""
        return self.us[-1] > APART * min(self.us)


def main() -> int:
    parser = cli.make_parser("layer_pairs", "Time the layers of several bundles in turns.")
    parser.add_argument("bundles", type=Path, nargs="+", metavar="BUNDLE")
    parser.add_argument("--runs", type=cli.positive_int, default=300, metavar="N")
    parser.add_argument("--json", type=cli.new_file, metavar="FILE")
    return cli.run_command(report, parser.parse_args())


def report(args: argparse.Namespace) -> int:
    if len(args.bundles) < 2:
        raise BadInput("expected two bundles or more, whose layers are compared")
    layers, state = compare(args.bundles, args.runs)
    print("\n".join(lines(args.bundles, layers, state)))
    if args.json:
        names = [str(one) for one in args.bundles]
        rows = [asdict(one) for one in layers]
        what = "median µs of each layer in each bundle, in turns on one thread"
        document = {"what": what, "bundles": names, "state": state, "layers": rows}
        provenance.write_results(args.json, document)
    return 0


def compare(bundles: Sequence[Path], runs: int) -> tuple[list[LayerTimes], str | None]:
    """The layers, and the state of the core that they were timed in, where it had two.

    Raises BadInput where the bundles are not of the same layers.
    """
    from tvm_mobilenet.benchmark.profile.local import LocalNetwork
    from tvm_mobilenet.runtime.session import load

    with contextlib.ExitStack() as stack:
        sessions = [stack.enter_context(load(one, 1)) for one in bundles]
        check_same(bundles, [one.manifest for one in sessions])
        networks = []
        for session in sessions:
            for place, x in zip(session.inputs, session.bundle.sample_inputs(), strict=True):
                place[...] = x
            networks.append(LocalNetwork(session))
        return time_layers(networks, runs)


def time_layers(networks: Sequence[LocalNetwork], runs: int) -> tuple[list[LayerTimes], str | None]:
    import numpy as np

    from tvm_mobilenet.benchmark.profile.turns import Turns

    turns = [Turns(one, ()) for one in networks]
    for network in networks:
        network.warm_up()
    for start in range(0, runs, TURN):
        for one in turns:
            one.take_layers(min(TURN, runs - start))
    kept, state = in_one_state([one.ticks for one in turns])
    medians = [
        np.median(np.array(series.values), axis=0) * one.elapsed_s / one.counted * 1e6
        for one, series in zip(turns, kept, strict=True)
    ]
    of_bundles = [one.manifest.layers for one in networks]
    layers = [
        LayerTimes(
            of_bundles[0][place].name,
            tuple(layers[place].workload for layers in of_bundles),
            tuple(float(one[place]) for one in medians),
        )
        for place in range(len(of_bundles[0]))
    ]
    return layers, state


def in_one_state(timed: Sequence[Series]) -> tuple[list[Series], str | None]:
    """What was timed in the state that most was timed in; all of it where there is one."""
    from tvm_mobilenet.benchmark import core_states
    from tvm_mobilenet.benchmark.profile.turns import FEWEST

    readings = [after for one in timed for _, after in one.around]
    shared_below = core_states.boundary(readings)
    if shared_below is None:
        return list(timed), None
    found = {
        name: [one.in_state(shared_below, shared=name == "shared") for one in timed]
        for name in ("alone", "shared")
    }
    name = max(found, key=lambda state: sum(len(one.values) for one in found[state]))
    if any(len(one.values) < FEWEST for one in found[name]):
        return list(timed), None
    return found[name], name


def check_same(bundles: Sequence[Path], manifests: Sequence[Manifest]) -> None:
    """Raise BadInput where they have not the same layers, whatever kernels they are by."""
    sizes = [[SIZES.findall(layer.workload) for layer in one.layers] for one in manifests]
    for path, other in zip(bundles[1:], sizes[1:], strict=True):
        if other != sizes[0]:
            raise BadInput(
                f"{path} has other layers than {bundles[0]} ({len(other)} and {len(sizes[0])}); "
                "compile one network for both"
            )


def lines(bundles: Sequence[Path], layers: Sequence[LayerTimes], state: str | None) -> list[str]:
    """A line for each layer, then what each bundle takes, and which layers are better elsewhere."""
    names = [one.name for one in bundles]
    width = max(len(one.kernels[-1]) for one in layers)
    columns = [max(9, len(name)) for name in names]
    heading = [f"{name:>{size}}" for name, size in zip(names, columns, strict=True)]
    found = [f"{'µs of each layer':{width + 3}} {' '.join(heading)}"]
    for one in layers:
        cells = [f"{us:{size}.1f}" for us, size in zip(one.us, columns, strict=True)]
        mark = f"  faster in {names[one.fastest]}" if one.better_elsewhere else ""
        found.append(f"{one.name} {one.kernels[-1]:{width}} {' '.join(cells)}{mark}")
    sums = [sum(one.us[place] for one in layers) for place in range(len(names))]
    best = sum(min(one.us) for one in layers)
    if state is not None:
        found.append(f"of inferences with the core {state}, which were most")
    found.append(
        ", ".join(f"{name} {us / 1e3:.3f} ms" for name, us in zip(names, sums, strict=True))
        + f"; {best / 1e3:.3f} ms with each layer by its fastest kernel"
    )
    better = [one for one in layers if one.better_elsewhere]
    found.append(
        f"{len(better)} of {len(layers)} layers are faster by more than {APART - 1:.0%} in another "
        f"bundle than {names[-1]}"
    )
    return found


if __name__ == "__main__":
    sys.exit(main())
