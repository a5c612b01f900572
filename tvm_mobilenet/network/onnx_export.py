"""PyTorch to ONNX, checked against PyTorch; and ONNX files of other origin, checked as they load.

The exporter folds batch norm into the convolutions and explicit padding into their ``pads``.
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tvm_mobilenet import files
from tvm_mobilenet.chatter import MOST_OF_REASON
from tvm_mobilenet.errors import BadInput, RunFailed, first_line
from tvm_mobilenet.network import signature
from tvm_mobilenet.numerics import relative_error
from tvm_mobilenet.weights import is_weights

if TYPE_CHECKING:
    import onnx
    from torch import nn

OPSET = 20
OLD_IR = 10  # every ONNX Runtime since 2024 reads it; what came after it are types and devices
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

    model = _export_by_torch(module, input_shape)
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise RunFailed(f"the exported ONNX model is not valid: {first_line(error)}") from error
    if path is not None:
        try:
            onnx.save_model(model, str(path))
        except OSError as error:
            raise BadInput(f"cannot write ONNX file {path}: {error.strerror}") from error
    return model


def _export_by_torch(module: nn.Module, input_shape: Sequence[int]) -> onnx.ModelProto:
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
    expected = [tensor.numpy() for tensor in tensors]
    got = evaluate(model, x)
    expected_shapes, got_shapes = [a.shape for a in expected], [a.shape for a in got]
    if got_shapes != expected_shapes:
        raise RunFailed(f"ONNX model gives outputs {got_shapes}, PyTorch {expected_shapes}")
    error = max(relative_error(a, b) for a, b in zip(got, expected, strict=True))
    # NaN compares false with everything, so ask for what is right
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

    files.check_file(Path(path), f"ONNX file {path}")
    try:
        # ONNX decodes by suffix otherwise, and would take a .json for its JSON form
        model = onnx.load_model(str(path), format="protobuf")
        _check(model)
    except DecodeError:
        advice = "; weights of one of ours go with --weights" if is_weights(Path(path)) else ""
        raise BadInput(f"ONNX file {path}: not an ONNX model (it does not parse){advice}") from None
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise BadInput(f"ONNX file {path}: not a valid model: {first_line(error)}") from error
    except (OSError, ValueError) as error:
        raise BadInput(f"ONNX file {path}: cannot be read: {first_line(error)}") from error
    return model


def _check(model: onnx.ModelProto) -> None:
    """Raise what ONNX's checker does, but for shapes that only the file states and are stale."""
    import onnx

    onnx.checker.check_model(model)
    plain = type(model)()
    plain.CopyFrom(model)
    signature.forget_shapes(plain)
    onnx.shape_inference.infer_shapes(plain, check_type=True, strict_mode=True)


@dataclass(frozen=True)
class Evaluator:
    """Runs an ONNX model as its specification says: ``name`` is by what, and why by that."""

    name: str
    session: Any  # has ONNX Runtime's run(None, feed)
    input_names: tuple[str, ...]

    def run(self, *inputs: Array) -> list[Array]:
        """The model's outputs for its inputs, in the order of the file.

        Raises BadInput where it does not run.
        """
        try:
            outputs = self.session.run(None, dict(zip(self.input_names, inputs, strict=True)))
        except Exception as error:  # ONNX Runtime's errors have no base of their own
            raise BadInput(
                f"ONNX model does not run by {self.name}: {_runtime_reason(error)}"
            ) from error
        return [np.asarray(output) for output in outputs]


def evaluator(model: onnx.ModelProto, *, optimized: bool = True) -> Evaluator:
    """ONNX Runtime where it is installed and loads the model, else ONNX's own (slow) evaluator.

    A file that is newer than what ONNX Runtime reads is given to it as an older one, where ONNX
    can say the same in that. Unless ``optimized`` it computes every operator as it stands in the
    file: those of a quantized one in float32. Raises BadInput where neither takes it.
    """
    from onnx.reference import ReferenceEvaluator

    names = tuple(one.name for one in signature.real_inputs(model))
    why = "ONNX Runtime is not installed"
    if importlib.util.find_spec("onnxruntime") is not None:
        try:
            session = open_session(model, optimized=optimized)
        except Exception as error:  # its errors have no base of their own
            why = f"ONNX Runtime does not load it: {_runtime_reason(error)}"
            session = _session_of_older(model, optimized=optimized)
        if session is not None:
            return Evaluator("ONNX Runtime", session, names)
    try:
        reference = ReferenceEvaluator(model)
    except Exception as error:  # whatever its operators' constructors meet
        raise BadInput(
            f"ONNX model cannot be checked: {why}, and neither does ONNX's own evaluator: "
            f"{first_line(error)}"
        ) from error

    return Evaluator(f"ONNX's own evaluator, as {why}", reference, names)


def evaluate(model: onnx.ModelProto, *inputs: Array) -> list[Array]:
    """The model's outputs for its inputs, by its ``evaluator``."""
    return evaluator(model).run(*inputs)


def _session_of_older(model: onnx.ModelProto, *, optimized: bool) -> Any:
    """A session for a model that is too new, in an older IR and operator set that say the same.

    None where ONNX Runtime does not take it in those either.
    """
    from onnx import version_converter

    older = type(model)()
    older.CopyFrom(model)
    older.ir_version = min(model.ir_version, OLD_IR)
    with contextlib.suppress(Exception):  # as above
        return open_session(older, optimized=optimized)
    if any(one.domain == "" and one.version > OPSET for one in model.opset_import):
        with contextlib.suppress(Exception):  # an operator that the older set does not have
            older = version_converter.convert_version(older, OPSET)
            return open_session(older, optimized=optimized)
    return None


def open_session(model: onnx.ModelProto, *, optimized: bool) -> Any:
    """ONNX Runtime's session for a model. Raises what ONNX Runtime does where it does not load."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what it raises says it as well
    # its threads would look for work for some ms after every run, on cores that others need
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if not optimized:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def _runtime_reason(error: Exception) -> str:
    """Without the code, the kind of error and the place in its source that come before it."""
    text = first_line(error).rpartition(" : ")[2]
    return re.sub(r"Status Message: \S+:\d+ .*?\) ", "", text)[:MOST_OF_REASON]


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
