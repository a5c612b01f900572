"""The flags that say which network, and in which precision, and what they were given as values.

``compile`` and ``tune`` have all of them, other commands those that say which network.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from tvm_mobilenet import cli
from tvm_mobilenet.errors import BadInput

if TYPE_CHECKING:
    from tvm_mobilenet.compiler.options import CompileOptions
    from tvm_mobilenet.hardware.target import TargetSpec
    from tvm_mobilenet.network.source import NetworkSpec
    from tvm_mobilenet.preparation import Preparation
    from tvm_mobilenet.quantization.calibration import Calibration
    from tvm_mobilenet.quantization.ranges import Method


def add_network_flags(
    parser: argparse.ArgumentParser, pictures: str, labels: str | None = None
) -> argparse._ArgumentGroup:
    """All that says which network it is, and how it is computed; the group of the flags for int8.

    ``spec_of``, ``options_of`` and ``preparation_of`` make values of what they were given.
    ``pictures`` says what the flags on pictures are for, ``labels`` what ``--labels`` is for.
    """
    add_model_flags(parser)
    cli.add_algorithm_flags(parser)
    _add_precision_flags(parser)
    group = _add_calibration_flags(parser)
    cli.add_picture_flags(parser, pictures, labels)
    return group


def add_model_flags(parser: argparse.ArgumentParser) -> None:
    """The flags that say which network: ours by name and variant, or an ONNX file.

    ``spec_of`` makes a network of what they were given.
    """
    group = parser.add_argument_group("model")
    group.add_argument(
        "--model",
        metavar="M",
        help="a name in MODELS (default: mobilenet_v1)",
    )
    group.add_argument(
        "--alpha",
        type=cli.alpha,
        help="width multiplier in (0, 2], of networks that have one (default: 1.0)",
    )
    group.add_argument(
        "--resolution",
        type=cli.resolution,
        help="input size; a multiple of 32 for MobileNetV1 (default: the published one)",
    )
    add_head_flags(group)
    group.add_argument(
        "--weights",
        type=Path,
        metavar="FILE",
        help="of --model, from PyTorch, safetensors, Keras or TensorFlow (default: random)",
    )
    group.add_argument(
        "--batch",
        type=cli.positive_int,
        help="images per inference (default: 1; of an ONNX file: what it says)",
    )
    group.add_argument(
        "--onnx", type=Path, metavar="FILE", help="take the network from this ONNX file instead"
    )
    group.add_argument(
        "--input-shape",
        type=cli.input_shape,
        action="append",
        default=[],
        metavar="NAME=1x3x224x224",
        help="the shape of an input of the ONNX file, where the file leaves it open; repeatable",
    )


def add_head_flags(parser: argparse.ArgumentParser | argparse._ArgumentGroup) -> None:
    """What one of our networks ends in, for ``head_options``."""
    parser.add_argument(
        "--head",
        choices=("classes", "attributes", "embedding", "features", "ssd"),
        help="what the network ends in: scores of classes; of attributes, each by itself; a vector "
        "of length 1; the maps at strides 8, 16 and 32; or boxes (default: classes)",
    )
    parser.add_argument(
        "--classes",
        type=cli.positive_int,
        metavar="N",
        help="classes or attributes told apart; for ssd with the background, which is the first "
        "(default: 1000, or those of --weights; for ssd 91)",
    )
    parser.add_argument(
        "--embedding-size",
        type=cli.positive_int,
        metavar="N",
        help="numbers of an embedding (default: 128)",
    )


def spec_of(args: argparse.Namespace) -> NetworkSpec:
    """What ``add_model_flags`` were given."""
    from tvm_mobilenet.network.source import NetworkSpec

    return NetworkSpec(
        args.model,
        args.alpha,
        args.resolution,
        args.batch,
        args.onnx,
        dict(args.input_shape),
        head_options(args),
        weights=args.weights,
    )


def head_options(args: argparse.Namespace) -> dict[str, str | int]:
    """What ``add_head_flags`` were given, as fields of a network's configuration."""
    given = {
        "head": args.head,
        "num_classes": args.classes,
        "embedding_size": args.embedding_size,
    }
    return {name: value for name, value in given.items() if value is not None}


def _add_precision_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--precision",
        choices=("fp32", "bf16", "fp16", "int8"),
        default="fp32",
        help="of activations and weights; fp16 on GPUs and ARM cores with its arithmetic, bf16 on "
        "CPUs with AVX512_BF16, int8 on CPUs (default: %(default)s)",
    )
    parser.add_argument(
        "--allow-tf32",
        action="store_true",
        help="on GPUs from sm_80 on, multiply fp32 on tensor cores, rounded to 10 mantissa bits",
    )


def _add_calibration_flags(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """What ``--precision int8`` is told of a float network."""
    group = parser.add_argument_group(
        "int8",
        "How --precision int8 chooses the scales of a network that is not quantized yet. A quarter "
        "of the samples is held out to say how well the result agrees with fp32.",
    )
    group.add_argument(
        "--calibrate",
        type=Path,
        metavar="SAMPLES",
        help="of the input, a hundred or so: a folder of pictures, or a .npy of shape (N, *input); "
        "of several inputs a .npz with an array for each",
    )
    group.add_argument(
        "--calibration-method",
        choices=("minmax", "percentile", "mse"),
        help="the range of a tensor: all of its values, all but 0.01 %% of them, or what gives the "
        "least squared error (default: mse)",
    )
    group.add_argument(
        "--max-loss",
        type=cli.share,
        metavar="0.5%",
        help="keep as many layers out of int8 as it takes for no more held-out samples than this "
        "to get another class (without classes: for no larger relative error of the outputs): in "
        "bf16 where the target has that and it is enough, else in fp32",
    )
    return group


def options_of(args: argparse.Namespace, spec: TargetSpec) -> CompileOptions:
    """How the network is compiled for a target, as far as ``compile`` and ``tune`` share it.

    Raises BadInput for a precision that the target does not have.
    """
    from tvm_mobilenet.compiler import precision
    from tvm_mobilenet.compiler.options import CompileOptions

    return CompileOptions(
        spec,
        precision.choose(args.precision, spec, allow_tf32=args.allow_tf32),
        strassen=args.strassen,
        winograd=args.winograd,
        small_weights=args.small_weights,
    )


def preparation_of(args: argparse.Namespace, options: CompileOptions) -> Preparation:
    """What is done to the network before. Raises BadInput for flags that do not go together."""
    from tvm_mobilenet.compiler.precision import abilities_of
    from tvm_mobilenet.models.resizing import ResizingFlags
    from tvm_mobilenet.preparation import Preparation
    from tvm_mobilenet.runtime.classes import read_labels
    from tvm_mobilenet.runtime.image import pixels_of_flags

    labels = getattr(args, "labels", None)
    return Preparation(
        options.precision,
        calibration_of(args.calibrate, args.calibration_method, args.max_loss),
        pixels_of_flags(args.mean, args.std, args.scale, args.channel_order),
        ResizingFlags(args.resize, args.crop, args.fit, args.interpolation),
        () if labels is None else read_labels(labels),
        abilities_of(options.spec),
    )


def calibration_of(
    samples: Path | None, method: Method | None, max_loss: float | None
) -> Calibration | None:
    """What ``--calibrate`` and its like say. Raises BadInput for the others without it."""
    from tvm_mobilenet.quantization.calibration import DEFAULT_METHOD, Calibration

    if samples is not None:
        return Calibration(samples, method or DEFAULT_METHOD, max_loss)
    if method is not None or max_loss is not None:
        raise BadInput("--calibration-method and --max-loss are for --calibrate SAMPLES; add it")
    return None
