"""The bench stage, as a user calls it, on bundles of a few lines."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper
from support import foreign_onnx, near_calls, tiny_bundle
from support.result_rows import row

import tvm_mobilenet
from tvm_mobilenet import bench, models, processes
from tvm_mobilenet.benchmark import cases, engines, neighbour, rows, sweep
from tvm_mobilenet.benchmark.engines import ENGINES
from tvm_mobilenet.benchmark.engines.networks import Network
from tvm_mobilenet.benchmark.places import side_by_side
from tvm_mobilenet.benchmark.progress import PlainProgress
from tvm_mobilenet.errors import BadInput, RunFailed
from tvm_mobilenet.results import schema

QUICK = ("--min-time", "0", "--min-runs", "25")
FROM_ONNX = {"onnx_sha256": "0" * 64}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def tiny(folder: Path) -> Path:
    """A bundle that says it was compiled from an ONNX file."""
    tiny_bundle.write(folder / "tiny.tar", tiny_bundle.classifier(), model=FROM_ONNX)
    return Path("tiny.tar")


def run(*arguments: object) -> int:
    return bench.main([str(argument) for argument in arguments])


def test_a_bundle_is_measured(
    tiny: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "120")  # for no cell to be wrapped
    assert run(tiny, "--against", "pytorch", "--json", "r.json", *QUICK) == 0
    results = schema.load(Path("r.json"))
    ours, pytorch = results.results
    assert (ours.model, ours.alpha, ours.resolution) == ("tiny", None, 4)
    assert (ours.engine, ours.target, ours.tuned) == ("bundle", "test", False)
    assert (ours.status, ours.reference) == ("ok", "expected_output")
    assert ours.max_abs_diff is not None and ours.max_abs_diff < 1e-5
    assert ours.latency_ms is not None and ours.latency_ms.n >= 25
    assert ours.artifact_mb and ours.artifact_mb * 1e6 > 1000
    assert pytorch.status == "not run" and "needs one of our models" in (pytorch.reason or "")
    assert results.command is not None
    assert results.command.startswith("tvm-mobilenet bench tiny.tar --against pytorch")
    out, err = capsys.readouterr()
    assert "bundle, default schedules" in out and "wrote r.json" in out
    assert "bundle: warming up" in err and "drift of bundle" in err


@pytest.mark.skipif(neighbour.cpu_beside() is None, reason="needs two CPUs")
def test_it_is_measured_again_beside_noise(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ("--against", "none", "--noise", "fma", "--json", "r.json", *QUICK)
    assert run(tiny, *flags) == 0
    quiet, noisy = schema.load(Path("r.json")).results
    assert (quiet.neighbour, noisy.neighbour) == (None, "fma")
    assert noisy.latency_ms is not None
    out, err = capsys.readouterr()
    assert "beside noise, tiny" in out
    assert "beside fma noise on CPU" in err


def test_noise_that_ends_is_no_noise() -> None:
    cpu = neighbour.cpu_beside() or 0
    died = pytest.raises(RunFailed, match=r"makes noise \(memory\) ended while")
    with died, neighbour.beside("memory", cpu) as child:
        child.kill()


def test_noise_that_cannot_be(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tiny, "--noise", "fma", "--profile") == 2
    assert "--noise is for latencies on this machine" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        run(tiny, "--noise", "loud")
    assert "expected memory or fma, got 'loud'" in capsys.readouterr().err


def test_several_inputs_and_outputs_of_several_types(folder: Path) -> None:
    """Every engine is fed the same: bytes, floats."""
    node = helper.make_node
    nodes = [
        node("Cast", ["x"], ["real"], to=foreign_onnx.FLOAT),
        node("Mul", ["real", "scale"], ["c"]),
        node("ArgMax", ["c"], ["y"], axis=1),
    ]
    shapes = {"x": ("N", 3, 8, 8), "scale": ("N", 3, 1, 1)}
    outputs = {"c": foreign_onnx.FLOAT, "y": foreign_onnx.INT64}
    model = foreign_onnx.network(shapes, nodes, outputs, kind=foreign_onnx.FLOAT)
    model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.UINT8
    path = foreign_onnx.save(model, folder)
    tvm_mobilenet.compile_bundle("both", onnx=path, batch=1, tuning_records="none")
    peers = [name for name in ("onnxruntime", "openvino") if ENGINES[name].missing() is None]
    against = ",".join(peers) or "none"
    assert run("both", "--onnx", path, "--against", against, "--json", "r.json", *QUICK) == 0
    results = schema.load(Path("r.json")).results
    assert [(one.engine, one.status) for one in results] == [
        (name, "ok") for name in ("bundle", *peers)
    ]
    assert {one.resolution for one in results} == {8}


def test_bundles_of_one_network_are_measured_together(tiny: Path) -> None:
    tiny_bundle.write(Path("other"), tiny_bundle.classifier(), model=FROM_ONNX)
    (case,) = cases.from_bundles([tiny, Path("other")], cases.Files(), (), Path())
    assert [candidate.name for candidate in case.candidates] == ["bundle:tiny", "bundle:other"]


def test_another_precision_than_the_peers_is_measured_by_itself(folder: Path) -> None:
    gpu = tiny_bundle.of_a_gpu("tf32")
    tiny_bundle.write(Path("t"), tiny_bundle.classifier(), model=FROM_ONNX, **gpu)
    (case,) = cases.from_bundles([Path("t")], cases.Files(), (), Path())
    assert case.network.precision == "tf32" and len(case.candidates) == 1
    with pytest.raises(BadInput, match="--against none"):
        cases.from_bundles([Path("t")], cases.Files(), ("pytorch",), Path())


def test_thread_counts_are_measured_one_after_the_other(tiny: Path) -> None:
    assert run(tiny, "--against", "none", "--threads", "1,2", "--json", "r.json", *QUICK) == 0
    assert [one.threads for one in schema.load(Path("r.json")).results] == [1, 2]


def test_a_wrong_bundle_exits_1(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = models.config_from("mobilenet_v1", 0.25, 32)
    model = json.loads(json.dumps({**vars(config), "feature_strides": []}))
    tiny_bundle.write(folder / "wrong.tar", tiny_bundle.classifier(), model=model)
    assert run("wrong.tar", "--against", "none", "--json", "r.json", *QUICK) == 1
    (ours,) = schema.load(Path("r.json")).results
    assert ours.status == "not run" and ours.latency_ms is None
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: bundle was not measured: ")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "nothing to measure: pass a BUNDLE (from tvm-mobilenet compile), --sweep or --zoo"),
        (
            ["--sweep", "tiny.tar"],
            "--sweep and --zoo compile their own bundles; drop BUNDLE, --onnx and",
        ),
        (
            ["--zoo", "tiny.tar"],
            "--sweep and --zoo compile their own bundles; drop BUNDLE, --onnx and",
        ),
        (["none.tar"], "none.tar: no such bundle"),
        (["tiny.tar", "--onnx", "none.onnx"], "--onnx none.onnx: no such file"),
        (["tiny.tar", "--onnx", "tiny.tar"], "compiled from another ONNX file than tiny.tar"),
        (["tiny.tar", "--json", "none/r.json"], "--json none/r.json: cannot be written"),
        (["half.tar"], "half.tar: its precision is fp16, the peers' is fp32; bench it by itself"),
        (["ours.tar", "--onnx", "tiny.tar"], "compiled from one of our models; drop --onnx"),
    ],
)
def test_bad_input_is_one_line(
    tiny: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], complaint: str
) -> None:
    library = tiny_bundle.classifier()
    tiny_bundle.write(Path("half.tar"), library, model=FROM_ONNX, **tiny_bundle.of_a_gpu("fp16"))
    tiny_bundle.write(Path("ours.tar"), library, model={"alpha": 0.25})
    assert run(*arguments) == 2
    out, err = capsys.readouterr()
    errors = [line for line in err.splitlines() if "note:" not in line]
    assert len(errors) == 1 and errors[0].startswith("error: ") and complaint in errors[0]
    assert out == ""


@pytest.mark.parametrize(
    ("against", "complaint"),
    [
        ("tflite", "unknown engine 'tflite'; known: pytorch, torch-compile, onnxruntime,"),
        ("pytorch,bundle", "unknown engine 'bundle'"),
        ("", "unknown engine ''"),
    ],
)
def test_an_unknown_engine_lists_those_known(
    against: str, complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as raised:
        run("b.tar", "--against", against)
    assert raised.value.code == 2
    err = capsys.readouterr().err
    assert complaint in err and err.count("\n") == 1


def test_engine_names_are_taken_once() -> None:
    assert engines.parse_peers("openvino,pytorch,openvino") == ("openvino", "pytorch")
    assert engines.parse_peers("none") == ()


@pytest.fixture
def no_measuring(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Networks and rows are made up at once; the list counts the measurements."""
    measured: list[int] = []

    def of_model(
        config: models.Config, batch: int, precision: Any, against: Any, scratch: Path
    ) -> Network:
        x = np.zeros((batch, *config.input_shape), np.float32)
        name, alpha, size = models.name_of(config), models.width_of(config), config.resolution
        return Network(name, alpha, size, batch, precision, {}, None, (x,), (), "pytorch")

    def measure(self: side_by_side.SideBySide) -> list[schema.ResultRow]:
        measured.append(self.network.resolution)
        network = self.network
        where = {"model": network.model, "alpha": network.alpha, "resolution": network.resolution}
        return [row("bundle", 8.0, **where), row("onnxruntime", 10.0, **where)]

    monkeypatch.setattr(cases, "of_model", of_model)
    monkeypatch.setattr(side_by_side.SideBySide, "measure", measure)
    return measured


