"""The pages of the documentation as what they tell to type, and a folder to type it in.

A fenced block of ``console`` or ``python`` runs as it stands, in one folder that all pages share
and with ``tvm-mobilenet`` on the path; where output is printed below a command, the command has to
print it, numbers and the target's name aside. Two things differ: ``tune`` takes TUNING in the place
of a time, and ``bench`` no more runs than MEASURING says. On FIRST every command is a process of
its own; on other pages what only compiles or counts runs in this one, which has all imported
already. A comment above a block changes that:

    <!-- not run: WHY -->               does not run; these are counted
    <!-- output not compared: WHY -->   runs, its output is an example
    <!-- file: NAME -->                 of any language: its text is written to that file
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from support import float_networks, script_here

from tvm_mobilenet import models
from tvm_mobilenet.__main__ import main as command

REPOSITORY = Path(__file__).parents[2]
PAGES = ("README.md", *sorted(f"docs/{page.name}" for page in (REPOSITORY / "docs").glob("*.md")))
# These make what the other pages use: the bundle ``mobilenet`` and ``records``.
FIRST = ("README.md", "docs/quickstart.md")
HERE = ("compile", "cost", "records")  # stages
LABELS = ("plane", "car", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
TIMEOUT_S = 200
TUNING = "--trials 8"  # seconds, of a network of five kernels
MEASURING = "--min-runs 5 --min-time 0.05s"

BLOCK = re.compile(r"(?:^<!-- ([^\n]*) -->\n)?^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NUMBER = re.compile(r"[-+]?\d[\d.,]*(?:e[-+]?\d+)?")
TIME_BUDGET = re.compile(r"--time-budget \d+[sm]\b")
BENCH = re.compile(r"^tvm-mobilenet bench .*")
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

    def run_here(self, arguments: list[str]) -> str:
        """The same of a stage in this process."""
        with tempfile.TemporaryFile("w+", encoding="utf-8") as output:
            with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(output):
                patch.chdir(self.folder)
                status = command(arguments)
            output.seek(0)
            assert status == 0, shlex.join(arguments)
            return output.read()

    def run_script(self, script: str, *arguments: str) -> str:
        """The same of a Python file in this process."""
        done = script_here.run(Path(script), *arguments, folder=self.folder)
        assert done.returncode == 0, f"{shlex.join(done.args)}\n{done.stdout}\n{done.stderr}"
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
            quick = BENCH.sub(rf"\g<0> {MEASURING}", TIME_BUDGET.sub(TUNING, typed))
            here = block.page not in FIRST and shlex.split(quick)[0] == "tvm-mobilenet"
            if here and shlex.split(quick)[1] in HERE:
                printed = self.run_here(shlex.split(quick)[1:]).splitlines()
            else:
                printed = self.run("sh", "-c", quick).splitlines()
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


def make_workplace(folder: Path) -> Workplace:
    """One in ``folder``, with the checkout's folders, and a network and a photo of the user's."""
    from PIL import Image

    (folder / "bin").mkdir()
    for name, arguments in {"python": "", "tvm-mobilenet": "-m tvm_mobilenet "}.items():
        script = folder / "bin" / name
        script.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {arguments}"$@"\n')
        script.chmod(0o755)
    for name in ("benchmarks", "docs", "examples"):
        (folder / name).symlink_to(REPOSITORY / name)
    onnx.save_model(float_networks.separable(), str(folder / "network.onnx"))
    onnx.save_model(float_networks.separable("N", "H", "W"), str(folder / "open.onnx"))
    save_checkpoint(
        folder / "trained.pth",
        models.config_from("mobilenet_v2", 0.35, 64, num_classes=len(LABELS)),
    )
    save_checkpoint(
        folder / "small.pth", models.config_from("mobilenet_v1", 0.25, num_classes=len(LABELS))
    )
    (folder / "labels.txt").write_text("\n".join(LABELS))
    pixels = np.random.default_rng(0).integers(0, 256, (150, 200, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "photo.jpg")
    return Workplace(folder)


def save_checkpoint(path: Path, config: models.Config) -> None:
    """As torchvision's training script leaves one, of random weights."""
    torch.save({"model": models.build(config).state_dict(), "epoch": 300}, path)
