"""README.md and docs/: commands run as printed, flags and files exist, lines are short."""

from __future__ import annotations

import itertools
import os
import re
import shlex
import subprocess
import sys

import pytest
from support import pages
from support.pages import BLOCK, FIRST, PAGES, REPOSITORY, Workplace, blocks, missing_line, read

from tvm_mobilenet.__main__ import COMMANDS
from tvm_mobilenet.__main__ import main as command

# Blocks that no test runs as printed, for the reasons above each.
NOT_RUN = {
    "README.md": 1,
    "docs/accuracy.md": 3,  # tests/docs/test_digits.py, and what it records
    "docs/adding.md": 1,
    "docs/amx.md": 1,  # needs an Intel server
    "docs/arm.md": 5,
    "docs/c-library.md": 1,
    "docs/cli.md": 1,
    "docs/cuda.md": 1,
    "docs/formats.md": 1,  # tests/bundle/test_signing.py
    "docs/measuring.md": 2,  # of them tests/reporting/test_compare.py
    "docs/performance.md": 14,
    "docs/quantization.md": 1,  # tests/docs/test_digits.py, tests/commands/test_int8.py
    "docs/raspberry-pi.md": 5,  # tests/docs/test_raspberry_pi.py
    "docs/tuning.md": 8,  # of them tests/tuning/test_precisions.py
}
README_LINES = 130
LONGEST_LINE = 300

# Commands


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    return pages.make_workplace(tmp_path_factory.mktemp("docs"))


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


def flags_of_commands(capsys: pytest.CaptureFixture[str]) -> dict[str, set[str]]:
    """The flags of each command's help, of all actions for ``records``."""
    actions = {"records": [[one, "--help"] for one in ("list", "verify", "merge", "best")]}
    found: dict[str, set[str]] = {}
    for name in COMMANDS:
        for arguments in actions.get(name, [["--help"]]):
            with pytest.raises(SystemExit) as ended:
                command([name, *arguments])
            assert ended.value.code == 0
            found.setdefault(name, set()).update(flags_in(capsys.readouterr().out))
    return found


def flags_in(text: str) -> set[str]:
    """Flags such as ``--json`` and ``-o``; whatever follows a blank, a bracket or a quote."""
    return set(re.findall(r"(?<![\w-])--?[a-z][a-z0-9-]*", text))


def test_flags_of_commands_exist(capsys: pytest.CaptureFixture[str]) -> None:
    commands = flags_of_commands(capsys)
    checked = 0
    for block in itertools.chain.from_iterable(map(blocks, PAGES)):
        for typed, _ in block.commands() if block.language == "console" else ():
            words = shlex.split(typed.removesuffix(" &"))
            used = {word for word in words if flags_in(word) == {word}}
            if words[0] == "tvm-mobilenet" and words[1] in commands:
                known = commands[words[1]]
            elif words[0] == "python" and words[1].endswith(".py"):
                known = flags_in(read(words[1])) | {"--debug"}
            else:
                continue
            assert used <= known, f"{block.page}: {typed}: no flag {used - known}"
            checked += 1
    assert checked > 40, "commands are not found any more"


def test_flags_in_the_text_exist(capsys: pytest.CaptureFixture[str]) -> None:
    known = set().union(*flags_of_commands(capsys).values(), {"--strict", "--debug"})
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


def test_every_page_is_found_from_the_front_page_and_the_readme() -> None:
    nav = re.findall(r": (\S+\.md)$", read("mkdocs.yml"), re.MULTILINE)
    pages = {page.removeprefix("docs/") for page in PAGES} - {"README.md"}
    assert set(nav) == pages
    table = set(re.findall(r"^\| \[[^]]+\]\((\S+\.md)\) \|", read("docs/index.md"), re.MULTILINE))
    assert table == pages - {"index.md"}
    linked = set(re.findall(r"\]\(docs/([\w-]+\.md)", read("README.md")))
    assert linked == pages - {"index.md"}


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
