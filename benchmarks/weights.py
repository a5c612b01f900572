"""How far networks with weights from a file are from the program the file is from: results JSON.

    python benchmarks/weights.py --json weights.json

Each network of Keras, torchvision and timm that ``--weights`` reads gets random weights, is saved
as its users save it, read, and compiled; then an image goes through the library's own network, the
module with the weights read, and the bundle. A library that is not installed has no rows; nothing
is downloaded. A difference is the largest of a logit, by the largest logit of the library's.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tvm_mobilenet import api, cli, provenance, weights

SEED = 0
BATCH = 1
# the library's function, our name, its arguments
KERAS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("MobileNet", "mobilenet_v1", {"alpha": 1.0}),
    ("MobileNet", "mobilenet_v1", {"alpha": 0.25}),
    ("MobileNetV2", "mobilenet_v2", {"alpha": 1.0}),
    ("MobileNetV2", "mobilenet_v2", {"alpha": 0.35}),
)
TORCHVISION: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("mobilenet_v2", "mobilenet_v2", {}),
    ("mobilenet_v3_large", "mobilenet_v3_large", {}),
    ("mobilenet_v3_small", "mobilenet_v3_small", {}),
    ("mnasnet1_0", "mnasnet1_0", {}),
    ("shufflenet_v2_x1_0", "shufflenet_v2_x1_0", {}),
    ("resnet18", "resnet18", {}),
    ("efficientnet_b0", "efficientnet_b0", {}),
)
TIMM: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("mobilenetv1_100", "mobilenet_v1", {}),
    ("mobilenetv2_100", "mobilenet_v2", {}),
    ("mobilenetv3_large_100", "mobilenet_v3_large", {}),
    ("mobilenetv4_conv_small", "mobilenetv4_conv_small", {}),
    ("efficientnet_b0", "efficientnet_b0", {}),
    ("efficientnet_lite0", "efficientnet_lite0", {}),
    ("mobileone_s0", "mobileone_s0", {}),
    ("lcnet_100", "lcnet_100", {}),
    ("mnasnet_100", "mnasnet1_0", {}),
)


@dataclass(frozen=True)
class Row:
    """One network of one library; ``module`` and ``bundle`` are differences from it."""

    library: str
    version: str
    network: str
    arguments: dict[str, Any]
    model: str
    resolution: int
    file: str
    implies: tuple[str, ...]
    module: float
    bundle: float


@dataclass(frozen=True)
class Case:
    """A network of a library: its file, and what it makes of images (N, C, H, W)."""

    library: str
    network: str
    arguments: dict[str, Any]
    model: str
    file: Path
    run: Callable[[Any], Any]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", type=cli.new_file, metavar="FILE", help="write the rows here")
    args = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for cases in (keras_cases, torchvision_cases, timm_cases):
            for case in cases(Path(folder)):
                rows.append(measure(case, Path(folder)))
                one = rows[-1]
                print(
                    f"{one.library} {one.network} {one.arguments or ''} {one.file}: "
                    f"module {one.module:.1e}, bundle {one.bundle:.1e}",
                    flush=True,
                )
    if args.json is not None:
        results = [dataclasses.asdict(row) for row in rows]
        provenance.write_results(args.json, {"results": results})
        print(f"wrote {args.json}")
    return 0 if rows else 1


def measure(case: Case, folder: Path) -> Row:
    import torch

    trained = weights.read(case.file, case.model)
    shape = (BATCH, *trained.config.input_shape)
    x = np.random.default_rng(SEED).standard_normal(shape, dtype=np.float32)
    expected = case.run(x)
    with torch.inference_mode():
        module = weights.build(trained.config, trained.state)(torch.from_numpy(x)).numpy()
    bundle = folder / "bundle"
    api.compile_bundle(bundle, weights=case.file, name=case.model)
    with api.load(bundle) as session:
        compiled = session.run(x)
    return Row(
        case.library,
        importlib.import_module(case.library).__version__,
        case.network,
        case.arguments,
        case.model,
        trained.config.resolution,
        case.file.name,
        trained.implies,
        difference(module, expected),
        difference(compiled, expected),
    )


def difference(found: Any, expected: Any) -> float:
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def keras_cases(folder: Path) -> Iterator[Case]:
    os.environ["KERAS_BACKEND"] = "torch"
    os.environ["KERAS_HOME"] = str(folder / "keras")
    if not installed("keras"):
        return
    import keras

    for number, (name, model, arguments) in enumerate(KERAS):
        made: Any = getattr(keras.applications, name)(
            weights=None, classifier_activation=None, **arguments
        )
        rng = np.random.default_rng(SEED)
        values = (random_values(one.path, tuple(one.shape), rng) for one in made.weights)
        made.set_weights([one.astype(np.float32) for one in values])
        file = folder / ("weights.keras" if number % 2 else "weights.h5")
        made.save(str(file))
        yield Case("keras", name, arguments, model, file, in_keras(made))


def in_keras(network: Any) -> Callable[[Any], Any]:
    def run(x: Any) -> Any:
        import torch

        with torch.no_grad():
            return network(x.transpose(0, 2, 3, 1), training=False).numpy().reshape(len(x), -1)

    return run


def torchvision_cases(folder: Path) -> Iterator[Case]:
    if installed("torchvision"):
        import torchvision

        for name, model, arguments in TORCHVISION:
            made = getattr(torchvision.models, name)(**arguments)
            yield torch_case("torchvision", name, arguments, model, made, folder / "weights.pth")


def timm_cases(folder: Path) -> Iterator[Case]:
    if installed("timm"):
        import timm

        for name, model, arguments in TIMM:
            made = timm.create_model(name, **arguments)
            file = folder / "weights.safetensors"
            yield torch_case("timm", name, arguments, model, made, file)


def torch_case(
    library: str, name: str, arguments: dict[str, Any], model: str, made: Any, file: Path
) -> Case:
    import safetensors.torch
    import torch

    state = made.state_dict()
    rng = np.random.default_rng(SEED)
    for key, tensor in state.items():
        if not key.endswith("num_batches_tracked"):
            tensor.copy_(torch.from_numpy(random_values(key, tuple(tensor.shape), rng)))
    if file.suffix == ".safetensors":
        safetensors.torch.save_file(state, file)
    else:
        torch.save({"model": state, "epoch": 0}, file)
    made.eval()

    def run(x: Any) -> Any:
        with torch.inference_mode():
            return made(torch.from_numpy(x)).numpy()

    return Case(library, name, arguments, model, file, run)


def random_values(name: str, shape: tuple[int, ...], rng: np.random.Generator) -> Any:
    """Of a tensor by its name in any library: such as keep activations at their scale."""
    leaf = name.replace("/", ".").rpartition(".")[2]
    if leaf in ("running_var", "moving_variance"):
        return rng.uniform(0.8, 1.2, shape)
    if len(shape) > 1:
        inputs = shape[1:] if leaf == "weight" else shape[:2] if shape[-1] == 1 else shape[:-1]
        return rng.standard_normal(shape) * np.sqrt(1.5 / np.prod(inputs))
    if leaf in ("weight", "gamma"):
        return rng.uniform(0.7, 1.0, shape)
    return rng.normal(0, 0.2, shape)


def installed(library: str) -> bool:
    try:
        importlib.import_module(library)
    except ImportError:
        print(f"{library} is not installed: no rows of it", file=sys.stderr)
        return False
    return True


if __name__ == "__main__":
    sys.exit(main())
