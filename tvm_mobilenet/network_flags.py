"""The flags that say which network, and what they were given as a ``NetworkSpec``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from tvm_mobilenet import cli

if TYPE_CHECKING:
    from tvm_mobilenet.network.source import NetworkSpec


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
