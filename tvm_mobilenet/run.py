"""The command ``run``: load a bundle and infer.

Needs numpy, tvm_ffi and TVM's runtime library: neither torch, onnx nor the compiler.

    with tvm_mobilenet.load("bundle", threads=2) as session:
        logits = session.run(x)
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tvm_mobilenet import cli, files
from tvm_mobilenet.errors import BadInput, RunFailed
from tvm_mobilenet.numerics import ABSOLUTE_FLOOR, difference

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tvm_mobilenet.bundle.manifest import Manifest, TensorInfo
    from tvm_mobilenet.models.resizing import ResizingFlags
    from tvm_mobilenet.runtime.resize import Part
    from tvm_mobilenet.runtime.session import Session

    Arrays = tuple[NDArray[Any], ...]


def load(path: str | Path, threads: int = 1, verify_key: str | Path | None = None) -> Session:
    """``tvm_mobilenet.load``, under the name that scripts knew it by before that."""
    from tvm_mobilenet.runtime import session

    return session.load(path, threads, verify_key)


def main(argv: Sequence[str] | None = None) -> int:
    parser = cli.make_parser("run", "Run a bundle: on an input, or on its sample, as a check.")
    parser.add_argument("bundle", metavar="BUNDLE", type=Path, help="a directory or .tar")
    parser.add_argument(
        "--input",
        type=Path,
        metavar="X.npy|X.npz|IMAGE",
        help="run on this; without it the bundle's sample runs and the output is checked",
    )
    parser.add_argument("--output", type=Path, metavar="Y.npy", help="write the output here")
    parser.add_argument(
        "--top",
        type=cli.positive_int,
        metavar="K",
        help="print the K most probable classes, or of a detector the K most probable boxes",
    )
    parser.add_argument(
        "--threads", type=cli.positive_int, default=1, metavar="N", help="default: %(default)s"
    )
    cli.add_verify_flag(parser)
    cli.add_picture_flags(
        parser,
        "Without these flags as the bundle says.",
        labels="class names, one a line, in place of the bundle's; implies --top 5",
    )
    return cli.run_command(_run, cli.parse(parser, argv))


def _run(args: argparse.Namespace) -> int:
    from tvm_mobilenet.models.resizing import ResizingFlags
    from tvm_mobilenet.runtime import classes
    from tvm_mobilenet.runtime.image import pixels_of_flags
    from tvm_mobilenet.runtime.inputs import is_array, read_inputs
    from tvm_mobilenet.runtime.outputs import check_output, summary, write_output

    pixels = pixels_of_flags(args.mean, args.std, args.scale, args.channel_order)
    resizing = ResizingFlags(args.resize, args.crop, args.fit, args.interpolation)
    if (pixels is not None or resizing) and (args.input is None or is_array(args.input)):
        raise BadInput(
            "--mean, --std, --resize and their like are for a picture; expected --input IMAGE"
        )
    with load(args.bundle, args.threads, args.verify_key) as session:
        outputs = session.manifest.outputs
        # everything that can be wrong with the request, before the inference
        top = args.top or (5 if args.labels else None)
        if top:
            classes.check_top(session.manifest)
        labels = None
        if args.labels:
            labels = classes.read_labels(args.labels)
            shapes = [output.shape for output in outputs]
            classes.check_labels(labels, session.manifest.head, shapes)
        if args.output:
            check_output(args.output, len(outputs))
        if args.input:
            files.check_file(args.input, f"--input {args.input}")
            inputs = read_inputs(args.input, session.manifest.inputs, pixels, resizing)
        else:
            inputs = session.bundle.sample_inputs()
        results = _as_tuple(session.run(*inputs))
        if not args.input:
            _check_sample(session, results)
        elif not (top or args.output):
            for info, array in zip(outputs, results, strict=True):
                print(f"{info.name}: {summary(array)}")
        if args.output:
            write_output(args.output, outputs, results)
        if top:
            part = _part_seen(session.manifest.inputs[0], args.input, resizing)
            for line in _top_lines(top, session.manifest, results, labels, part):
                print(line)
            if session.manifest.weights == "random":
                print("the network's weights are random: its classes mean nothing")
    return 0


def _top_lines(
    count: int, manifest: Manifest, results: Arrays, labels: Sequence[str] | None, part: Part
) -> Iterator[str]:
    """The best classes, or boxes, as lines; named by ``labels``, else as the bundle has them.

    Boxes are in the pixels of a picture that the input shows this ``part`` of.
    """
    from tvm_mobilenet.runtime import classes, detection

    place = classes.output_of_classes(manifest.head, [one.shape for one in manifest.outputs])
    assert place is not None, "checked before the inference"
    info = manifest.outputs[place]
    names = info.labels if labels is None else labels
    if manifest.head == "ssd":
        boxes, scores = results
        return detection.lines_of(count, boxes, scores, names, part)
    return classes.top_classes(count, results[place], info.scores, names)


def _part_seen(expected: TensorInfo, path: Path | None, resizing: ResizingFlags) -> Part:
    """What the input shows: a part of the picture in ``path``, or of no picture all of itself."""
    from tvm_mobilenet.runtime import image
    from tvm_mobilenet.runtime.inputs import is_array
    from tvm_mobilenet.runtime.resize import Part

    if path is not None and not is_array(path):
        return image.part_of(path, expected, resizing)
    sizes = dict(zip(expected.layout, expected.shape, strict=True))
    return Part(0, 0, sizes.get("W", 1), sizes.get("H", 1))


def _as_tuple(result: Any) -> Arrays:
    return result if isinstance(result, tuple) else (result,)


def _check_sample(session: Session, results: Arrays) -> None:
    """Compare with the outputs stored in the bundle; RunFailed where they differ."""
    tolerance = session.bundle.tolerance()
    expected = session.bundle.expected_outputs()
    for info, got, right in zip(session.manifest.outputs, results, expected, strict=True):
        found = difference(got, right)
        line = f"{info.name}: differs from the expected output by {found.relative:.2g} (relative)"
        if not found.within(tolerance):
            raise RunFailed(
                f"{line}, expected at most {tolerance:.2g}; the bundle is wrong on this machine, "
                "compile it again"
            )
        if found.relative <= tolerance:
            print(f"{line}, at most {tolerance:.2g} allowed: ok")
        else:
            print(
                f"{info.name}: differs from the expected output, which is near zero, by "
                f"{found.absolute:.2g} (absolute), at most {ABSOLUTE_FLOOR:.2g} allowed: ok"
            )


if __name__ == "__main__":
    cli.leave(main())
