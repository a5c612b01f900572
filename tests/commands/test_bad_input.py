"""Whatever comes in, and whatever is raised, a command ends in one plain line and a status."""

from __future__ import annotations

import argparse
import contextlib
import errno
import io
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import tiny_bundle
from support.stage_ends import Capture, ends, fails, status_of

from tvm_mobilenet import __main__ as command
from tvm_mobilenet import cli, files, provenance, report, run
from tvm_mobilenet.errors import BadInput, RunFailed


class Odd(Exception):
    pass


RAISED: dict[str, tuple[BaseException, int, str]] = {
    "bad input": (BadInput("no such thing"), 2, "error: no such thing"),
    "failed": (RunFailed("it broke"), 1, "error: it broke"),
    "a name with a newline": (BadInput("a\nb\x1b: no such file"), 2, r"error: a\nb\x1b: no such f"),
    "unexpected": (Odd("this\nand that"), 1, "error: unexpected Odd: this; --debug shows where"),
    "without a text": (Odd(), 1, "error: unexpected Odd; --debug shows where it was raised"),
    "TVM's": (
        RuntimeError("# from tvm\nCheck failed\n# Metadata omitted"),
        1,
        "Error: Check failed",
    ),
    "endless": (Odd("x" * 10_000), 1, "xxx; --debug shows where it was raised"),
    "memory": (MemoryError(), 1, "error: out of memory"),
    "numpy's memory": (MemoryError("Unable to allocate 9 TiB"), 1, "of memory: Unable to allocate"),
    "recursion": (RecursionError("too deep"), 1, "error: unexpected RecursionError: too deep"),
    "a file": (PermissionError(errno.EACCES, "Permission denied", "f"), 1, "error: f: Permission"),
    "a full disk": (
        OSError(errno.ENOSPC, "No space left on device"),
        1,
        "make room, or set TMPDIR",
    ),
    "a quota": (OSError(errno.EDQUOT, "Disk quota exceeded"), 1, "exceeded; make room, or set TM"),
    "ulimit -f": (OSError(errno.EFBIG, "File too large"), 1, "File too large; make room, or set T"),
    "a package": (ModuleNotFoundError("No", name="zlib"), 1, "error: zlib is not installed, and"),
    "an extra's": (ModuleNotFoundError("No", name="torch"), 2, "pip install 'tvm-mobilenet[comp"),
    "Ctrl-C": (KeyboardInterrupt(), 130, "interrupted"),
}


@pytest.mark.parametrize("name", RAISED)
def test_whatever_is_raised_is_one_line(name: str, capsys: Capture) -> None:
    error, status, says = RAISED[name]

    def body() -> int:
        raise error

    assert ends(body) == status
    captured = capsys.readouterr()
    assert (captured.out, captured.err.count("\n")) == ("", 1)
    assert says in captured.err
    assert len(captured.err) < 400
    assert ends(body, debug=True) == status
    told = capsys.readouterr().err
    assert told.startswith("Traceback")
    assert told.endswith(captured.err)


