"""Whatever comes in, and whatever goes wrong, a command ends in one plain line and a status."""

from __future__ import annotations

import argparse
import contextlib
import errno
import io
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from support import foreign_onnx, tiny_bundle

from tvm_mobilenet import __main__ as command
from tvm_mobilenet import api, bundle, cli, compile, cost, devices, files, report, run
from tvm_mobilenet.errors import BadInput, RunFailed
from tvm_mobilenet.models.normalisation import IMAGENET
from tvm_mobilenet.network import onnx_export, source
from tvm_mobilenet.runtime.classes import softmax

Capture = pytest.CaptureFixture[str]
ROOT = Path(__file__).parents[2]
node = helper.make_node


def ends(body: Callable[[], int], *, debug: bool = False) -> int:
    """The status of a stage with this body."""
    return cli.run_stage(lambda _: body(), argparse.Namespace(debug=debug))


def status_of(stage: types.ModuleType, *arguments: str | Path) -> int:
    try:
        status: int = stage.main([str(argument) for argument in arguments])
    except SystemExit as stop:
        return int(stop.code or 0)
    return status


def fails(capfd: pytest.CaptureFixture[str], status: int, *arguments: Any) -> str:
    """The one line that a stage ends with, of all that its process writes to stderr."""
    got = status_of(*arguments)
    captured = capfd.readouterr()
    assert got == status, captured.err
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1, captured.err
    return captured.err


# What is raised


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


