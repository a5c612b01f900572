"""README.md and docs/: commands run as printed, flags and files exist, figures are those measured.

A fenced block of ``console`` or ``python`` runs as it stands, in one folder that all pages share
and with ``tvm-mobilenet`` on the path; where output is printed below a command, the command has to
print it, numbers and the target's name aside. A comment above a block changes that:

    <!-- not run: WHY -->               does not run; NOT_RUN below counts these
    <!-- output not compared: WHY -->   runs, its output is an example
    <!-- file: NAME -->                 of any language: its text is written to that file
"""

from __future__ import annotations

import itertools
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper

from tvm_mobilenet import models
from tvm_mobilenet.__main__ import STAGES
from tvm_mobilenet.__main__ import main as command
from tvm_mobilenet.models.variants import ALPHAS, RESOLUTIONS
from tvm_mobilenet.results import schema, statistics

REPOSITORY = Path(__file__).parents[2]
RESULTS = REPOSITORY / "benchmarks" / "results"
PAGES = ("README.md", *sorted(f"docs/{page.name}" for page in (REPOSITORY / "docs").glob("*.md")))
# These make what the other pages use: the bundle ``mobilenet`` and ``records``.
FIRST = ("README.md", "docs/quickstart.md")
# Blocks that no test runs as printed, for the reasons above each.
NOT_RUN = {
    "README.md": 1,
    "docs/accuracy.md": 2,  # tests/docs/test_digits.py, and what it records
    "docs/adding.md": 1,
    "docs/arm.md": 3,
    "docs/c-library.md": 1,
    "docs/cli.md": 1,
    "docs/cuda.md": 1,
    "docs/measuring.md": 1,
    "docs/performance.md": 7,
    "docs/raspberry-pi.md": 4,  # tests/test_raspberry_pi.py
    "docs/tuning.md": 6,
}
EXAMPLES = sorted(
    str(path.relative_to(REPOSITORY / "examples"))
    for path in (REPOSITORY / "examples").rglob("*.py")
)
LABELS = ("plane", "car", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
README_LINES = 130
LONGEST_LINE = 300
TIMEOUT_S = 200

BLOCK = re.compile(r"(?:^<!-- (.*?) -->\n)?^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NUMBER = re.compile(r"[-+]?\d[\d.,]*(?:e[-+]?\d+)?")
TARGET = re.compile(r"\bx86-[\w-]+")


@dataclass(frozen=True)
class Block:
    """A fenced block: its page and line, language, text, and the comment above it."""

    page: str
    line: int
    language: str
    text: str
    comment: str

    @property
    def runs(self) -> bool:
        return self.language in ("console", "python") and not self.comment.startswith("not run: ")

    def commands(self) -> Iterator[tuple[str, list[str]]]:
        """What a console block tells to type, each with the output printed below it."""
        for part in re.split(r"^\$ ", self.text, flags=re.MULTILINE)[1:]:
            typed, *output = part.rstrip("\n").split("\n")
            yield typed, output


def read(page: str) -> str:
    return (REPOSITORY / page).read_text(encoding="utf-8")


def blocks(page: str) -> list[Block]:
    text = read(page)
    return [
        Block(page, text.count("\n", 0, match.start(2)) + 1, match[2], match[3], match[1] or "")
        for match in BLOCK.finditer(text)
    ]


@dataclass
class Workplace:
    """A folder in which commands run, as after ``pip install`` in a checkout."""

    folder: Path
    done: set[str] = field(default_factory=set)  # pages, and commands that several pages have

    def run(self, *arguments: str) -> str:
        """Standard output; the test fails where the exit status is not 0."""
        path = f"{self.folder / 'bin'}:{os.environ['PATH']}"
        done = subprocess.run(
            arguments,
            cwd=self.folder,
            env={**os.environ, "PATH": path, "PYTHONPATH": str(REPOSITORY)},
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
        assert done.returncode == 0, f"{shlex.join(arguments)}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def run_page(self, page: str) -> None:
        for block in blocks(page) if page not in self.done else ():
            if block.comment.startswith("file: "):
                (self.folder / block.comment.removeprefix("file: ")).write_text(block.text)
            elif block.runs and block.language == "python":
                self.run("python", "-c", block.text)
            elif block.runs:
                self.run_console(block)
        self.done.add(page)

    def run_console(self, block: Block) -> None:
        for typed, output in block.commands():
            if typed in self.done:
                continue
            self.done.add(typed)
            printed = self.run("sh", "-c", typed).splitlines()
            if not block.comment.startswith("output not compared: "):
                problem = missing_line(output, printed)
                where = f"{block.page}, line {block.line}: {typed}"
                assert problem is None, f"{where}\ndoes not print {problem!r} there:\n{printed}"


def missing_line(expected: list[str], printed: list[str]) -> str | None:
    """The first expected line that is not printed in its place; ``…`` stands for any lines."""
    here, anywhere = 0, False
    for line in expected:
        if line == "…":
            anywhere = True
            continue
        pattern = ".*".join(re.escape(part) for part in plain(line).split("…"))
        last = len(printed) if anywhere else here + 1
        matches = (at for at in range(here, last) if at < len(printed))
        found = next((at for at in matches if re.fullmatch(pattern, plain(printed[at]))), None)
        if found is None:
            return line
        here, anywhere = found + 1, False
    return None if anywhere or here == len(printed) or not expected else "the end"


def plain(line: str) -> str:
    """A line without what differs from machine to machine."""
    return " ".join(NUMBER.sub("#", TARGET.sub("TARGET", line)).split())


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    """With a network and a photo of the user's own, and the checkout's folders."""
    from PIL import Image

    folder = tmp_path_factory.mktemp("docs")
    (folder / "bin").mkdir()
    for name, arguments in {"python": "", "tvm-mobilenet": "-m tvm_mobilenet "}.items():
        script = folder / "bin" / name
        script.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {arguments}"$@"\n')
        script.chmod(0o755)
    for name in ("benchmarks", "docs", "examples"):
        (folder / name).symlink_to(REPOSITORY / name)
    onnx.save_model(small_network(), str(folder / "network.onnx"))
    onnx.save_model(small_network("N", "H", "W"), str(folder / "open.onnx"))
    save_checkpoint(folder / "trained.pth")
    (folder / "labels.txt").write_text("\n".join(LABELS))
    pixels = np.random.default_rng(0).integers(0, 256, (150, 200, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "photo.jpg")
    return Workplace(folder)


def save_checkpoint(path: Path) -> None:
    """As torchvision's training script leaves one, of random weights."""
    config = models.config_from("mobilenet_v2", 0.35, 64, num_classes=len(LABELS))
    torch.save({"model": models.build(config).state_dict(), "epoch": 300}, path)


def small_network(
    batch: int | str = 1, height: int | str = 32, width: int | str = 32
) -> onnx.ModelProto:
    """Stem, depthwise, 1x1, pooling and classifier: five kernels, so that tuning is short."""
    rng = np.random.default_rng(0)
    shapes = {"stem": (16, 3, 3, 3), "depthwise": (16, 1, 3, 3), "pointwise": (32, 16, 1, 1)}
    weights = {name: rng.normal(0, 0.2, shape) for name, shape in shapes.items()}
    weights["classifier"] = rng.normal(0, 0.2, (32, 10))
    pads = [1, 1, 1, 1]
    nodes = [
        helper.make_node("Conv", ["x", "stem"], ["a"], strides=[2, 2], pads=pads),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "depthwise"], ["c"], group=16, pads=pads),
        helper.make_node("Relu", ["c"], ["d"]),
        helper.make_node("Conv", ["d", "pointwise"], ["e"]),
        helper.make_node("Relu", ["e"], ["f"]),
        helper.make_node("GlobalAveragePool", ["f"], ["g"]),
        helper.make_node("Flatten", ["g"], ["h"]),
        helper.make_node("MatMul", ["h", "classifier"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 3, height, width])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, 10])],
        [onnx.numpy_helper.from_array(w.astype(np.float32), name) for name, w in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


# Commands


@pytest.mark.parametrize("page", PAGES)
def test_a_page_runs_as_printed(page: str, workplace: Workplace) -> None:
    for one in dict.fromkeys((*FIRST, page)):
        workplace.run_page(one)


def test_blocks_that_do_not_run_are_counted_and_say_why() -> None:
    counted = {}
    for page in PAGES:
        exempt = [block for block in blocks(page) if block.comment.startswith("not run: ")]
        assert all(len(block.comment.split()) >= 4 for block in exempt), page
        counted[page] = len(exempt)
    assert {page: count for page, count in counted.items() if count} == NOT_RUN


def test_every_comment_above_a_block_is_known() -> None:
    known = ("not run: ", "output not compared: ", "file: ")
    found = [block.comment for page in PAGES for block in blocks(page) if block.comment]
    assert [comment for comment in found if not comment.startswith(known)] == []


def test_what_a_printed_output_is_compared_by() -> None:
    printed = ["a 12.5 ms", "b 0.1 for x86-znver4", "c", "wrote m"]
    assert missing_line(["a 3 ms", "…", "wrote m"], printed) is None
    assert missing_line(["…", "b 7e-06 for x86-64-v3", "c", "…"], printed) is None
    assert missing_line(["…", "b … for …", "…"], printed) is None
    assert missing_line([], printed) is None
    assert missing_line(["a 3 ms", "c", "…"], printed) == "c"
    assert missing_line(["…", "wrote n"], printed) == "wrote n"
    assert missing_line(["a 3 ms"], printed) == "the end"


def stage_flags(capsys: pytest.CaptureFixture[str]) -> dict[str, set[str]]:
    """The flags of each stage's help, of all actions for ``records``."""
    actions = {"records": [[one, "--help"] for one in ("list", "verify", "merge", "best")]}
    found: dict[str, set[str]] = {}
    for stage in STAGES:
        for arguments in actions.get(stage, [["--help"]]):
            with pytest.raises(SystemExit) as ended:
                command([stage, *arguments])
            assert ended.value.code == 0
            found.setdefault(stage, set()).update(flags_in(capsys.readouterr().out))
    return found


def flags_in(text: str) -> set[str]:
    """Flags such as ``--json`` and ``-o``; whatever follows a blank, a bracket or a quote."""
    return set(re.findall(r"(?<![\w-])--?[a-z][a-z0-9-]*", text))


def test_flags_of_commands_exist(capsys: pytest.CaptureFixture[str]) -> None:
    stages = stage_flags(capsys)
    checked = 0
    for block in itertools.chain.from_iterable(map(blocks, PAGES)):
        for typed, _ in block.commands() if block.language == "console" else ():
            words = shlex.split(typed.removesuffix(" &"))
            used = {word for word in words if flags_in(word) == {word}}
            if words[0] == "tvm-mobilenet" and words[1] in stages:
                known = stages[words[1]]
            elif words[0] == "python" and words[1].endswith(".py"):
                known = flags_in(read(words[1])) | {"--debug"}
            else:
                continue
            assert used <= known, f"{block.page}: {typed}: no flag {used - known}"
            checked += 1
    assert checked > 40, "commands are not found any more"


def test_flags_in_the_text_exist(capsys: pytest.CaptureFixture[str]) -> None:
    known = set().union(*stage_flags(capsys).values(), {"--strict", "--debug"})
    scripts = [*(REPOSITORY / "benchmarks").glob("*.py"), REPOSITORY / "docs/import_graph.py"]
    known |= set().union(*(flags_in(script.read_text(encoding="utf-8")) for script in scripts))
    for page in PAGES:
        text = BLOCK.sub("", read(page))
        named = {
            flag
            for code in re.findall(r"`([^`]+)`", text)
            for flag in flags_in(code)
            if flag.startswith("--")
        }
        assert named <= known, f"{page}: no flag {named - known}"


def test_files_named_in_the_text_exist() -> None:
    folders = ("benchmarks", "docs", "examples", "schedules", "targets", "tests", "tuning_logs")
    found = 0
    for page in (*PAGES, "CONTRIBUTING.md", "examples/README.md"):
        for code in re.findall(r"`([\w./-]+)`", read(page)):
            if code.startswith(tuple(f"{folder}/" for folder in folders)):
                assert (REPOSITORY / code).exists(), f"{page}: no {code}"
                found += 1
        for link in re.findall(r"\]\(([\w./-]+?)(?:#[\w-]+)?\)", read(page)):
            assert (REPOSITORY / page).parent.joinpath(link).exists(), f"{page}: no {link}"
    assert found > 20, "files are not found any more"


# The examples


@pytest.fixture(scope="module")
def example_bundle(workplace: Workplace) -> str:
    """What compile_and_run.py leaves."""
    said = workplace.run("python", "examples/compile_and_run.py")
    assert "logits of shape (1, 1000)" in said
    return "mobilenet-0.25-128"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        pytest.param(["compile_and_run.py"], None, id="compile_and_run"),
        (["compile_onnx.py", "network.onnx", "example-onnx"], "example-onnx: ready"),
        (["load_bundle.py", "mobilenet-0.25-128", "1"], "median of 20 runs on 1 thread(s)"),
        (["photo.py", "trained.pth", "labels.txt", "photo.jpg"], "%  car"),
        (["tune_briefly.py", "network.onnx", "12s"], "layers tuned"),
        (["bench_and_report.py", "mobilenet-0.25-128", "0.3s"], "wrote report.md"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_an_example_runs(
    arguments: list[str], says: str | None, workplace: Workplace, example_bundle: str
) -> None:
    script, *rest = arguments
    if says is None:  # it ran, in the fixture
        assert (workplace.folder / example_bundle / "manifest.json").is_file()
    else:
        assert says in workplace.run("python", f"examples/{script}", *rest)


def test_every_example_is_listed() -> None:
    listed = re.findall(r"^\| `([\w/]+\.py)", read("examples/README.md"), re.MULTILINE)
    assert sorted(listed) == EXAMPLES


# Style


def test_readme_is_short() -> None:
    assert len(read("README.md").splitlines()) <= README_LINES


@pytest.mark.parametrize("page", [*PAGES, "CHANGELOG.md", "CONTRIBUTING.md"])
def test_no_line_is_too_long(page: str) -> None:
    long = [
        number for number, line in enumerate(read(page).splitlines(), 1) if len(line) > LONGEST_LINE
    ]
    assert not long


def test_readme_says_that_the_weights_are_random() -> None:
    first_screen = read("README.md").split("\n|", 1)[0]
    assert "weights are random" in first_screen


def test_the_site_builds() -> None:
    pytest.importorskip("mkdocs", reason="pip install '.[docs]'")
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet"]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(
        build, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


# Figures

ENGINES = {"onnxruntime": "ONNX Runtime", "openvino": "OpenVINO", "litert": "LiteRT"}


@dataclass(frozen=True)
class Cell:
    """One variant on one number of threads: ours, the fastest peer, its time over ours."""

    ours_ms: float
    peer: str
    peer_ms: float
    ratio: float


@pytest.fixture(scope="module")
def sweep() -> dict[tuple[int, float, int], Cell]:
    rows: dict[tuple[int, float, int], dict[str, schema.ResultRow]] = {}
    for row in schema.load(RESULTS / "x86-znver5-sweep.json").results:
        assert row.alpha is not None
        rows.setdefault((row.threads, row.alpha, row.resolution), {})[row.engine] = row
    return {key: cell_of(engines) for key, engines in rows.items()}


def cell_of(engines: dict[str, schema.ResultRow]) -> Cell:
    ours = engines["bundle"]
    peers = [row for name, row in engines.items() if name != "bundle" and row.latency_ms]
    fastest = min(peers, key=p50)
    ratio = statistics.compare(fastest.samples_ms, ours.samples_ms).value
    return Cell(p50(ours), fastest.engine, p50(fastest), ratio)


def p50(row: schema.ResultRow) -> float:
    assert row.latency_ms is not None
    return row.latency_ms.p50


def ms(value: float) -> str:
    """Three significant digits."""
    digits = 2 if value >= 1 else 3 if value >= 0.1 else 4
    return f"{value:.{digits}f}"


def test_readmes_table_is_the_sweep(sweep: dict[tuple[int, float, int], Cell]) -> None:
    rows = re.findall(r"^\| ([\d.]+)-(\d+)[^|]*\| (.*) \|$", read("README.md"), re.MULTILINE)
    assert len(rows) == 6
    for alpha, resolution, cells in rows:
        expected = []
        for threads in (1, 2):
            cell = sweep[threads, float(alpha), int(resolution)]
            peer = f"{ms(cell.peer_ms)} ms ({ENGINES[cell.peer]})"
            expected += [f"{ms(cell.ours_ms)} ms", peer, f"{cell.ratio:.2f}x"]
        assert cells.split(" | ") == expected


def test_readmes_worst_row_is_the_worst(sweep: dict[tuple[int, float, int], Cell]) -> None:
    for threads in (1, 2):
        ratios = {key[1:]: cell.ratio for key, cell in sweep.items() if key[0] == threads}
        assert min(ratios, key=lambda key: ratios[key]) == (0.5, 224)
    assert "| 0.5-224 (the worst) |" in read("README.md")


def test_performances_tables_are_the_sweep(sweep: dict[tuple[int, float, int], Cell]) -> None:
    letters = {"onnxruntime": "O", "openvino": "V", "litert": "L", "torch-compile": "T"}
    page = read("docs/performance.md")
    for threads in (1, 2):
        for alpha in ALPHAS:
            cells = [sweep[threads, alpha, resolution] for resolution in RESOLUTIONS]
            row = " | ".join(
                f"{ms(one.ours_ms)} / {ms(one.peer_ms)} {letters[one.peer]} ({one.ratio:.2f}x)"
                for one in cells
            )
            assert f"| {alpha:g} | {row} |" in page


def test_the_geometric_means_are_the_sweeps(sweep: dict[tuple[int, float, int], Cell]) -> None:
    means = {
        threads: statistics.geometric_mean(
            [c.ratio for key, c in sweep.items() if key[0] == threads]
        )
        for threads in (1, 2)
    }
    said = f"the geometric mean is {means[1]:.2f}x on one thread and {means[2]:.2f}x on two"
    assert said in " ".join(read("README.md").split())
    page = read("docs/performance.md")
    assert f"One thread: geometric mean **{means[1]:.2f}x**" in page
    assert f"Two threads: geometric mean **{means[2]:.2f}x**" in page


def test_arms_instructions_are_those_counted() -> None:
    rows = schema.load(RESULTS / "arm-rpi4-instructions.json").results
    counts = {(row.engine, row.alpha, row.resolution): row.instructions or 0 for row in rows}
    page = read("docs/arm.md")
    for alpha in ALPHAS:
        cells = [
            " / ".join(
                f"{counts[name, alpha, size] / 1e6:.1f}" for name in ("bundle", "onnxruntime")
            )
            for size in RESOLUTIONS
        ]
        assert f"| {alpha:g} | {' | '.join(cells)} |" in page


def test_the_differences_of_weights_are_those_measured() -> None:
    page, rows = read("docs/weights.md"), result("x86-znver4-weights")["results"]
    for row in rows:
        width = "".join(f" {value:g}" for value in row["arguments"].values())
        file = row["file"].removeprefix("weights")
        differences = f"{row['module']:.1e} | {row['bundle']:.1e}"
        line = f"| {row['library']} | `{row['network']}`{width} | `{file}` | {differences} |"
        assert f"\n{line}\n" in page
    assert len(rows) == len(re.findall(r"^\| (?:keras|torchvision|timm) \| `", page, re.MULTILINE))


def result(name: str) -> Any:
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


def ratio(name: str, row: int) -> str:
    return f"{result(name)['rows'][row]['ratio']:.2f}x"


def figures() -> Iterator[tuple[str, str]]:
    """A page, and what it has to say by a results file."""
    one, two = (row["ratio"] for row in result("x86-znver5-default-and-tuned")["rows"])
    yield "performance", f"takes {one:.3f}x as long on one thread"
    yield "performance", f"and {two:.3f}x on two"
    yield "tuning", f"gains {one - 1:.1%} on one thread and {two - 1:.1%} on two".replace("%", " %")
    near, far = ratio("x86-znver5-rows-1.0-224", 0), ratio("x86-znver5-rows-1.0-224-far", 0)
    yield "performance", f"| 1.0-224 | {near} | {far} |"
    near, far = (ratio("x86-znver5-rows-0.5-160", row) for row in (0, 1))
    yield "performance", f"| 0.5-160 | {near} | {far} |"
    (profile,) = result("x86-znver5-profile")["profiles"]
    network, floor = profile["network_ms"], profile["floor_ms"]
    gflops = profile["core"]["flops_per_s"] / 1e9
    yield "performance", f"at **{network / floor:.2f}x** the core's FMA floor: {network:.2f} ms"
    yield "performance", f"against {floor:.2f} ms"
    yield "performance", f"the {gflops:.0f} GFLOP/s"
    (profile,) = result("x86-64-v3-profile")["profiles"]
    above = profile["network_ms"] - profile["floor_ms"]
    yield "performance", f"it is {profile['network_ms'] / profile['floor_ms']:.2f}x the floor"
    yield "performance", f"Of the {above:.2f} ms above the floor"
    one, two = (row["ratio"] for row in result("x86-znver5-vm-and-static")["rows"])
    assert f"{one:.2f}" == f"{two:.2f}"
    yield "performance", f"takes {one:.2f}x as long on one thread and on two"
    rows = result("tuning-endurance")["rows"]
    best = [row["kernels_us"] for row in rows if "kernels_us" in row]
    yield (
        "tuning",
        f"added up to {best[0] / 1e3:.3f} ms after four minutes and {best[-1] / 1e3:.3f}",
    )
    yield "tuning", f"grew from {rows[0]['tuner']} to {rows[-1]['tuner']} MiB"
    one, two = (ratio("tuning-minutes-and-hour", row) for row in (0, 1))
    yield "tuning", f"takes {one} (one thread) and {two} (two threads)"
    yield "tuning", f"measured {result('tuning-speed')['ratio']:.1f} times as fast"
    yield "tuning", f"measured {result('farm-4-local-servers')['ratio']:.1f} times as many"
    summary = result("x86-znver5-model-correlation")["summary"]
    yield "tuning", f"| {summary['fit']['mean']:.3f} | {summary['fit']['mean_of_runs']:.3f} |"
    yield "tuning", f"| **{summary['held out']['mean']:.3f}** |"
    yield "tuning", f"| {summary['all']['mean']:.3f} | {summary['all']['mean_of_runs']:.3f} |"
    demo = schema.load(RESULTS / "x86-znver5-demo.json").results
    for row in demo:
        if row.threads == 1:
            (two_threads,) = (r for r in demo if r.engine == row.engine and r.threads == 2)
            yield "performance", f" {p50(row):.2f} | "
            yield "performance", f" {p50(two_threads):.2f} | "


@pytest.mark.parametrize(("page", "says"), list(figures()))
def test_a_figure_is_that_of_its_file(page: str, says: str) -> None:
    assert says in " ".join(read(f"docs/{page}.md").split())
