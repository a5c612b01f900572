"""Every script in examples/ runs, and is listed.

The first as a process of its own, the others in this one, which has all imported already.
"""

from __future__ import annotations

import re

import pytest
from support import pages
from support.pages import REPOSITORY, Workplace, read

pytestmark = pytest.mark.usefixtures("warm_workers")

EXAMPLES = sorted(
    str(path.relative_to(REPOSITORY / "examples"))
    for path in (REPOSITORY / "examples").rglob("*.py")
)


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    return pages.make_workplace(tmp_path_factory.mktemp("docs"))


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
        (["photo.py", "small.pth", "labels.txt", "photo.jpg", "mobilenet_v1"], "%  bird"),
        (["tune_briefly.py", "network.onnx", "4m", "8"], "layers tuned"),  # whatever the load
        (["bench_and_report.py", "mobilenet-0.25-128", "0.05s"], "wrote report.md"),
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
        assert says in workplace.run_script(f"examples/{script}", *rest)


def test_every_example_is_listed() -> None:
    listed = re.findall(r"^\| `([\w/]+\.py)", read("examples/README.md"), re.MULTILINE)
    assert sorted(listed) == EXAMPLES