def test_an_error_while_the_stage_is_imported(
    monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setitem(sys.modules, command.STAGES["cost"].module, None)
    assert command.main(["cost"]) == 1
    assert capsys.readouterr().err.count("\n") == 1


# Ctrl-C and SIGTERM


def interrupted(capfd: Capture, body: Callable[[], int]) -> None:
    assert ends(body) == 130
    assert capfd.readouterr().err == "interrupted\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_inside_a_pass_of_tvms(capfd: Capture, number: signal.Signals) -> None:
    """TVM raises a RuntimeError without a text then."""
    import tvm

    @tvm.transform.module_pass(opt_level=0, name="Interrupted")
    def interrupt(mod: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
        signal.raise_signal(number)
        return mod

    def body() -> int:
        tvm.transform.Sequential([interrupt])(tvm.IRModule({}))
        return 0

    before = signal.getsignal(number)
    interrupted(capfd, body)
    assert signal.getsignal(number) == before


def test_ctrl_c_inside_pytorchs_exporter(capfd: Capture) -> None:
    import torch

    class Interrupted(torch.nn.Module):
        calls = 0

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            type(self).calls += 1
            if self.calls > 1:  # the first is ours, before the export
                signal.raise_signal(signal.SIGINT)
            return x + 1

    def body() -> int:
        onnx_export.export(Interrupted().eval(), (1, 3, 8, 8))
        return 0

    interrupted(capfd, body)


def test_ctrl_c_while_an_importer_runs(
    capfd: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it is turned into is not told as a fault of the network."""
    from tvm.relax.frontend import onnx as frontend

    def importer(*_: object, **__: object) -> None:
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            raise RuntimeError from None

    monkeypatch.setattr(frontend, "from_onnx", importer)
    path = foreign_onnx.save(foreign_onnx.classifier(node("Relu", ["scores"], ["y"])), tmp_path)
    assert status_of(compile, "--onnx", path, "-o", tmp_path / "out") == 130
    assert capfd.readouterr().err == "interrupted\n"


def test_an_ignored_signal_stays_ignored() -> None:
    """As under nohup, or in the background of a script."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:

        def hang_up() -> int:
            signal.raise_signal(signal.SIGHUP)
            return 0

        assert ends(hang_up) == 0
    finally:
        signal.signal(signal.SIGHUP, before)


HELD = """
import argparse, os, sys, time
from tvm_mobilenet import cli, files

def body(args):
    with files.temporary_folder() as folder:
        (folder / "model.so").write_bytes(b"")
        if not os.fork():
            print(os.getpid(), flush=True)
        time.sleep(60)
    return 0

sys.exit(cli.run_stage(body, argparse.Namespace(debug=False)))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_nothing_is_left_in_the_temporary_folder(tmp_path: Path, number: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HELD],
        cwd=ROOT,
        env=os.environ | {"TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as held:
        assert held.stdout
        assert held.stderr
        child = int(held.stdout.readline())
        assert list(tmp_path.iterdir())
        # a forked child ends as if nobody had taken the signal over, and says nothing
        os.kill(child, number)
        ended_by = Path(f"/proc/{child}/stat")
        deadline = time.monotonic() + 30
        while ended_by.read_text().split()[2] != "Z":  # its parent has not asked how it ended
            assert time.monotonic() < deadline
            time.sleep(0.01)
        held.send_signal(number)
        assert held.wait(timeout=30) == 130
        assert held.stderr.read() == "interrupted\n"
    assert not list(tmp_path.iterdir())


def test_compiling_leaves_nothing_in_the_temporary_folder(tmp_path: Path) -> None:
    """Neither of ours, nor PyTorch's cache and ONNX Runtime's notes."""
    (tmp_path / "tmp").mkdir()
    words = [sys.executable, "-m", "tvm_mobilenet.compile", "--alpha", "0.25", "--resolution", "32"]
    subprocess.run(
        [*words, "--on-untuned", "allow", "-o", str(tmp_path / "out")],
        cwd=ROOT,
        env=os.environ | {"TMPDIR": str(tmp_path / "tmp")},
        capture_output=True,
        check=True,
    )
    assert bundle.is_bundle(tmp_path / "out")
    assert not list((tmp_path / "tmp").iterdir())


def test_the_environment_is_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", tempfile.gettempdir())
    before = dict(os.environ)
    with files.own_temporary_folder():
        own = tempfile.gettempdir()
        assert os.environ["TMPDIR"] == own != before["TMPDIR"]
        os.environ["CACHE"] = f"{own}/cache"
        Path(os.environ["CACHE"]).mkdir()
    assert dict(os.environ) == before
    assert tempfile.gettempdir() == before["TMPDIR"]
    assert not Path(own).exists()


# Standard output

PRINTS: dict[str, tuple[types.ModuleType, tuple[str, ...]]] = {
    "help": (command, ("--help",)),
    "help of run": (run, ("--help",)),
    "help of compile": (compile, ("--help",)),
    "version": (command, ("--version",)),
    "cost": (cost, ()),
    "devices": (devices, ()),
    "run": (run, ("tiny",)),
}


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    tiny_bundle.write(tmp_path / "tiny", tiny_bundle.classifier())
    return tmp_path / "tiny"


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize("buffering", [-1, 1], ids=["buffered", "by line"])
@pytest.mark.parametrize("name", PRINTS)
def test_a_full_stdout(
    name: str, buffering: int, capfd: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage, arguments = PRINTS[name]
    with open("/dev/full", "w", buffering=buffering, encoding="utf-8") as full:
        monkeypatch.setattr(sys, "stdout", full)
        line = fails(capfd, 1, stage, *arguments)
        monkeypatch.undo()
        # as Python does at its end: by now it goes nowhere, and is no error
    assert line == "error: stdout cannot be written: No space left on device\n"


def test_a_table_on_a_full_stdout(
    tmp_path: Path, capfd: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By rich, after the work."""
    path = foreign_onnx.save(foreign_onnx.classifier(node("Relu", ["scores"], ["y"])), tmp_path)
    with open("/dev/full", "w", encoding="utf-8") as full:
        monkeypatch.setattr(sys, "stdout", full)
        arguments = ("--onnx", path, "-o", tmp_path / "out", "--on-untuned", "allow")
        line = fails(capfd, 1, compile, *arguments)
        monkeypatch.undo()
    assert line == "error: stdout cannot be written: No space left on device\n"
    assert bundle.is_bundle(tmp_path / "out")


SHELL = {
    "full": (">/dev/full", "stdout cannot be written: No space left on device", 1),
    "closed": (">&-", "stdout is closed; send it to a file, or to /dev/null", 2),
    "head": ("| true", "stdout cannot be written: Broken pipe", 1),
    "nowhere to say it": (">/dev/full 2>/dev/full", "", 1),
    "no stderr": (">/dev/full 2>&-", "", 1),
}


@pytest.mark.parametrize("way", SHELL)
@pytest.mark.parametrize("unbuffered", ["", "1"], ids=["buffered", "unbuffered"])
def test_stdout_as_a_shell_gives_it(way: str, unbuffered: str) -> None:
    redirection, says, status = SHELL[way]
    words = f"{sys.executable} -m tvm_mobilenet --help {redirection}; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        ["bash", "-c", words],
        cwd=ROOT,
        env=os.environ | {"PYTHONUNBUFFERED": unbuffered},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stderr, done.returncode) == (f"error: {says}\n" if says else "", status)


# Networks of others

CONV = {"w": np.ones((4, 3, 3, 3), np.float32)}
K = {"k": np.array([2])}
FOREIGN: dict[str, tuple[onnx.ModelProto, int, str]] = {
    "a bool output": (
        foreign_onnx.model([node("Greater", ["x", "x"], ["y"])], output=TensorProto.BOOL),
        2,
        "ONNX output y must be float32, float16, int64, int32, int8, uint8, it is bool; end the",
    ),
    "a slope of a shape that fits nothing": (
        foreign_onnx.model([node("PRelu", ["x", "s"], ["y"])], {"s": np.ones((3, 1), np.float32)}),
        2,
        "ONNX model does not run by ONNX Runtime: ",
    ),
    "an operator that the importer lacks": (
        foreign_onnx.model([node("Det", ["x"], ["y"], name="last")], shape=(1, 3)),
        2,
        "ONNX model not supported: TVM has no importer for Det (node last)",
    ),
    "an operator that it fails at": (
        foreign_onnx.model([node("TopK", ["x", "k"], ["y", "i"], name="best", sorted=0)], K),
        2,
        "ONNX model cannot be imported: TopK (node best): TopK sorted must be 1",
    ),
    "a node without a name": (
        foreign_onnx.model([node("TopK", ["x", "k"], ["y", "i"], sorted=0)], K),
        2,
        "ONNX model cannot be imported: TopK (output y): TopK sorted must be 1",
    ),
    "what TVM does not compile": (
        foreign_onnx.model(
            [node("ScatterElements", ["x", "at", "new"], ["y"])],
            {"at": np.zeros((1, 1, 1, 1), np.int64), "new": np.ones((1, 1, 1, 1), np.float32)},
        ),
        1,
        "foreign.onnx: TVM cannot compile it: ",
    ),
    "nan in the weights": (
        foreign_onnx.model([node("Conv", ["x", "w"], ["y"])], {"w": CONV["w"] * np.nan}),
        2,
        "108 of the 108 weights w of Conv (output y) are nan or infinite",
    ),
    "nan in what it computes": (
        foreign_onnx.model([node("Log", ["x"], ["y"])]),
        2,
        "gives nan or infinity in output 0 for an ordinary input",
    ),
    "a single number": (
        foreign_onnx.model([node("ReduceSum", ["x"], ["y"], keepdims=0)], shape=()),
        2,
        "output 0 of the network is a single number, expected at least one dimension",
    ),
    "what only the virtual machine runs": (
        foreign_onnx.model([node("CumSum", ["x", "axis"], ["y"])], {"axis": np.int64(1)}),
        2,
        "compile with --executor vm",
    ),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_a_network_that_cannot_be_used(name: str, tmp_path: Path, capfd: Capture) -> None:
    made, status, says = FOREIGN[name]
    path = foreign_onnx.save(made, tmp_path)
    line = fails(capfd, status, compile, "--onnx", path, "-o", tmp_path / "out")
    assert says in line
    assert "Metadata" not in line
    assert [one.name for one in tmp_path.iterdir()] == ["foreign.onnx"]


def test_a_failed_import_is_not_followed_by_warnings(tmp_path: Path) -> None:
    """TVM's builder warned as the process ended, when the error let go of it."""
    path = foreign_onnx.save(FOREIGN["an operator that it fails at"][0], tmp_path)
    code = "import sys; from tvm_mobilenet import compile; sys.exit(compile.main(sys.argv[1:]))"
    words = [sys.executable, "-c", code, "--onnx", str(path), "-o", str(tmp_path / "out")]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr


def compiled(capfd: Capture, path: Path, out: Path, *flags: str) -> str:
    arguments: tuple[str | Path, ...] = ("--onnx", path, "-o", out, "--on-untuned", "allow", *flags)
    assert status_of(compile, *arguments) == 0
    return capfd.readouterr().out


def test_weights_that_are_listed_before_the_image(tmp_path: Path, capfd: Capture) -> None:
    made = foreign_onnx.weights_first(
        foreign_onnx.model([node("Conv", ["x", "w"], ["y"])], CONV, opset=9)
    )
    out = compiled(capfd, foreign_onnx.save(made, tmp_path), tmp_path / "out")
    assert "agrees with its reference to" in out


def test_a_file_that_onnx_runtime_does_not_load(tmp_path: Path, capfd: Capture) -> None:
    """It is checked against ONNX's own evaluator, which the last line says, and why."""
    made = foreign_onnx.model([node("Relu", ["x"], ["y"])], opset=1, ir_version=3)
    out = compiled(capfd, foreign_onnx.save(made, tmp_path), tmp_path / "out")
    assert "ONNX's own evaluator, as ONNX Runtime does not load it: Could not find" in out


def test_a_file_that_nothing_runs(
    tmp_path: Path, capfd: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise TypeError("unknown\nand more")

    monkeypatch.setattr(onnx_export, "_runtime_session", refuse)
    monkeypatch.setattr(onnx.reference, "ReferenceEvaluator", refuse)
    path = foreign_onnx.save(foreign_onnx.model([node("Relu", ["x"], ["y"])]), tmp_path)
    line = fails(capfd, 2, compile, "--onnx", path, "-o", tmp_path / "out")
    assert "does not load it: unknown, and neither does ONNX's own evaluator: unknown\n" in line


# Scores and pictures, through to what is printed

HEADS = {
    "softmax": node("Softmax", ["scores"], ["y"]),
    "sigmoid": node("Sigmoid", ["scores"], ["y"]),
    "logits": node("Identity", ["scores"], ["y"]),
}


@pytest.mark.parametrize("head", HEADS)
def test_percentages_of_a_network_with_a_head(
    head: str, tmp_path: Path, capfd: Capture, rng: np.random.Generator
) -> None:
    made = foreign_onnx.classifier(HEADS[head], node("Relu", ["x"], ["unused"]))
    path = foreign_onnx.save(made, tmp_path)
    out = tmp_path / "out"
    compiled(capfd, path, out, "--executor", "vm")
    x = rng.standard_normal(foreign_onnx.IMAGE, np.float32)
    np.save(tmp_path / "x.npy", x)
    assert status_of(run, out, "--input", tmp_path / "x.npy", "--top", "4") == 0
    lines = [line.split() for line in capfd.readouterr().out.splitlines()]
    (values,) = onnx_export.evaluate(made, x)
    expected = (softmax(values) if head == "logits" else values)[0]
    for index, percentage in lines:
        assert float(percentage.rstrip("%")) / 100 == pytest.approx(expected[int(index)], abs=1e-4)
    assert len(lines) == 4


def test_normalisation_is_the_networks_or_unknown(tmp_path: Path, capfd: Capture) -> None:
    path = foreign_onnx.save(foreign_onnx.model([node("Conv", ["x", "w"], ["y"])], CONV), tmp_path)
    compiled(capfd, path, tmp_path / "out")
    with bundle.open_bundle(tmp_path / "out") as opened:
        assert opened.manifest.inputs[0].normalisation is None
        assert opened.manifest.weights == "file"
    compiled(capfd, path, tmp_path / "out", "--mean", "0.5,0.5,0.5", "--std", "1,1,0.25")
    with bundle.open_bundle(tmp_path / "out") as opened:
        said = opened.manifest.inputs[0].normalisation
        assert said == bundle.Normalisation(1 / 255, (0.5, 0.5, 0.5), (1, 1, 0.25))
    arguments = ("--onnx", path, "-o", tmp_path / "other", "--mean", "0.5")
    assert "expected one mean a channel (3), got 1" in fails(capfd, 2, compile, *arguments)


@pytest.mark.parametrize(("padding", "scale"), [("pytorch", 1 / 255), ("tensorflow", 1 / 127.5)])
def test_normalisation_of_our_networks(padding: str, scale: float) -> None:
    from tvm_mobilenet import models

    config = models.config_from("mobilenet_v1", padding=padding)
    said = models.normalisation_of(config)
    assert said.scale == scale
    assert (said == IMAGENET) == (padding == "pytorch")
    assert said.fault(channels=3) is None


# The temporary folder


@pytest.fixture
def no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        pytest.fail("no bundle could be made, and yet a network was opened")

    monkeypatch.setattr(source, "from_onnx", refuse)
    monkeypatch.setattr(source, "from_config", refuse)


def status_without_temporary_folder(*arguments: Any) -> int:
    with pytest.MonkeyPatch.context() as patch:  # pytest needs it for itself before a test's end
        patch.setattr(tempfile, "tempdir", "/nowhere")
        return status_of(*arguments)


@pytest.mark.usefixtures("no_work")
def test_compiling_without_a_temporary_folder(tmp_path: Path, capfd: Capture) -> None:
    assert status_without_temporary_folder(compile, "-o", tmp_path / "out") == 2
    line = capfd.readouterr().err
    assert line.startswith("error: no temporary folder can be made: No such file or directory; set")
    assert line.count("\n") == 1


@pytest.mark.usefixtures("no_work")
def test_compiling_with_a_full_temporary_folder(
    tmp_path: Path, capfd: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=api.TEMPORARY_BYTES - 1)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    line = fails(capfd, 2, compile, "-o", tmp_path / "out")
    assert "expected 32 MiB free, got 32; make room, or set TMPDIR" in line


def test_running_without_a_temporary_folder(tmp_path: Path, capfd: Capture) -> None:
    tiny_bundle.write(tmp_path / "tiny.tar", tiny_bundle.classifier())
    tiny_bundle.write(tmp_path / "tiny", tiny_bundle.classifier())
    names = ("tiny.tar", "tiny")
    statuses = [status_without_temporary_folder(run, tmp_path / name) for name in names]
    lines = capfd.readouterr().err.splitlines()
    assert statuses == [2, 0], "only a .tar has to be unpacked"
    (line,) = lines
    assert "no temporary folder can be made" in line


def test_a_temporary_folder_that_fills_up(
    tmp_path: Path, capfd: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny_bundle.write(tmp_path / "tiny.tar", tiny_bundle.classifier())

    def fill(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(shutil, "copyfileobj", fill)
    line = fails(capfd, 2, run, tmp_path / "tiny.tar")
    assert f"cannot be unpacked into {files.temporary_root()}: No space left on device" in line


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


# Anything

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


def test_files_are_tried_without_a_trace(tmp_path: Path) -> None:
    (tmp_path / "kept.npy").write_bytes(b"kept")
    files.check_writable(tmp_path / "kept.npy", "--output")
    files.check_writable(tmp_path / "new.npy", "--output")
    files.check_replaceable(tmp_path / "new.md", "-o")
    assert [one.name for one in tmp_path.iterdir()] == ["kept.npy"]
    assert (tmp_path / "kept.npy").read_bytes() == b"kept"
