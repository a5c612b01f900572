"""What the command lines of all commands share: flags, value checks, and the way it ends.

Only the standard library is imported here, so that ``--help`` answers at once.
"""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from tvm_mobilenet import ending, files
from tvm_mobilenet.ending import leave as leave
from tvm_mobilenet.errors import BadInput
from tvm_mobilenet.signals import INTERRUPTED as INTERRUPTED

MOST_DIGITS = 18  # of a whole number that fits 64 bits


class OneLineParser(argparse.ArgumentParser):
    """An ArgumentParser whose errors are one line: ``error: …`` (exit status 2), no usage dump."""

    def error(self, message: str) -> None:  # type: ignore[override]
        self.exit(2, f"error: {ending.one_line(message)} (see '{self.prog} --help')\n")


def make_parser(command: str, description: str) -> argparse.ArgumentParser:
    """The parser of one command, with ``--debug`` already in it."""
    parser = OneLineParser(prog=f"tvm-mobilenet {command}", description=description)
    parser.add_argument(
        "--debug", action="store_true", help="show a traceback when an error ends the command"
    )
    return parser


def run_command(main: Callable[[argparse.Namespace], int], args: argparse.Namespace) -> int:
    """Run a command's body; whatever it raises becomes one line on stderr and an exit status.

    Nothing that it or a library put into the temporary folder is left, however it ends.
    """

    def body() -> int:
        with files.own_temporary_folder():
            return main(args)

    return ending.run(body, debug=args.debug)


def alpha(text: str) -> float:
    """A width multiplier in (0, 2]."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value <= 2:
        raise argparse.ArgumentTypeError(f"expected a number above 0 and at most 2, got {text!r}")
    return value


def resolution(text: str) -> int:
    """An input size in pixels, at least 32; a network may take certain sizes only."""
    return whole_number(text, 32)


def new_file(text: str) -> Path:
    """A file that results can be written into: said before what they are of takes its time."""
    path = Path(text)
    try:
        files.check_replaceable(path, "file")
    except BadInput as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return path


def positive_int(text: str) -> int:
    """A whole number of at least 1."""
    return whole_number(text, 1)


def whole_number(text: str, least: int = 0) -> int:
    """A whole number of at least ``least`` that fits 64 bits."""
    if len(text) > MOST_DIGITS:
        raise argparse.ArgumentTypeError(f"expected at most {MOST_DIGITS} digits, got {len(text)}")
    if not text.isdecimal() or int(text) < least:
        raise argparse.ArgumentTypeError(
            f"expected a whole number of at least {least}, got {text!r}"
        )
    return int(text)


def number(text: str) -> float:
    """A finite number, or a fraction such as ``1/255``."""
    above, _, below = text.partition("/")
    try:
        value = float(above) / float(below or 1)
    except (ValueError, ZeroDivisionError):
        value = math.nan
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"expected a number such as 0.5 or 1/255, got {text!r}")
    return value


def share(text: str) -> float:
    """A share of less than 1, as ``0.5%`` or ``0.005``."""
    try:
        value = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        value = math.nan
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"expected a share such as 0.5% or 0.005, got {text!r}")
    return value


def numbers(text: str) -> tuple[float, ...]:
    """Numbers as in ``0.485,0.456,0.406``, one a channel."""
    return tuple(number(part) for part in text.split(","))


def input_shape(text: str) -> tuple[str, tuple[int, ...]]:
    """An input's name and its shape, as in ``input=1x3x224x224``."""
    name, _, sizes = text.rpartition("=")
    if not name or not re.fullmatch(r"[1-9]\d*(x[1-9]\d*)*", sizes):
        raise argparse.ArgumentTypeError(
            f"expected an input's name and shape, such as input=1x3x224x224, got {text!r}"
        )
    return name, tuple(map(int, sizes.split("x")))


def thread_counts(text: str) -> tuple[int, ...]:
    """Thread counts as in ``1,2``."""
    return tuple(positive_int(part) for part in text.split(","))


def duration(text: str) -> float:
    """A time as ``90``, ``90s``, ``5m`` or ``1h``, in seconds."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"expected a time such as 90s, 5m or 1h, got {text!r}")
    return float(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[match[2]]


def positive_duration(text: str) -> float:
    """As ``duration``, of more than nothing."""
    seconds = duration(text)
    if not seconds:
        raise argparse.ArgumentTypeError(f"expected a time above 0, got {text!r}")
    return seconds


def add_target_flag(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--target",
        default="x86",
        metavar="T",
        help="a family (x86, arm, cuda: this host or the family's default), a name in targets/, "
        "or a TOML file (default: %(default)s)",
    )


def add_picture_flags(
    parser: argparse.ArgumentParser, where: str, labels: str | None = None
) -> None:
    """``--mean`` and its like for ``models.normalisation``, ``--resize`` and its like for
    ``models.resizing``, and ``--labels`` where that says what for.
    """
    group = parser.add_argument_group(
        "pictures",
        f"How a picture's pixels, 0 to 255, become the network's input: (pixel * scale - mean) / "
        f"std. Before that the picture is resized, and the middle of it taken. {where}",
    )
    group.add_argument("--mean", type=numbers, metavar="R,G,B", help="default with --std: 0,0,0")
    group.add_argument("--std", type=numbers, metavar="R,G,B", help="default with --mean: 1,1,1")
    group.add_argument("--scale", type=number, metavar="S", help="default with these: 1/255")
    group.add_argument(
        "--channel-order",
        choices=("rgb", "bgr"),
        help="of the network's input; --mean and --std are red first in any case (default: rgb)",
    )
    group.add_argument(
        "--resize", type=positive_int, metavar="PIXELS", help="the shorter side before the crop"
    )
    group.add_argument(
        "--crop",
        type=number,
        metavar="SHARE",
        help="of the resized picture that the input takes, in place of --resize (default: 0.875)",
    )
    group.add_argument(
        "--fit",
        choices=("cover", "stretch"),
        help="keep the picture's proportions, or give it the input's (default: cover)",
    )
    group.add_argument(
        "--interpolation",
        choices=("nearest", "bilinear", "bicubic", "tensorflow"),
        help="Pillow's, or TensorFlow's bilinear one (default: bilinear)",
    )
    if labels is not None:
        group.add_argument("--labels", type=Path, metavar="FILE", help=labels)


def add_algorithm_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--no-strassen",
        dest="strassen",
        action="store_false",
        help="compute every 1x1 convolution directly, rounding as the reference does, instead of "
        "the large ones by Strassen's algorithm with an eighth fewer multiplications",
    )
    parser.add_argument(
        "--no-winograd",
        dest="winograd",
        action="store_false",
        help="compute every 3x3 convolution directly instead of by Winograd's algorithm with 16 "
        "multiplications for 36",
    )
    parser.add_argument(
        "--small-weights",
        action="store_true",
        help="store each weight once, and none that an algorithm adds: a smaller bundle on a CPU, "
        "without Strassen's and Winograd's algorithms and slower by what these save",
    )


def add_verify_flag(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--verify-key",
        type=Path,
        metavar="KEY.pub",
        help="refuse the bundle unless it is signed by this key: a public one of Ed25519 in PEM",
    )


def parse(parser: argparse.ArgumentParser, argv: Sequence[str] | None) -> argparse.Namespace:
    """The flags. Ends the process as argparse does: for ``--help``, and for one that is wrong."""
    parsed: list[argparse.Namespace] = []

    def read() -> int:
        parsed.append(parser.parse_args(argv))
        return 0

    status = ending.run(read, debug=False)
    if status:  # help that could not be printed
        raise SystemExit(status)
    return parsed[0]
