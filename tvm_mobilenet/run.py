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

from tvm_mobilenet import cli
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
    return cli.run_stage(_run, cli.parse(parser, argv))


def _run(args: argparse.Namespace) -> int:
    from tvm_mobilenet.runtime.session import load

    with load(args.bundle, args.threads) as session:
        outputs = session.manifest.outputs
        # everything that can be wrong with the request, before the inference
        top = args.top or (5 if args.labels else None)
        if top:
            _check_classifier(session)
        names = _labels(args.labels, outputs[0]) if args.labels else None
        if args.output:
            _check_output(args.output, len(outputs))
        x = _read_input(args.input, session) if args.input else session.bundle.sample_input()

        results = _as_tuple(session.run(x))
        if not args.input:
            _check_sample(session, results)
        elif not (top or args.output):
            for info, array in zip(outputs, results, strict=True):
                print(f"{info.name}: {_summary(array)}")
        if args.output:
            _write_output(args.output, outputs, results)
        if top:
            _print_top(top, results[0], names)
    return 0


def _as_tuple(result: Any) -> Arrays:
    return result if isinstance(result, tuple) else (result,)


def _read_input(path: Path, session: Session) -> NDArray[Any]:
    """The array in a .npy, or a picture, checked against what the network takes."""
    import numpy as np

    from tvm_mobilenet.runtime import image
    from tvm_mobilenet.runtime.session import mismatch

    wanted = session.manifest.inputs[0]
    cli.existing_file(path, "--input")
    if path.suffix.lower() != ".npy":
        return image.read(path, wanted)
    try:
        x: NDArray[Any] = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise BadInput(f"--input {path}: not a readable .npy: {error}") from error
    if x.shape != wanted.shape or x.dtype != wanted.dtype:
        raise BadInput(f"--input {path}: {mismatch(x, wanted)}")
    if not np.isfinite(x).all():
        bad = int(np.count_nonzero(~np.isfinite(x)))
        raise BadInput(
            f"--input {path}: wanted finite values, came {bad} of {x.size} that are nan or "
            "infinite; check how it was made"
        )
    return x


def _check_sample(session: Session, results: Arrays) -> None:
    """Compare with the outputs stored in the bundle; RunFailed where they differ."""
    tolerance = session.bundle.tolerance()
    expected = session.bundle.expected_outputs()
    for info, came, wanted in zip(session.manifest.outputs, results, expected, strict=True):
        difference = relative_error(came, wanted)
        line = f"{info.name}: differs from the expected output by {difference:.2g} (relative)"
        if not difference <= tolerance:  # nan is a failure too
            raise RunFailed(
                f"{line}, wanted at most {tolerance:.2g}; the bundle is wrong on this machine, "
                "compile it again"
            )
        print(f"{line}, at most {tolerance:.2g} allowed: ok")


def _summary(array: NDArray[Any]) -> str:
    shape = "x".join(map(str, array.shape))
    return f"{array.dtype} {shape}, from {array.min():.6g} to {array.max():.6g}"


def _check_output(path: Path, outputs: int) -> None:
    wanted = ".npz" if outputs > 1 else ".npy"
    if path.suffix != wanted:
        raise BadInput(f"--output {path}: wanted a {wanted} file, for {outputs} output(s)")
    existed = path.exists()
    try:
        # opened to append, so that what is there stays until there is something to write
        path.open("ab").close()
        if not existed:
            path.unlink()
    except OSError as error:
        raise BadInput(f"--output {path}: cannot be written: {error.strerror}") from error


def _write_output(path: Path, infos: Sequence[TensorInfo], results: Arrays) -> None:
    import numpy as np

    if len(results) == 1:
        np.save(path, results[0])
    else:
        arrays: dict[str, Any] = {info.name: x for info, x in zip(infos, results, strict=True)}
        np.savez(path, **arrays)
    print(f"wrote {path}")


def _check_classifier(session: Session) -> None:
    outputs = session.manifest.outputs
    if len(outputs) > 1 or len(outputs[0].shape) != 2:
        shapes = ", ".join("x".join(map(str, output.shape)) for output in outputs)
        raise BadInput(f"--top: wanted a classifier (one N x classes output), came {shapes}")


def _labels(path: Path, output: TensorInfo) -> list[str]:
    cli.existing_file(path, "--labels")
    try:
        names = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"--labels {path}: cannot be read: {error}") from error
    if len(names) != output.shape[-1]:
        raise BadInput(
            f"--labels {path}: wanted {output.shape[-1]} lines, one a class, came {len(names)}"
        )
    return names


def _print_top(count: int, logits: NDArray[Any], names: list[str] | None) -> None:
    """One line per class: index, softmax probability, name; a blank line between images."""
    for number, row in enumerate(softmax(logits)):
        if number:
            print()
        for index in row.argsort()[::-1][:count]:
            name = f"  {names[index]}" if names else ""
            print(f"{index:5d}  {row[index]:7.2%}{name}")


def softmax(logits: NDArray[Any]) -> NDArray[Any]:
    """Probabilities over the last axis, in float64."""
    import numpy as np

    shifted = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    probabilities: NDArray[Any] = np.exp(shifted)
    probabilities /= probabilities.sum(axis=-1, keepdims=True)
    return probabilities


if __name__ == "__main__":
    sys.exit(main())
