"""What every stage's command line shares: common flags, value checks, errors as one line.

Only the standard library is imported here, so that ``--help`` answers at once.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from signal import SIGINT, SIGTERM

from tvm_mobilenet.errors import BadInput, TvmMobilenetError
from tvm_mobilenet.extras import advice_for

INTERRUPTED = 130  # the shell's status for a command that ended on Ctrl-C


class OneLineParser(argparse.ArgumentParser):
    """An ArgumentParser whose errors are one line: ``error: …`` (exit status 2), no usage dump."""

    def error(self, message: str) -> None:  # type: ignore[override]
        self.exit(2, f"error: {message} (see '{self.prog} --help')\n")


def make_parser(stage: str, description: str) -> argparse.ArgumentParser:
    """The parser of one stage, with ``--debug`` already in it."""
    parser = OneLineParser(prog=f"tvm-mobilenet {stage}", description=description)
    parser.add_argument(
        "--debug", action="store_true", help="show a traceback when an error ends the command"
    )
    return parser


def run_stage(main: Callable[[argparse.Namespace], int], args: argparse.Namespace) -> int:
    """Run a stage's body; an error becomes one line on stderr and its exit status.

    So does a module that is missing because its extra was not installed. SIGTERM ends it as Ctrl-C
    does, and nothing that it or a library put into the temporary folder
    is left, however it ends.
    """
    with watch_interrupts() as interrupted:
        try:
            with use_own_temporary_folder():
                return main(args)
        except (Exception, KeyboardInterrupt) as error:
            if args.debug:
                traceback.print_exc()
            # TVM and torch make errors of their own of an interrupt that comes while they work
            if interrupted.is_set() or isinstance(error, KeyboardInterrupt):
                print("interrupted", file=sys.stderr)
                return INTERRUPTED
            if isinstance(error, ModuleNotFoundError) and (advice := advice_for(error.name)):
                error = BadInput(advice)
            if isinstance(error, TvmMobilenetError):
                print(f"error: {error}", file=sys.stderr)
                return error.exit_status
            raise


@contextlib.contextmanager
def watch_interrupts() -> Iterator[threading.Event]:
    """While inside, SIGTERM and Ctrl-C raise KeyboardInterrupt and set the event.

    Only the main thread may take signals; in another nothing changes.
    """
    interrupted = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield interrupted
        return

    def interrupt(*_: object) -> None:
        interrupted.set()
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in (SIGTERM, SIGINT)}
    try:
        yield interrupted
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def use_own_temporary_folder() -> Iterator[None]:
    """While inside, temporary files of this process and its children are in one folder.

    It goes with the block, whatever a library forgot there. Raises BadInput where it fails.
    """
    import tempfile

    try:
        folder = tempfile.TemporaryDirectory(prefix="tvm-mobilenet-", ignore_cleanup_errors=True)
    except OSError as error:
        raise BadInput(
            f"no temporary file can be made ({error.strerror}); name a folder for them by TMPDIR"
        ) from None
    before = os.environ.get("TMPDIR")
    os.environ["TMPDIR"], tempfile.tempdir = folder.name, None
    try:
        with folder:
            yield
    finally:
        # a library may have kept a path into it for its next use
        for name in [one for one, text in os.environ.items() if text.startswith(folder.name)]:
            del os.environ[name]
        if before is not None:
            os.environ["TMPDIR"] = before
        tempfile.tempdir = None


def alpha(text: str) -> float:
    """A width multiplier in (0, 2]."""
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"alpha must be a number in (0, 2], got {text!r}"
        ) from None
    if not 0 < value <= 2:
        raise argparse.ArgumentTypeError(f"alpha must be in (0, 2], got {text}")
    return value


def resolution(text: str) -> int:
    """An input size in pixels: a multiple of 32, at least 32."""
    if not text.isdecimal() or int(text) < 32 or int(text) % 32:
        raise argparse.ArgumentTypeError(
            f"resolution must be a multiple of 32 from 32 up, got {text!r}"
        )
    return int(text)


def positive_int(text: str) -> int:
    """A whole number of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, got {text!r}")
    return int(text)


def thread_counts(text: str) -> tuple[int, ...]:
    """Thread counts as in ``1,2``."""
    return tuple(positive_int(part) for part in text.split(","))


def duration(text: str) -> float:
    """A time as ``90``, ``90s``, ``5m`` or ``1h``, in seconds."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"expected a time such as 90s, 5m or 1h, got {text!r}")
    return float(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[match[2]]


def add_target_flag(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--target",
        default="x86",
        metavar="T",
        help="a family (x86, arm, cuda: this host or the family's default), a name in targets/, "
        "or a TOML file (default: %(default)s)",
    )


def add_model_flags(parser: argparse.ArgumentParser) -> None:
    """The flags that say which network: ours by name and variant, or an ONNX file."""
    group = parser.add_argument_group("model")
    group.add_argument(
        "--model",
        default="mobilenet_v1",
        metavar="M",
        help="a name in MODELS (default: %(default)s)",
    )
    group.add_argument(
        "--alpha", type=alpha, default=1.0, help="width multiplier in (0, 2] (default: %(default)s)"
    )
    group.add_argument(
        "--resolution",
        type=resolution,
        default=224,
        help="input size, a multiple of 32 (default: %(default)s)",
    )
    group.add_argument(
        "--batch", type=positive_int, default=1, help="images per inference (default: %(default)s)"
    )
    group.add_argument(
        "--onnx", type=Path, metavar="FILE", help="take the network from this ONNX file instead"
    )


def add_strassen_flag(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--no-strassen",
        dest="strassen",
        action="store_false",
        help="compute every 1x1 convolution directly, rounding as the reference does, instead of "
        "the large ones by Strassen's algorithm with an eighth fewer multiplications",
    )


def add_precision_flags(parser: argparse.ArgumentParser | argparse._ArgumentGroup) -> None:
    parser.add_argument(
        "--precision",
        choices=("fp32", "fp16"),
        default="fp32",
        help="of activations and weights; fp16 on GPUs only (default: %(default)s)",
    )
    parser.add_argument(
        "--allow-tf32",
        action="store_true",
        help="on GPUs from sm_80 on, multiply fp32 on tensor cores, rounded to 10 mantissa bits",
    )


def parse(parser: argparse.ArgumentParser, argv: Sequence[str] | None) -> argparse.Namespace:
    return parser.parse_args(argv)


def existing_file(path: Path, what: str) -> Path:
    """``path`` where it is a readable file, else one line that names it."""
    if not path.is_file():
        raise BadInput(f"{what} {path}: no such file")
    return path
