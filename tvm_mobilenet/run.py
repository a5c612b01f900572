"""The ``run`` stage: load a bundle and infer.

Needs numpy, tvm_ffi and TVM's runtime library: neither torch, onnx nor the compiler.

    with tvm_mobilenet.load("bundle", threads=2) as session:
        logits = session.run(x)
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tvm_mobilenet import cli, files
from tvm_mobilenet.errors import BadInput, RunFailed
from tvm_mobilenet.numerics import relative_error

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tvm_mobilenet.bundle.manifest import TensorInfo
    from tvm_mobilenet.runtime.session import Session

    Arrays = tuple[NDArray[Any], ...]


def main(argv: Sequence[str] | None = None) -> int:
    parser = cli.make_parser("run", "Run a bundle: on an input, or on its sample, as a check.")
    parser.add_argument("bundle", metavar="BUNDLE", type=Path, help="a directory or .tar")
    parser.add_argument(
        "--input",
        type=Path,
        metavar="X.npy|IMAGE",
        help="run on this; without it the bundle's sample runs and the output is checked",
    )
    parser.add_argument("--output", type=Path, metavar="Y.npy", help="write the output here")
    parser.add_argument(
        "--top", type=cli.positive_int, metavar="K", help="print the K most probable classes"
    )
    parser.add_argument(
        "--labels", type=Path, metavar="FILE", help="class names, one a line; implies --top 5"
    )
    parser.add_argument(
        "--threads", type=cli.positive_int, default=1, metavar="N", help="default: %(default)s"
    )
    cli.add_normalisation_flags(parser, "Without these flags as the bundle says.")
    return cli.run_stage(_run, cli.parse(parser, argv))


def _run(args: argparse.Namespace) -> int:
    from tvm_mobilenet.models import normalisation
    from tvm_mobilenet.runtime.classes import check_classifier, read_labels, top_classes
    from tvm_mobilenet.runtime.inputs import is_array, read_input
    from tvm_mobilenet.runtime.session import load

    given = normalisation.of_flags(args.mean, args.std, args.scale)
    if given is not None and (args.input is None or is_array(args.input)):
        raise BadInput("--mean, --std and --scale are for a picture; expected --input IMAGE")
    with load(args.bundle, args.threads) as session:
        outputs = session.manifest.outputs
        # everything that can be wrong with the request, before the inference
        top = args.top or (5 if args.labels else None)
        if top:
            check_classifier(session)
        if args.labels:
            cli.existing_file(args.labels, "--labels")
        names = read_labels(args.labels, outputs[0]) if args.labels else None
        if args.output:
            _check_output(args.output, len(outputs))
        if args.input:
            cli.existing_file(args.input, "--input")
        x = read_input(args.input, session, given) if args.input else session.bundle.sample_input()

        results = _as_tuple(session.run(x))
        if not args.input:
            _check_sample(session, results)
        elif not (top or args.output):
            for info, array in zip(outputs, results, strict=True):
                print(f"{info.name}: {_summary(array)}")
        if args.output:
            _write_output(args.output, outputs, results)
        if top:
            for line in top_classes(top, results[0], outputs[0].scores, names):
                print(line)
            if session.manifest.weights == "random":
                print("the network's weights are random: its classes mean nothing")
    return 0


def _as_tuple(result: Any) -> Arrays:
    return result if isinstance(result, tuple) else (result,)


def _check_sample(session: Session, results: Arrays) -> None:
    """Compare with the outputs stored in the bundle; RunFailed where they differ."""
    tolerance = session.bundle.tolerance()
    expected = session.bundle.expected_outputs()
    for info, got, right in zip(session.manifest.outputs, results, expected, strict=True):
        difference = relative_error(got, right)
        line = f"{info.name}: differs from the expected output by {difference:.2g} (relative)"
        if not difference <= tolerance:  # nan is a failure too
            raise RunFailed(
                f"{line}, expected at most {tolerance:.2g}; the bundle is wrong on this machine, "
                "compile it again"
            )
        print(f"{line}, at most {tolerance:.2g} allowed: ok")


def _summary(array: NDArray[Any]) -> str:
    shape = "x".join(map(str, array.shape))
    return f"{array.dtype} {shape}, from {array.min():.6g} to {array.max():.6g}"


def _check_output(path: Path, outputs: int) -> None:
    suffix = ".npz" if outputs > 1 else ".npy"
    if path.suffix != suffix:
        raise BadInput(f"--output {path}: expected a {suffix} file, for {outputs} output(s)")
    files.check_writable(path, "--output")


def _write_output(path: Path, infos: Sequence[TensorInfo], results: Arrays) -> None:
    import numpy as np

    try:
        if len(results) == 1:
            np.save(path, results[0])
        else:
            arrays: dict[str, Any] = {info.name: x for info, x in zip(infos, results, strict=True)}
            np.savez(path, **arrays)
    except OSError as error:
        raise RunFailed(f"--output {path}: cannot be written: {error.strerror or error}") from error
    print(f"wrote {path}")


if __name__ == "__main__":
    sys.exit(main())
