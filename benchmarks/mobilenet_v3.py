"""MobileNetV3-Large as an ONNX file: a network that comes from elsewhere, to time compiling with.

    python benchmarks/mobilenet_v3.py build/mobilenet_v3_large.onnx

The network itself is in v3_large.py; compile_times.py compiles it.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tvm_mobilenet import cli


def main() -> int:
    parser = cli.make_parser("mobilenet_v3", "Write MobileNetV3-Large with random weights.")
    parser.add_argument("output", type=Path, metavar="FILE")
    return cli.run_command(body, parser.parse_args())


def body(args: argparse.Namespace) -> int:
    from v3_large import RESOLUTION, mobilenet_v3_large

    from tvm_mobilenet.network import onnx_export

    args.output.parent.mkdir(parents=True, exist_ok=True)
    onnx_export.export(mobilenet_v3_large(), (1, 3, RESOLUTION, RESOLUTION), args.output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
