"""PyTorch to ONNX, checked against PyTorch; and ONNX files of other origin, checked as they load.

The exporter folds batch norm into the convolutions and explicit padding into their ``pads``.
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from tvm_mobilenet.errors import BadInput, RunFailed
from tvm_mobilenet.numerics import relative_error

if TYPE_CHECKING:
    import onnx
    from torch import nn

OPSET = 20
INPUT_NAME = "input"
TOLERANCE = 1e-5  # relative; folding batch norm in float32 gives about 1e-6

# The exporter says on every call which torchvision operators it does without.
_NOISY_LOGGER = "torch.onnx._internal.exporter._registration"

Array = npt.NDArray[np.float32]


def export(
    module: nn.Module, input_shape: Sequence[int], path: Path | str | None = None
) -> onnx.ModelProto:
    """Export ``module`` for one static ``input_shape`` (N, C, H, W) of float32.

    Outputs are called ``output`` or, where there are several, ``output0``, ``output1``, …
    With ``path`` the model is also written there, weights inside. Raises BadInput where that fails,
    RunFailed where ONNX's checker does not accept what the exporter made.
    """
    import onnx
    import torch

    example = torch.zeros(tuple(input_shape))
    with torch.inference_mode():
        result = module(example)
    count = len(result) if isinstance(result, tuple | list) else 1
    names = ["output"] if count == 1 else [f"output{index}" for index in range(count)]
    with _quiet_exporter():
        program = torch.onnx.export(
            module,
            (example,),
            dynamo=True,
            opset_version=OPSET,
            input_names=[INPUT_NAME],
            output_names=names,
            verbose=False,
        )
    if program is None:
        raise RunFailed(
            "torch.onnx.export gave no program; try the PyTorch that pyproject.toml pins"
        )
    model: onnx.ModelProto = program.model_proto
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise RunFailed(f"the exported ONNX model is not valid: {_first_line(error)}") from error
    if path is not None:
        try:
            onnx.save_model(model, str(path))
        except OSError as error:
            raise BadInput(f"cannot write ONNX file {path}: {error.strerror}") from error
    return model


def verify(model: onnx.ModelProto, module: nn.Module, x: Array) -> float:
    """Run ``x`` (N, C, H, W) through both; the largest relative error ‖a-b‖/‖b‖ over the outputs.

    The ONNX side is ONNX Runtime where installed, else ONNX's own (slow) reference evaluator.
    Raises RunFailed above TOLERANCE, or where a count or shape of outputs differs.
    """
    import torch

    with torch.inference_mode():
        result = module(torch.from_numpy(x))
    tensors = result if isinstance(result, tuple | list) else [result]
    wanted = [tensor.numpy() for tensor in tensors]
    got = evaluate(model, x)
    shapes_wanted, shapes_got = [a.shape for a in wanted], [a.shape for a in got]
    if shapes_wanted != shapes_got:
        raise RunFailed(f"ONNX model gives outputs {shapes_got}, PyTorch {shapes_wanted}")
    error = max(relative_error(a, b) for a, b in zip(got, wanted, strict=True))
    # NaN compares false with everything, so ask for what is wanted
    if not error <= TOLERANCE:
        raise RunFailed(
            f"ONNX model and PyTorch differ by {error:.1e} relative, more than {TOLERANCE:.0e}"
        )
    return error


def load(path: Path | str) -> onnx.ModelProto:
    """Read an ONNX file with its weights, checked.

    Raises BadInput where it is missing, is not ONNX, or lacks its external weights.
    """
    import onnx
    from google.protobuf.message import DecodeError

    if not Path(path).is_file():
        raise BadInput(f"ONNX file {path}: no such file")
    try:
        # ONNX decodes by suffix otherwise, and would take a .json for its JSON form
        model = onnx.load_model(str(path), format="protobuf")
        onnx.checker.check_model(model, full_check=True)
    except DecodeError:
        raise BadInput(f"ONNX file {path}: not an ONNX model (it does not parse)") from None
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise BadInput(f"ONNX file {path}: not a valid model: {_first_line(error)}") from error
    except (OSError, ValueError) as error:
        raise BadInput(f"ONNX file {path}: cannot be read: {_first_line(error)}") from error
    return model


def evaluate(model: onnx.ModelProto, x: Array) -> list[Array]:
    """The model's outputs for ``x``: by ONNX Runtime where installed, else ONNX's own evaluator."""
    feed = {model.graph.input[0].name: x}
    if importlib.util.find_spec("onnxruntime") is not None:
        import onnxruntime

        session = onnxruntime.InferenceSession(
            model.SerializeToString(), providers=["CPUExecutionProvider"]
        )
        outputs: list[Array] = session.run(None, feed)
        return outputs
    from onnx.reference import ReferenceEvaluator

    return [np.asarray(value) for value in ReferenceEvaluator(model).run(None, feed)]


@contextlib.contextmanager
def _quiet_exporter() -> Iterator[None]:
    """Keep back the two known messages of torch.onnx.export; anything else still comes through."""
    logger = logging.getLogger(_NOISY_LOGGER)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            # torch.export copies its own deprecated class
            warnings.filterwarnings("ignore", r"`isinstance\(treespec, LeafSpec\)`", FutureWarning)
            yield
    finally:
        logger.setLevel(level)


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
