"""Archives and manifests with anything in them: one line, or a bundle whose files are all right."""

from __future__ import annotations

import functools
import json
import os
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from support import tiny_bundle

from tvm_mobilenet import bundle
from tvm_mobilenet.errors import BadInput

# more by hand: FUZZ_EXAMPLES=10000 pytest tests/bundle/test_fuzzed_bundles.py
EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "100"))
BLOCK = 512  # of a .tar: a header, or a part of a file

KEYS = st.sampled_from(["manifest.json", "model.so", "..", "/etc/passwd", "lib/libx.so", "x.h", ""])
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=6,
)


@functools.cache
def archive() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        tiny_bundle.write(Path(folder, "b.tar"))
        return Path(folder, "b.tar").read_bytes()


def check(path: Path) -> None:
    """Open it; whatever is refused is refused in one line."""
    refusal = ""
    try:
        with bundle.open_bundle(path) as opened:
            opened.sample_inputs()
            opened.expected_outputs()
            opened.tolerance()
    except BadInput as error:
        refusal = str(error)
    assert "\n" not in refusal


@settings(max_examples=EXAMPLES)
@given(st.data())
def test_a_damaged_archive(data: st.DataObject) -> None:
    content = bytearray(archive())
    headers = st.integers(0, len(content) // BLOCK - 1).map(lambda block: block * BLOCK)
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(headers) + data.draw(st.integers(0, BLOCK - 1))
        content[at] = data.draw(st.integers(0, 255))
    size = data.draw(st.just(len(content)) | st.integers(0, len(content)))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "b.tar")
        path.write_bytes(content[:size])
        check(path)
        assert os.listdir(folder) == ["b.tar"], "nothing was unpacked beside it"


@settings(max_examples=EXAMPLES)
@given(st.sampled_from([*json.loads(bundle.manifest.to_json(tiny_bundle.manifest()))]), VALUES)
def test_a_manifest_with_anything_in_it(key: str, value: Any) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "b")
        tiny_bundle.write(path)
        file = path / "manifest.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | {key: value}))
        check(path)
