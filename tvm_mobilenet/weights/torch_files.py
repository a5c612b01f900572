"""Checkpoints of PyTorch and safetensors: arrays only, whatever else such a file may hold.

A checkpoint is a pickle, which can run any code as it is read. ``weights_only`` reads tensors and
plain containers and refuses the rest; so is a training script's ``argparse.Namespace`` read, which
is no more than a dictionary.
"""

from __future__ import annotations

import argparse
import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tvm_mobilenet import extras, strict
from tvm_mobilenet.chatter import MOST_OF_REASON
from tvm_mobilenet.errors import BadInput, first_line
from tvm_mobilenet.weights.tensors import Array, Tensors

# Where training scripts keep the weights, in the order of preference: the average of many steps,
# which is what their authors evaluate, comes first.
PARTS = ("state_dict_ema", "model_ema", "ema_state_dict", "ema", "state_dict", "model", "network")
# What wrappers put before every name.
PREFIXES = ("module.", "_orig_mod.", "model.")
# State that is no weight: how often batch norm, or an average of weights, was updated.
COUNTERS = ("num_batches_tracked", "n_averaged")
CONFIG = "config.json"  # timm's, beside a file of its hub


def read_torch(path: Path) -> Tensors:
    """A file of ``torch.save``: a state dict, or a dictionary that holds one.

    Raises BadInput for a file that would run code, is no such file or holds no state dict.
    """
    import torch

    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise BadInput(f"weights {path}: {_refusal(error)}") from None
    except Exception as error:  # a broken archive or pickle raises whatever it meets
        reason = first_line(error)[:MOST_OF_REASON]
        raise BadInput(f"weights {path}: not a checkpoint of PyTorch: {reason}") from None
    part, state = _state_of(content)
    if state is None:
        raise BadInput(
            f"weights {path}: expected a state dict, or one under {', '.join(PARTS)}, got "
            f"{_kind(content)}"
        )
    arrays = {name: _to_array(path, name, value) for name, value in state.items()}
    return Tensors("torch", _plain(arrays), recipe=_recipe_beside(path), part=part)


def read_safetensors(path: Path) -> Tensors:
    """A file of safetensors. Raises BadInput for what is none."""
    extras.require_module("safetensors", "weights")
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        state = load_file(path)
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise BadInput(f"weights {path}: not safetensors: {first_line(error)}") from None
    arrays = {name: _to_array(path, name, value) for name, value in state.items()}
    return Tensors("torch", _plain(arrays), recipe=_recipe_beside(path))


def _refusal(error: pickle.UnpicklingError) -> str:
    text = str(error)
    called = re.search(r"GLOBAL (\S+?)[\s`]", text) or re.search(r"class (\S+)", text)
    what = f" ({called[1]})" if called else ""
    return (
        f"holds pickled code{what}, which is not run; expected tensors alone: save the network's "
        "state_dict()"
    )


def _state_of(content: Any) -> tuple[str | None, Mapping[str, Any] | None]:
    """The state dict in what a file holds, and the key it is under."""
    if _is_state(content):
        return None, content
    if isinstance(content, Mapping):
        for part in PARTS:
            if _is_state(content.get(part)):
                return part, content[part]
    return None, None


def _is_state(content: Any) -> bool:
    import torch

    return (
        isinstance(content, Mapping)
        and bool(content)
        and all(isinstance(name, str) for name in content)
        and all(isinstance(value, torch.Tensor) for value in content.values())
    )


def _kind(content: Any) -> str:
    if isinstance(content, Mapping):
        return f"a dictionary of {', '.join(map(str, list(content)[:6])) or 'nothing'}"
    return f"a {type(content).__name__}"


def _to_array(path: Path, name: str, tensor: Any) -> Array:
    """Of float32 where it is of floats; NumPy knows no bfloat16."""
    if tensor.is_quantized or tensor.layout != _strided() or tensor.is_complex():
        raise BadInput(f"weights {path}: {name}: expected a dense tensor of floats")
    array: Array = (tensor.float() if tensor.is_floating_point() else tensor).numpy()
    return array


def _strided() -> Any:
    import torch

    return torch.strided


def _plain(arrays: Mapping[str, Array]) -> dict[str, Array]:
    """Without counters, and without what wrappers put before every name."""
    left = {
        name: array for name, array in arrays.items() if name.rpartition(".")[2] not in COUNTERS
    }
    while True:
        for prefix in PREFIXES:
            if left and all(name.startswith(prefix) for name in left):
                left = {name.removeprefix(prefix): array for name, array in left.items()}
                break
        else:
            return left


def _recipe_beside(path: Path) -> Mapping[str, Any]:
    """What timm's ``config.json`` beside the file says of pictures; nothing where there is none."""
    try:
        config = strict.parse_json((path.parent / CONFIG).read_text(encoding="utf-8"))
        found = config["pretrained_cfg"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return found if isinstance(found, dict) else {}
