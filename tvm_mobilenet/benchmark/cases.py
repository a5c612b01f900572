"""What ``bench`` measures together: one network, the bundles of it, and the peers."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import platform
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np

from tvm_mobilenet import models, processes
from tvm_mobilenet.benchmark import labelled
from tvm_mobilenet.benchmark.engines import ENGINES, OURS, tflite_file
from tvm_mobilenet.benchmark.engines.int8_peers import quantized_for_peers, right_by, with_tflite
from tvm_mobilenet.benchmark.engines.networks import (
    Network,
    from_config,
    from_onnx,
    with_fixed_sizes,
)
from tvm_mobilenet.benchmark.engines.protocol import EngineUnavailable
from tvm_mobilenet.benchmark.engines.quantized import Activations, quantize, samples
from tvm_mobilenet.benchmark.engines.verify import Right
from tvm_mobilenet.benchmark.rows import Candidate
from tvm_mobilenet.bundle import open_bundle
from tvm_mobilenet.bundle.manifest import Manifest
from tvm_mobilenet.bundle.meaning import GPU_EXECUTOR
from tvm_mobilenet.compiler.precision import IN_HALVES, TOLERANCES
from tvm_mobilenet.errors import BadInput
from tvm_mobilenet.results.schema import Precision
from tvm_mobilenet.weights import hash_of

if TYPE_CHECKING:
    from tvm_mobilenet.benchmark.engines.protocol import Array

# the keys under which a manifest names its ONNX file, and the files that hold its weights
_ONNX_HASH, _WEIGHTS_HASHES = "onnx_sha256", "weights_sha256"
_BYTES_PER_MB = 1e6
PEERS_PRECISION = "fp32"


@dataclass(frozen=True)
class Files:
    """What a bundle's network is from: an ONNX file, or one of weights; None where not given.

    ``calibrate`` are the samples that the peers of an int8 bundle are quantized with, ``labelled``
    the images that all engines classify.
    """

    onnx: Path | None = None
    weights: Path | None = None
    calibrate: Path | None = None
    labelled: Path | None = None


@dataclass(frozen=True)
class Case:
    """Engines that are measured together on one network."""

    network: Network
    candidates: tuple[Candidate, ...]

    @property
    def title(self) -> str:
        network = self.network
        batch = "" if network.batch == 1 else f", batch {network.batch}"
        alpha = "" if network.alpha is None else f"{network.alpha}-"
        return f"{network.model} {alpha}{network.resolution}{batch}, {network.precision}"


@dataclass(frozen=True)
class _Opened:
    """What is known of a bundle whose checks have passed."""

    path: Path
    manifest: Manifest
    samples: tuple[Array, ...]
    expected: tuple[Array, ...]
    tolerance: float

    @property
    def batch(self) -> int:
        return self.manifest.inputs[0].shape[0]

    @property
    def resolution(self) -> int:
        """The width of the first input that is images."""
        images = [one for one in self.manifest.inputs if "W" in one.layout]
        return images[0].shape[images[0].layout.index("W")] if images else 1

    @property
    def key(self) -> tuple[str, int, str]:
        """Equal for bundles of the same network, which are measured together."""
        file = self.manifest.weights_file
        weights = None if file is None else file.sha256
        model = json.dumps([dict(self.manifest.model), weights], sort_keys=True)
        return (model, self.batch, self.manifest.precision)


def from_bundles(
    paths: Sequence[Path],
    files: Files,
    against: Sequence[str],
    scratch: Path,
    architecture: str | None = None,
) -> Iterator[Case]:
    """The cases of these bundles, each prepared when its turn comes.

    ``architecture`` is that of the device that will run them, None for this machine.

    Every bundle is checked first. Raises BadInput for one that is damaged or for another machine,
    that computes otherwise than the peers, or that does not go with ``files``. Exported ONNX files
    go to ``scratch``.
    """
    groups: dict[tuple[str, int, str], list[_Opened]] = {}
    for path in paths:
        opened = _open(path, files, architecture)
        _check_precision(opened, against, files)
        groups.setdefault(opened.key, []).append(opened)
    return (_case(group, files, against, scratch, architecture) for group in groups.values())


def _open(path: Path, files: Files, architecture: str | None) -> _Opened:
    with open_bundle(path, architecture) as bundle:
        opened = _Opened(
            path,
            bundle.manifest,
            bundle.sample_inputs(),
            bundle.expected_outputs(),
            bundle.tolerance(),
        )
    if files.onnx is not None:
        check_onnx(opened, files.onnx)
    if files.weights is not None:
        _check_weights(opened, files.weights)
    return opened


def _check_calibrated(opened: _Opened, against: Sequence[str], files: Files) -> None:
    """Raise BadInput where the peers cannot have the network of float in int8 too."""
    if against and files.calibrate is None:
        raise BadInput(
            f"{opened.path}: its precision is int8; give the --calibrate SAMPLES that the peers' "
            "network is quantized with, or bench it by itself, with --against none"
        )


def _check_precision(opened: _Opened, against: Sequence[str], files: Files) -> None:
    precision = opened.manifest.precision
    if precision not in TOLERANCES:
        raise BadInput(
            f"{opened.path}: its precision is {precision}; bench knows {', '.join(TOLERANCES)}"
        )
    if opened.manifest.quantization is not None:
        _check_calibrated(opened, against, files)
        return
    halves = precision in IN_HALVES and opened.manifest.executor != GPU_EXECUTOR
    if halves or (precision == "int8" and files.onnx is not None):
        return  # which the peers compute in it as well
    if precision != PEERS_PRECISION and against:
        raise BadInput(
            f"{opened.path}: its precision is {precision}, the peers' is {PEERS_PRECISION}; "
            "bench it by itself, with --against none"
        )


def check_onnx(opened: _Opened, onnx: Path) -> None:
    if _ONNX_HASH not in opened.manifest.model:
        raise BadInput(f"{opened.path}: was compiled from one of our models; drop --onnx")
    model = opened.manifest.model
    digests = {onnx: model[_ONNX_HASH]}
    digests |= {onnx.parent / name: one for name, one in model.get(_WEIGHTS_HASHES, {}).items()}
    for file, digest in digests.items():
        if not file.is_file() or hashlib.sha256(file.read_bytes()).hexdigest() != digest:
            raise BadInput(f"{opened.path}: was compiled from another ONNX file than {file}")


def _check_weights(opened: _Opened, weights: Path) -> None:
    known = opened.manifest.weights_file
    if known is None:
        raise BadInput(f"{opened.path}: was not compiled with a file of weights; drop --weights")
    if hash_of(weights) != known.sha256:
        raise BadInput(f"{opened.path}: was compiled with another file of weights than {weights}")


def _case(
    group: Sequence[_Opened],
    files: Files,
    against: Sequence[str],
    scratch: Path,
    architecture: str | None,
) -> Case:
    first, onnx = group[0], files.onnx
    config = _config(first)
    precision = cast(Precision, first.manifest.precision)  # one of TOLERANCES: checked
    absent = first.manifest.weights_file is not None and files.weights is None
    if config is None or absent or ENGINES["pytorch"].missing() is not None:
        # Without PyTorch, as on a device, or without the weights, the bundle's own sample has to do
        name = first.path.stem if onnx is None else onnx.stem
        if onnx is not None:
            onnx = with_fixed_sizes(onnx, [one.shape for one in first.samples], scratch)
        network = from_onnx(onnx, name, first.samples, first.expected, precision, first.resolution)
        if onnx is None and precision in IN_HALVES:
            network = dataclasses.replace(network, tolerance=first.tolerance)
        if config is not None:
            alpha = models.width_of(config)
            network = dataclasses.replace(network, model=models.name_of(config), alpha=alpha)
    else:
        network = of_model(config, first.batch, precision, against, scratch, files.weights)
    if files.labelled is not None:
        known = labelled.read(files.labelled, network.inputs)
        network = dataclasses.replace(network, labelled=known)
    ours = [bundle_candidate(opened.path, name, architecture) for opened, name in _named(group)]
    if first.manifest.quantization is not None:
        case = Case(network, tuple(ours))
        return _quantized_one_by_one(first, case, files, against, scratch, architecture)
    return Case(network, (*ours, *peer_candidates(against, network, architecture)))


def _quantized_one_by_one(
    first: _Opened,
    case: Case,
    files: Files,
    against: Sequence[str],
    scratch: Path,
    architecture: str | None,
) -> Case:
    """The ``case`` of bundles that ``compile`` quantized: peers have an int8 network of their own.

    Each bundle is right as its own sample says, the peers as their file.
    """
    network = dataclasses.replace(
        case.network, inputs=first.samples, expected=first.expected, reference="expected_output"
    )
    candidates = []
    for one in case.candidates:
        assert one.bundle is not None
        with open_bundle(one.bundle, architecture) as bundle:
            known = Right(bundle.expected_outputs(), bundle.tolerance())
        candidates.append(dataclasses.replace(one, right=known))
    right: Right | None = None
    if network.onnx is not None and files.calibrate is not None and against:
        made = quantized_for_peers(
            network.onnx, files.calibrate, first.manifest.inputs, first.samples, scratch
        )
        right = made.right
        quantized = dataclasses.replace(network, onnx=made.path, expected=right.outputs)
        tflite = with_tflite(quantized, made.exact, made.batches, scratch / "int8.tflite")
        network = dataclasses.replace(tflite, expected=network.expected)
    for one in peer_candidates(against, network, architecture):
        if one.entry.needs == "config":
            one = dataclasses.replace(one, absent="computes in fp32, which is no peer of int8")
        candidates.append(dataclasses.replace(one, right=one.right or right))
    return Case(network, tuple(candidates))


def _config(opened: _Opened) -> models.Config | None:
    """The configuration of one of our models; None for a bundle from an ONNX file."""
    if _ONNX_HASH in opened.manifest.model:
        return None
    return models.from_dict(opened.manifest.model)


def _named(group: Sequence[_Opened]) -> Iterator[tuple[_Opened, str]]:
    """Each bundle with its row's name: ``bundle``, or ``bundle:FILE`` where there are several."""
    stems = [opened.path.stem for opened in group]
    for opened, stem in zip(group, stems, strict=True):
        if len(group) == 1:
            yield opened, OURS
        else:
            yield opened, f"{OURS}:{stem if stems.count(stem) == 1 else opened.path}"


