"""A command that is ended from outside says one line, and leaves no temporary file."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tvm_mobilenet import cli

PATIENCE_S = 120.0
SMALL = ("--alpha", "0.25", "--resolution", "32")


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The temporary folder of what a test runs."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    # where torch caches, once another test has made it say so
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
    monkeypatch.setattr(tempfile, "tempdir", None)
    return folder


def run(body: Callable[[], int], *flags: str) -> int:
    args = cli.make_parser("any", "Any.").parse_args(flags)
    return cli.run_stage(lambda _: body(), args)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_that_a_library_makes_an_error_of_is_one(
    number: signal.Signals, capsys: pytest.CaptureFixture[str]
) -> None:
    def body() -> int:
        try:
            os.kill(os.getpid(), number)
            time.sleep(PATIENCE_S)
        except KeyboardInterrupt:
            raise RuntimeError("a pass failed\nmany lines") from None
        return 0

    before = signal.getsignal(number)
    assert run(body) == cli.INTERRUPTED
    assert capsys.readouterr().err == "interrupted\n"
    assert signal.getsignal(number) is before


def test_what_is_left_in_the_temporary_folder_goes(temporary: Path) -> None:
    def body() -> int:
        left = Path(tempfile.mkdtemp())
        subprocess.run(["mktemp"], check=True, stdout=subprocess.DEVNULL)
        os.environ["A_CACHE_DIR"] = str(left / "cache")  # as a library keeps where it caches
        assert len(list(left.parent.iterdir())) == 2 and temporary in left.parents
        return 0

    assert run(body) == 0
    assert not list(temporary.iterdir()) and "A_CACHE_DIR" not in os.environ
    assert os.environ["TMPDIR"] == tempfile.gettempdir() == str(temporary)


@pytest.mark.parametrize("command", ["compile", "tune"])
def test_sigterm_leaves_no_file(command: str, temporary: Path, tmp_path: Path) -> None:
    """While torch exports: its errors of an interrupt, and its caches, are not ours to show."""
    paths = os.pathsep.join(filter(None, sys.path))
    process = subprocess.Popen(
        [sys.executable, "-m", f"tvm_mobilenet.{command}", *SMALL],
        cwd=tmp_path,
        # nothing exported is kept yet, so that torch has to
        env={**os.environ, "PYTHONPATH": paths, "XDG_CACHE_HOME": str(tmp_path / "cache")},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + PATIENCE_S
    while not list(temporary.rglob("torchinductor_*")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    process.terminate()
    _, error = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == cli.INTERRUPTED
    assert error.splitlines()[-1] == "interrupted"
    assert not list(temporary.iterdir())
