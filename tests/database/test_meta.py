"""A tuning log's meta.json: what is no such file is one line that says where."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support.tuning_kernels import SPEC

from tvm_mobilenet.database import meta
from tvm_mobilenet.database.meta import LogTarget
from tvm_mobilenet.database.meta_file import META
from tvm_mobilenet.errors import BadInput

GOOD: dict[str, Any] = meta.new({}, LogTarget.of(SPEC))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "not JSON"),
        ("[" * 100_000, "nested too deeply"),
        ("[]", r"expected an object, got \[\]"),
        (json.dumps({**GOOD, "format_version": 2}), "format_version: 2 is newer than this program"),
        (json.dumps({**GOOD, "target": 3}), "target: expected an object, got 3"),
        (json.dumps({k: v for k, v in GOOD.items() if k != "target_name"}), "target_name: missing"),
        (json.dumps({**GOOD, "runs": [1]}), r"runs\[0\]: expected an object, got 1"),
    ],
    ids=["cut", "deep", "a list", "newer", "target", "no name", "runs"],
)
def test_a_departure_is_one_line(text: str, says: str, tmp_path: Path) -> None:
    (tmp_path / META).write_text(text)
    with pytest.raises(BadInput, match=says) as caught:
        meta.read(tmp_path, None, required=True)
    assert "\n" not in str(caught.value) and META in str(caught.value)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    meta.write(tmp_path, GOOD)
    assert meta.read(tmp_path, LogTarget.of(SPEC), required=True) == GOOD