def test_an_error_while_the_command_is_imported(
    monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setitem(sys.modules, command.module_of("cost"), None)
    assert command.main(["cost"]) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_a_working_directory_that_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()

    def body() -> int:
        return len(Path("x").absolute().parts)

    assert ends(body) == 1
    line = "error: the working directory was removed; change to another\n"
    assert capsys.readouterr().err == line


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    tiny_bundle.write(tmp_path / "tiny", tiny_bundle.classifier())
    return tmp_path / "tiny"


def test_a_report_that_cannot_be_written(tmp_path: Path, capfd: Capture) -> None:
    """It is said before the results are read."""
    line = fails(capfd, 2, report, tmp_path / "absent.json", "-o", "/proc/report.md")
    assert "-o /proc/report.md: cannot be written" in line


def test_a_result_that_does_not_fit_the_disk(
    tiny: Path, tmp_path: Path, capfd: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fill(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(np, "save", fill)
    line = fails(capfd, 1, run, tiny, "--output", tmp_path / "y.npy")
    assert (
        line
        == f"error: --output {tmp_path / 'y.npy'}: cannot be written: No space left on device\n"
    )


VALUES = (
    cli.alpha,
    cli.resolution,
    cli.positive_int,
    cli.thread_counts,
    cli.duration,
    cli.number,
    cli.numbers,
)
numbers_like = st.text(alphabet="0123456789.,/-+eEinfasmh _²٣", max_size=12)


@given(value=st.one_of(numbers_like, st.text(max_size=12)))
@settings(max_examples=150, deadline=None)
def test_a_flag_of_any_text(value: str) -> None:
    for read in VALUES:
        with contextlib.suppress(argparse.ArgumentTypeError, ValueError):  # a line of argparse's
            assert np.isfinite(read(value)).all()


@pytest.mark.parametrize(
    ("read", "text", "says"),
    [
        (cli.positive_int, "9" * 5000, "expected at most 18 digits, got 5000"),
        (cli.positive_int, "0", "expected a whole number of at least 1, got '0'"),
        (cli.resolution, "31", "expected a whole number of at least 32, got '31'"),
        (cli.whole_number, "-1", "expected a whole number of at least 0, got '-1'"),
        (cli.positive_duration, "0s", "expected a time above 0, got '0s'"),
    ],
)
def test_a_number_that_a_flag_does_not_take(
    read: Callable[[str], object], text: str, says: str
) -> None:
    with pytest.raises(argparse.ArgumentTypeError) as raised:
        read(text)
    assert str(raised.value) == says


FLAGS = ("--input", "--top", "--threads", "--mean", "--std", "--scale", "--labels", "--debug", "-o")


@contextlib.contextmanager
def captured() -> Iterator[io.StringIO]:
    told = io.StringIO()
    with contextlib.redirect_stderr(told), contextlib.redirect_stdout(io.StringIO()):
        yield told


@given(words=st.lists(st.one_of(st.sampled_from(FLAGS), numbers_like, st.text()), max_size=6))
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_command_line_of_any_words(words: list[str]) -> None:
    with captured() as told:
        status = status_of(run, "/nowhere/bundle", *(word for word in words if word != "--debug"))
    if status == 0:
        assert any(word in ("-h", "--help") or "--help".startswith(word) for word in words)
    else:
        assert status in (1, 2)
        assert told.getvalue().startswith("error: ")
        assert told.getvalue().count("\n") == 1


def test_results_of_studies_are_read_as_they_were_written(tmp_path: Path) -> None:
    path = tmp_path / "study.json"
    provenance.write_results(path, {"rows": [1.5]})
    assert provenance.read_results(path)["rows"] == [1.5]
    path.write_text(path.read_text().replace('"format_version": 1', '"format_version": 2'))
    with pytest.raises(
        BadInput, match=r"study\.json: format_version: 2 is newer than this program"
    ):
        provenance.read_results(path)
    path.write_text("[" * 10_000)
    with pytest.raises(BadInput, match=r"study\.json: not JSON"):
        provenance.read_results(path)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("here", None),
        ("absent", "no such file"),
        ("here/below", "no such file"),
        (".", "expected a file, got a folder"),
        ("/dev/null", "expected a regular file, got a device or a pipe"),
        ("x" * 300, "cannot be read: File name too long"),
        ("loop", "cannot be read: Too many levels of symbolic links"),
    ],
)
def test_a_file_that_is_to_be_read(
    name: str, says: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("here").touch()
    Path("loop").symlink_to("loop")
    if says is None:
        files.check_file(Path(name), "it")
        return
    with pytest.raises(BadInput) as raised:
        files.check_file(Path(name), "it")
    assert str(raised.value) == f"it: {says}"


def test_files_are_tried_without_a_trace(tmp_path: Path) -> None:
    (tmp_path / "kept.npy").write_bytes(b"kept")
    files.check_writable(tmp_path / "kept.npy", "--output")
    files.check_writable(tmp_path / "new.npy", "--output")
    files.check_replaceable(tmp_path / "new.md", "-o")
    with pytest.raises(BadInput, match="-o /dev/null: expected a regular file, or a name that is"):
        files.check_replaceable(Path("/dev/null"), "-o")
    assert [one.name for one in tmp_path.iterdir()] == ["kept.npy"]
    assert (tmp_path / "kept.npy").read_bytes() == b"kept"
