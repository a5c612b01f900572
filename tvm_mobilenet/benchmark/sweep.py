"""Many networks, compiled one after the other and measured beside the peers.

They are the 16 variants of MobileNetV1's paper, or the zoo: the networks people ship.
"""

from __future__ import annotations

import platform
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tvm_mobilenet import models, processes
from tvm_mobilenet.benchmark import cases
from tvm_mobilenet.benchmark.engines import ENGINES, OURS
from tvm_mobilenet.benchmark.engines.quantized import Activations
from tvm_mobilenet.benchmark.progress import PlainProgress
from tvm_mobilenet.benchmark.resume import Network
from tvm_mobilenet.benchmark.rows import Candidate
from tvm_mobilenet.compiler.precision import Precision
from tvm_mobilenet.errors import BadInput, RunFailed
from tvm_mobilenet.hardware import target as targets
from tvm_mobilenet.models.variants import VARIANTS

# each at the size it was published with
ZOO = (
    "mobilenet_v1",
    "mobilenet_v1_tensorflow",
    "mobilenet_v2",
    "mobilenet_v3_large",
    "mobilenet_v3_small",
    "mnasnet1_0",
    "mobilenetv4_conv_small",
    "efficientnet_lite0",
    "efficientnet_b0",
    "lcnet_100",
    "mobileone_s0",
    "shufflenet_v2_x1_0",
    "resnet18",
    "mobilenet_v1_full_convolution",
)


@dataclass(frozen=True)
class Sweep:
    """What is compiled: for which target, for how many images, with which records, which networks.

    ``only`` is the one variant of MobileNetV1, alpha and resolution, that it is of, where not all.
    ``records`` is a folder, None for the records that ``database.lookup`` finds. In int8 all
    engines get the same quantized file (engines/quantized.py).
    """

    target: str
    batch: int = 1
    records: Path | None = None
    which: Literal["variants", "zoo"] = "variants"
    precision: Literal["fp32", "bf16", "fp16", "int8"] = "fp32"
    only: tuple[float, int] | None = None

    def configs(self) -> Iterator[models.Config]:
        """The networks: MobileNetV1's 16 variants, or each of the zoo."""
        if self.only is not None:
            yield models.config_from(models.DEFAULT_MODEL, *self.only)
        elif self.which == "zoo":
            yield from (models.config_from(name) for name in ZOO)
        else:
            yield from (models.config_from(models.DEFAULT_MODEL, *variant) for variant in VARIANTS)

    def networks(self) -> list[Network]:
        """What their rows will be called, in the same order."""
        return [_network(config) for config in self.configs()]

    def cases(
        self,
        against: Sequence[str],
        scratch: Path,
        progress: PlainProgress,
        architecture: str | None = None,
        without: Collection[Network] = (),
    ) -> Iterator[cases.Case]:
        """The cases of all networks but those ``without``, each compiled when its turn comes.

        ``architecture`` is that of the device that will run them, None for this machine. A network
        that does not compile still gives its case, with the reason in the row of ours.
        """
        for config in self.configs():
            if _network(config) in without:
                continue
            name, variant = models.name_of(config), models.variant_of(config)
            progress.heading(f"{name} {variant}: compiling")
            bundle = scratch / f"{name}-{variant}.tar"
            if self.precision == "int8":
                activations: Activations = "int8" if self.is_arm() else "uint8"
                network = cases.quantized(config, self.batch, against, scratch, activations)
                assert network.onnx is not None
                ours = self.compile(network.onnx, bundle, architecture)
            else:
                ours = self.compile(config, bundle, architecture)
                network = cases.of_model(config, self.batch, self.precision, against, scratch)
            peers = cases.peer_candidates(against, network, architecture)
            yield cases.Case(network, (ours, *peers))

    def is_arm(self) -> bool:
        return targets.resolve(self.target).family == "arm"

    def compile(
        self, config: models.Config | Path, output: Path, architecture: str | None
    ) -> Candidate:
        """A network as one that takes part, or one that is absent because it does not compile."""
        try:
            processes.call(_compile, self, config, output)
            return cases.bundle_candidate(output, architecture=architecture)
        except (BadInput, RunFailed) as error:
            reason = f"does not compile: {error}"
            return Candidate(OURS, ENGINES[OURS], architecture or platform.machine(), absent=reason)


def _network(config: models.Config) -> Network:
    return cases.model_name(config), models.width_of(config), config.resolution


def _compile(sweep: Sweep, config: models.Config | Path, output: Path) -> None:
    from tvm_mobilenet.building.bundles import build_bundle
    from tvm_mobilenet.compiler.options import CompileOptions
    from tvm_mobilenet.database.lookup import open_records
    from tvm_mobilenet.network import source

    spec = targets.resolve(sweep.target)
    if isinstance(config, Path):
        network = source.from_onnx(config)
    else:
        network = source.from_config(config, sweep.batch)
    records = open_records(spec, sweep.records)
    # a quantized file says by itself that it is in int8
    precision: Precision = "fp32" if sweep.precision == "int8" else sweep.precision
    build_bundle(network, CompileOptions(spec, precision), output, records)