def of_model(
    config: models.Config,
    batch: int,
    precision: Precision,
    against: Sequence[str],
    scratch: Path,
    weights: Path | None = None,
) -> Network:
    """One of our models, in ``scratch`` in the forms that the engines ``against`` want."""
    wanted: set[str] = {ENGINES[name].needs for name in against}
    if precision in IN_HALVES:  # which LiteRT does not have; ONNX also says how near is right
        wanted = (wanted | {"onnx"}) - {"tflite"}
    path = scratch / f"{models.name_of(config)}-{models.variant_of(config)}-{batch}.onnx"
    network = from_config(config, batch, precision, path if "onnx" in wanted else None, weights)
    network = dataclasses.replace(network, model=model_name(config))
    if "tflite" not in wanted:
        return network
    tflite = path.with_suffix(".tflite")
    try:
        tflite_file.convert(config, network.inputs[0].shape, tflite, weights)
    except EngineUnavailable as error:
        return dataclasses.replace(network, lacks={"tflite": str(error)})
    return dataclasses.replace(network, tflite=tflite)


def quantized(
    config: models.Config,
    batch: int,
    against: Sequence[str],
    scratch: Path,
    activations: Activations = "uint8",
) -> Network:
    """One of our models in int8: as a QDQ file in ``scratch``, and for LiteRT as its own.

    PyTorch quantizes the module itself.
    """
    network = of_model(config, batch, "fp32", ("onnxruntime", *against), scratch)
    assert network.onnx is not None
    path = network.onnx.with_suffix(".int8.onnx")
    processes.call(quantize, network.onnx, path, None, activations)
    in_int8 = dataclasses.replace(
        from_onnx(path, network.model, network.inputs, (), "int8", network.resolution),
        alpha=network.alpha,
        config=network.config,
        tflite=network.tflite,
        lacks=network.lacks,
    )
    in_int8 = dataclasses.replace(in_int8, rights=right_by(("config",), in_int8, network.expected))
    batches = [next(iter(one.values())) for one in samples(network.onnx)]
    return with_tflite(in_int8, network.expected, batches, path.with_suffix(".tflite"))


