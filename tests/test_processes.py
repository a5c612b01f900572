"""Children that answer, crash, hang or print, and functions called in a process of their own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from tvm_mobilenet import processes
from tvm_mobilenet.errors import BadInput, RunFailed
from tvm_mobilenet.processes import Child, ChildDied, NoAnswer

PATIENCE_S = 30.0


class Awkward(Exception):
    """One that another process cannot be given."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(first + second)


def double(value: int) -> int:
    return 2 * value


def refuse() -> None:
    raise BadInput("not this one")


def refuse_awkwardly() -> None:
    raise Awkward("a line\n", "and the last one")


def leave_a_file() -> tuple[str, str]:
    descriptor, name = tempfile.mkstemp()
    os.close(descriptor)
    return name, os.environ["TMPDIR"]


def stop_the_parent_then_sleep() -> None:
    os.kill(os.getppid(), signal.SIGTERM)
    time.sleep(PATIENCE_S)


def test_a_function_is_called_in_a_process_of_its_own() -> None:
    assert processes.call(double, 21) == 42
    assert processes.call(os.getpid) != os.getpid()


def test_a_parent_that_is_interrupted_before_it_asks_leaves_no_traceback(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    child = Child("tvm_mobilenet.processes", log=log)
    child.close_pipe()
    assert child.wait(PATIENCE_S) == 0
    assert log.read_text() == ""


def test_what_it_raises_is_raised_here() -> None:
    with pytest.raises(BadInput, match=r"^not this one$"):
        processes.call(refuse)
    with pytest.raises(RunFailed, match=r"^Awkward: and the last one$"):
        processes.call(refuse_awkwardly)


def test_a_process_that_dies_is_one_line() -> None:
    with pytest.raises(RunFailed, match=r"^the process for abort was ended by SIGABRT$"):
        processes.call(os.abort)


def test_its_temporary_files_go_with_it() -> None:
    name, folder = processes.call(leave_a_file)
    assert Path(name).parent == Path(folder) and not Path(folder).exists()


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A module that a child can run, ``childs_play``."""
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path / "childs_play.py"


ANSWER = "from tvm_mobilenet.processes import connect_to_parent\npipe = connect_to_parent()\n"


def test_a_child_answers_and_prints_into_its_log(script: Path, tmp_path: Path) -> None:
    script.write_text(ANSWER + "print('at work', flush=True)\npipe.send(pipe.recv() + 1)\n")
    child = Child("childs_play", log=tmp_path / "log")
    child.send(41)
    assert child.receive(PATIENCE_S) == 42 and child.last_words() == "at work"
    child.kill()


def test_a_childs_end_says_how(script: Path, tmp_path: Path) -> None:
    script.write_text(ANSWER + "print('no room')\nraise SystemExit(7)\n")
    child = Child("childs_play", log=tmp_path / "log")
    with pytest.raises(ChildDied, match=r"^ended with status 7$"):
        child.receive(PATIENCE_S)
    assert child.last_words() == "no room"
    child.kill()


def test_a_child_that_says_nothing(script: Path) -> None:
    script.write_text(ANSWER + "import time\ntime.sleep(3600)\n")
    child = Child("childs_play")
    with pytest.raises(NoAnswer):
        child.receive(0.1)
    child.kill()
    with pytest.raises(ProcessLookupError):
        os.kill(child.pid, 0)


PARENT = """
import sys
from tvm_mobilenet import cli, processes
from test_processes import stop_the_parent_then_sleep
args = cli.make_parser("any", "Any.").parse_args([])
sys.exit(cli.run_command(lambda _: processes.call(stop_the_parent_then_sleep), args))
"""


def test_sigterm_ends_the_child_and_leaves_no_file(tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "TMPDIR": str(tmp_path),
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)]),
    }
    start = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", PARENT], env=environment, check=False, stderr=subprocess.PIPE
    )
    assert done.returncode == 128 + signal.SIGTERM and done.stderr == b"interrupted\n"
    assert time.monotonic() - start < PATIENCE_S
    assert not list(tmp_path.iterdir())