@pytest.fixture
def compiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every variant, at once."""

    def compile_variant(self: sweep.Sweep, *_: object) -> rows.Candidate:
        return rows.Candidate("bundle", ENGINES["bundle"], self.target)

    monkeypatch.setattr(sweep.Sweep, "compile", compile_variant)


def test_the_sweep_measures_16_variants_and_sums_up(
    folder: Path,
    no_measuring: list[int],
    compiles: None,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run("--sweep", "--against", "onnxruntime", "--json", "r.json") == 0
    assert len(no_measuring) == 16
    rows = schema.load(Path("r.json")).results
    assert len({(one.alpha, one.resolution) for one in rows}) == 16
    out = capsys.readouterr().out
    assert "16 networks, fp32, 1 thread: geometric mean of fastest peer ÷ ours 1.25" in out
    assert "faster on 16, slower on 0, no difference on 0." in out


def test_the_zoo_measures_the_networks_people_ship(
    folder: Path,
    no_measuring: list[int],
    compiles: None,
    capsys: pytest.CaptureFixture[str],
) -> None:
    flags = ("--against", "onnxruntime", "--threads", "1,2", "--tuning-records", "none")
    assert run("--zoo", *flags, "--json", "r.json") == 0
    assert len(no_measuring) == 2 * len(sweep.ZOO)
    rows = schema.load(Path("r.json")).results
    assert {one.model for one in rows} == set(sweep.ZOO)
    assert {one.alpha for one in rows if one.model == "resnet18"} == {None}
    out = capsys.readouterr().out
    assert "resnet18 224, fp32" in out
    assert "mobilenet_v1_full_convolution 1.0-224, fp32" in out


def test_the_zoo_and_the_sweep_are_two_requests(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as raised:
        run("--zoo", "--sweep")
    assert raised.value.code == 2
    assert "not allowed with argument" in capsys.readouterr().err


def test_an_interrupted_sweep_keeps_its_finished_rows(
    folder: Path,
    no_measuring: list[int],
    compiles: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    measure = side_by_side.SideBySide.measure

    def interrupted(self: side_by_side.SideBySide) -> list[schema.ResultRow]:
        if len(no_measuring) == 3:
            raise KeyboardInterrupt
        return measure(self)

    monkeypatch.setattr(side_by_side.SideBySide, "measure", interrupted)
    assert run("--sweep", "--json", "r.json") == 130
    assert len(schema.load(Path("r.json")).results) == 6
    err = capsys.readouterr().err
    assert "r.json holds the 6 rows finished so far; --resume goes on with it" in err

    # what is there is not measured again, whatever stands where in the command
    monkeypatch.setattr(side_by_side.SideBySide, "measure", measure)
    assert run("--resume", "--sweep", "--json", "r.json") == 0
    assert len(no_measuring) == 3 + 13
    results = schema.load(Path("r.json"))
    assert len({(one.alpha, one.resolution, one.engine) for one in results.results}) == 32
    assert results.command == "tvm-mobilenet bench --sweep --json r.json"
    err = capsys.readouterr().err
    assert "3 of 16 measurements are in r.json already" in err
    assert "13 networks, 13 measurements of 5 engines: about" in err


def test_a_sweep_goes_on_only_with_its_own_results(
    folder: Path,
    no_measuring: list[int],
    compiles: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    sweep_of = ("--sweep", "--against", "onnxruntime", "--json", "r.json")
    assert run(*sweep_of, "--resume") == 0  # with nothing there it begins
    whole = Path("r.json").read_text()
    capsys.readouterr()

    def refusal(*arguments: str) -> str:
        assert run(*arguments, "--resume") == 2
        assert Path("r.json").read_text() in (whole, changed)
        lines = capsys.readouterr().err.splitlines()
        return next(line for line in lines if line.startswith("error: "))

    changed = whole
    assert "was made by 'tvm-mobilenet bench --sweep" in refusal(*sweep_of, "--threads", "1,2")
    changed = whole.replace('"torch": "', '"torch": "9.')
    Path("r.json").write_text(changed)
    assert "another versions of packages: torch 9." in refusal(*sweep_of)
    changed = whole[:-30]
    Path("r.json").write_text(changed)
    assert "r.json: not JSON" in refusal(*sweep_of)
    for arguments in (("--sweep",), ("tiny.tar", "--json", "r.json")):
        assert "--resume goes with --sweep or --zoo" in refusal(*arguments)


def test_a_sweep_says_how_long_it_takes(
    folder: Path, no_measuring: list[int], compiles: None, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ("--against", "onnxruntime", "--threads", "1,2", "--min-time", "0.5s")
    assert run("--sweep", *flags) == 0
    err = capsys.readouterr().err
    assert "16 networks, 32 measurements of 2 engines: about 7 min" in err
    assert "mobilenet_v1 1.0-224, fp32, 1 thread (1 of 32)" in err
    assert "mobilenet_v1 0.25-128, fp32, 2 threads (32 of 32, about 1 s left)" in err


def test_a_variant_that_does_not_compile_is_a_row(
    no_measuring: list[int], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def refuse(*arguments: object) -> Iterator[Path]:
        raise BadInput("unknown target 'x87'")

    monkeypatch.setattr(processes, "call", refuse)
    from rich.console import Console

    progress = PlainProgress(Console(quiet=True))
    first = next(sweep.Sweep("x87").cases(("pytorch",), tmp_path, progress))
    ours, pytorch = first.candidates
    assert ours.absent == "does not compile: unknown target 'x87'"
    assert pytorch.absent is None


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({}, "mobilenet_v1"),
        ({"activation": "relu6", "seed": 3}, "mobilenet_v1 activation=relu6 seed=3"),
        ({"kind": "shallow"}, "mobilenet_v1_shallow"),
    ],
)
def test_a_row_names_every_option_that_is_not_the_default(
    options: dict[str, Any], name: str
) -> None:
    assert cases.model_name(models.MobileNetConfig(0.5, 160, **options)) == name


def test_a_sweep_in_int8_gives_all_engines_one_quantized_file(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small = models.MobileNetConfig(0.25, 32)
    monkeypatch.setattr(sweep.Sweep, "configs", lambda _: iter([small]))
    flags = ["--against", "onnxruntime,openvino", "--min-time", "0.05s", "--min-runs", "5"]
    json = ["--tuning-records", "none", "--patience", "0.1s", "--json", "r.json"]
    assert run("--sweep", "--precision", "int8", *flags, *json) == 0
    rows = schema.load(Path("r.json")).results
    assert [(row.engine, row.status, row.precision) for row in rows] == [
        (name, "ok", "int8") for name in ("bundle", "onnxruntime", "openvino")
    ]
    assert all(row.reference == "onnxruntime" for row in rows)
    assert "mobilenet_v1 0.25-32, int8, 1 thread" in capsys.readouterr().out


@pytest.mark.isa("avx512_bf16")
def test_a_sweep_in_bf16_has_no_peer_in_another_precision(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # not in processes of their own, each of which imports TVM or PyTorch: int8's sweep does
    monkeypatch.setattr(processes, "call", near_calls.call)
    small = models.MobileNetConfig(0.25, 32)
    monkeypatch.setattr(sweep.Sweep, "configs", lambda _: iter([small]))
    peers = ("openvino", "pytorch", "onnxruntime", "litert")
    flags = ["--against", ",".join(peers), "--min-time", "0.05s", "--min-runs", "5"]
    json = ["--tuning-records", "none", "--patience", "0.1s", "--json", "r.json"]
    target = ["--target", "x86-znver4"]
    assert run("--sweep", "--precision", "bf16", *target, *flags, *json) == 0
    rows = schema.load(Path("r.json")).results
    assert {row.precision for row in rows} == {"bf16"}
    by_name = {row.engine: row for row in rows}
    for name in ("bundle", "openvino", "pytorch"):
        assert by_name[name].status == "ok"
        assert (by_name[name].max_abs_diff or 0) > 1e-4, "rounded"
    assert by_name["onnxruntime"].reason == "has no bf16 on CPUs"
    assert by_name["litert"].status == "not run"
    assert "mobilenet_v1 0.25-32, bf16, 1 thread" in capsys.readouterr().out


def test_a_bundle_has_its_own_precision(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("tiny.tar", "--precision", "int8") == 2
    assert "--precision is for --sweep and --zoo" in capsys.readouterr().err