def model_name(config: models.Config) -> str:
    """The name in MODELS, and every option beyond alpha and resolution that is not the default."""
    options = [f"{name}={value}" for name, value in models.options_of(config).items()]
    return " ".join([models.name_of(config), *options])


def bundle_candidate(path: Path, name: str = OURS, architecture: str | None = None) -> Candidate:
    """A bundle as one that takes part."""
    with open_bundle(path, architecture) as bundle:
        manifest = bundle.manifest
    return Candidate(
        name=name,
        entry=ENGINES[OURS],
        target=manifest.target.name,
        bundle=path,
        tuned=bool(manifest.layers) and all(layer.tuned for layer in manifest.layers),
        artifact_mb=_size_mb(path),
        accuracy=manifest.accuracy,
    )


def peer_candidates(
    names: Sequence[str], network: Network, architecture: str | None = None
) -> list[Candidate]:
    """The peers as ones that take part; their target is the device's or this architecture."""
    forms = {"onnx": network.onnx, "tflite": network.tflite}
    sizes = {form: _size_mb(path) for form, path in forms.items() if path is not None}
    return [
        Candidate(
            name=name,
            entry=ENGINES[name],
            target=architecture or platform.machine(),
            artifact_mb=sizes.get(ENGINES[name].needs),
            absent=network.lacks.get(ENGINES[name].needs),
            right=network.rights.get(ENGINES[name].needs),
        )
        for name in names
    ]


def _size_mb(path: Path) -> float:
    files = [file for file in path.iterdir() if file.is_file()] if path.is_dir() else [path]
    return float(np.sum([file.stat().st_size for file in files])) / _BYTES_PER_MB
