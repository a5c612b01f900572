"""A file of weights → the network it is of, its state dict, and how pictures become its input."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tvm_mobilenet import files, models, processes
from tvm_mobilenet.errors import BadInput
from tvm_mobilenet.weights import keras_files, tensorflow_files, torch_files
from tvm_mobilenet.weights.recipe import Recipe, recipe_of
from tvm_mobilenet.weights.tensors import Float, Tensors

if TYPE_CHECKING:
    from torch import nn

    from tvm_mobilenet.weights.matching import Fitting

READERS: dict[str, Callable[[Path], Tensors]] = {
    ".pt": torch_files.read_torch,
    ".pth": torch_files.read_torch,
    ".tar": torch_files.read_torch,  # timm's .pth.tar, which is no archive of tar
    ".bin": torch_files.read_torch,
    ".ckpt": torch_files.read_torch,
    ".safetensors": torch_files.read_safetensors,
    ".h5": keras_files.read_hdf5,
    ".hdf5": keras_files.read_hdf5,
    ".keras": keras_files.read_keras,
    ".pb": tensorflow_files.read_graph,
    ".index": tensorflow_files.read_checkpoint,
    ".npz": tensorflow_files.read_npz,
}
# fields of the configuration that say what a network ends in
ENDS = ("feature_strides", "head", "embedding_size")
WITHOUT_CLASSES = ("embedding", "features")
# what is hashed of a checkpoint of several files
SHARDS = ".data-*"

PADDINGS = {
    "pytorch": "symmetric padding",
    "tensorflow": "TensorFlow's SAME padding",
}
ROUNDINGS = {
    "down": "channels rounded down",
    "down_to_8": "channels rounded down, to 8 at least",
    "eights": "channels rounded to multiples of 8",
    "down_eights": "channels rounded down and then to multiples of 8",
}


@dataclass(frozen=True)
class Trained:
    """Weights of one network of ours: ``state`` is its state dict, of float32.

    ``source`` is the program they are from, ``implies`` what follows from that for the network, a
    fact each, and ``recipe`` what follows for pictures.
    ``sha256`` is of the file ``name``, and of what belongs to it.
    """

    config: models.Config
    state: Mapping[str, Float]
    recipe: Recipe
    name: str
    sha256: str
    source: str
    implies: tuple[str, ...]

    @property
    def line(self) -> str:
        """All of it in one line, for a person."""
        pixels, side = self.recipe.normalisation, self.config.resolution
        how = self.recipe.resizing.described(side, side)
        mean, std = (", ".join(f"{one:g}" for one in of) for of in (pixels.mean, pixels.std))
        pictures = f"pictures {how}, RGB * {pixels.scale:.6g} - ({mean}), by ({std})"
        return f"{self.name}: {self.source}'s; {'; '.join([*self.implies, pictures])}"


def is_weights(path: Path) -> bool:
    """Whether the file's name says that it holds weights of a kind that is known."""
    return path.suffix.lower() in READERS


def read(path: Path, model: str, **given: Any) -> Trained:
    """The weights in a file for a name in MODELS, in a process of its own.

    ``given`` are fields of the configuration that somebody asked for; those that are None, or left
    out, follow from the file. A network that ends in feature maps needs the trunk alone, one
    that ends in an embedding has the classifier's layer for it. Raises BadInput for a file that is
    none of a kind that is known, does not fit the network or contradicts ``given``; the line names
    the tensor.
    """
    files.check_file(path, f"weights {path}")
    if not is_weights(path):
        advice = "; a network goes with --onnx" if path.suffix == ".onnx" else ""
        raise BadInput(
            f"weights {path}: expected a file of {', '.join(READERS)}, got {path.suffix or 'none'}"
            f"{advice}"
        )
    models.config_from(model)  # a name that is unknown is said first
    return processes.call(read_here, path, model, **given)


def build(config: models.Config, state: Mapping[str, Float]) -> nn.Module:
    """The network in eval mode, with the weights of its state dict. Imports PyTorch."""
    import torch

    with torch.random.fork_rng(devices=[]):
        network = models.network_of(config)
    tensors = {name: torch.from_numpy(array) for name, array in state.items()}
    counters = {
        name: value
        for name, value in network.state_dict().items()
        if name.endswith("num_batches_tracked")
    }
    network.load_state_dict({**tensors, **counters})
    return network.eval()


def rebuild(path: Path, config: models.Config) -> nn.Module:
    """The network of ``config`` with the weights of a file that it was read from before."""
    options = models.options_of(config)
    name, alpha = models.name_of(config), models.width_of(config)
    trained = read(path, name, alpha=alpha, resolution=config.resolution, **options)
    return build(trained.config, trained.state)


def read_here(path: Path, model: str, **given: Any) -> Trained:
    """As ``read``, of a file that is there, in this process. Imports PyTorch."""
    from tvm_mobilenet.weights import matching  # imports PyTorch

    where = f"weights {path}"
    tensors = READERS[path.suffix.lower()](path)
    said = {name: value for name, value in given.items() if value is not None}
    end = {name: said.pop(name) for name in ENDS if name in said}
    head = end.get("head", "classes")
    if head == "ssd":
        raise BadInput(f"{where}: weights are read for trunks and classifiers, not for ssd")
    if head == "embedding" and "embedding_size" in end:  # its layer is called a classifier
        said["num_classes"] = end["embedding_size"]
    fitting = matching.fit(where, tensors, model, said)
    source = fitting.source.name
    config = _ended(fitting.config, head, end)
    needed = matching.names_in(config)
    state = matching.take(where, tensors, fitting, needed)
    absent = needed - state.keys()
    if absent:
        raise BadInput(
            f"{where}: has no {min(absent)}: weights are read for trunks and classifiers"
        )
    recipe = recipe_of(source, config, tensors.recipe)
    return Trained(
        config,
        {name: array for name, array in state.items() if name in needed},
        recipe,
        path.name,
        hash_of(path),
        source,
        tuple(_facts(fitting, head, tensors.part)),
    )


def _ended(config: models.Config, head: str, end: Mapping[str, Any]) -> models.Config:
    """The configuration of a whole network, which a file is of, with another end."""
    if not end:
        return config
    values = {**asdict(config), **end}
    if head == "embedding":
        values["embedding_size"] = config.num_classes
    if head in WITHOUT_CLASSES:
        del values["num_classes"]
    return models.from_dict(values)


def hash_of(path: Path) -> str:
    """The SHA-256 of a file of weights, and of the values of a checkpoint of TensorFlow."""
    digest = hashlib.sha256(path.read_bytes())
    if path.suffix == ".index":
        for shard in sorted(path.parent.glob(f"{path.stem}{SHARDS}")):
            digest.update(shard.read_bytes())
    return digest.hexdigest()


def _facts(fitting: Fitting, head: str, part: str | None) -> list[str]:
    config = fitting.config
    width = models.width_of(config)
    facts = [] if part is None else [f"its {part}"]
    facts += [] if width is None else [f"alpha {width:g}"]
    facts += [] if head in WITHOUT_CLASSES else [f"{config.num_classes} classes"]
    facts.append(PADDINGS[config.padding])
    activation = getattr(config, "activation", None)
    if activation is not None:
        facts.append("ReLU6" if activation == "relu6" else "ReLU")
    if config.batch_norm_epsilon is not None:
        facts.append(f"batch-norm epsilon {config.batch_norm_epsilon:g}")
    if width is not None:
        facts.append(ROUNDINGS[config.channel_rounding])
    return facts
