"""Sessions that share one pool of threads."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import numpy as np
import pytest
from support import tiny_bundle

import tvm_mobilenet
from tvm_mobilenet.errors import BadInput, RunFailed
from tvm_mobilenet.runtime.pool import ThreadPool
from tvm_mobilenet.runtime.session import Session, load
from tvm_mobilenet.runtime.threads import available_cpus

pytestmark = pytest.mark.skipif(
    len(available_cpus()) < 2, reason="needs 2 CPUs; this process may use one"
)


def threads_of_process() -> int:
    return len(os.listdir("/proc/self/task"))


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two networks whose threads share the sums, each with a library of its own."""
    folder = tmp_path_factory.mktemp("shared")
    made = []
    for name in ("first", "second"):
        about = tiny_bundle.manifest(name=name)
        files = tiny_bundle.package(tiny_bundle.parallel_classifier_source(), about)
        library = files[f"lib/lib{name}.so"]
        tiny_bundle.write(folder / name, library, name=name, package=files)
        made.append(folder / name)
    return made


def test_two_sessions_have_the_threads_of_one(bundles: list[Path]) -> None:
    assert tvm_mobilenet.ThreadPool is ThreadPool
    x = tiny_bundle.sample_input()
    before = threads_of_process()
    with ThreadPool(2) as pool:
        with load(bundles[0], threads=pool) as one, load(bundles[1], threads=pool) as other:
            assert (one.threads, other.threads) == (2, 2)
            for session in (one, other, one):
                np.testing.assert_allclose(session.run(x), tiny_bundle.reference(x), rtol=1e-5)
            assert threads_of_process() == before + 1
            with pytest.raises(RunFailed, match="2 open session"):
                pool.close()
        # the first library's threads outlive its session
        with load(bundles[1], threads=pool) as other:
            np.testing.assert_allclose(other.run(x), tiny_bundle.reference(x), rtol=1e-5)
    assert threads_of_process() == before


def test_runs_at_the_same_time_are_right(bundles: list[Path]) -> None:
    x = tiny_bundle.sample_input()
    wrong: list[int] = []

    def serve(session: Session) -> None:
        for _ in range(50):
            if not np.allclose(session.run(x), tiny_bundle.reference(x), rtol=1e-5):
                wrong.append(1)

    with ThreadPool(2, spin_us=0) as pool:
        sessions = [load(path, threads=pool) for path in bundles]
        crowd = [threading.Thread(target=serve, args=(one,)) for one in sessions]
        for one in crowd:
            one.start()
        for one in crowd:
            one.join()
        for session in sessions:
            session.close()
    assert not wrong


def test_a_pool_that_is_left_alone_ends_its_threads(bundles: list[Path]) -> None:
    before = threads_of_process()
    pool = ThreadPool(2)
    load(bundles[0], threads=pool).close()
    assert threads_of_process() == before + 1
    del pool
    assert threads_of_process() == before


def test_more_threads_than_cpus() -> None:
    with pytest.raises(BadInput, match="10000 threads asked"):
        ThreadPool(10000)


def test_the_virtual_machine_has_threads_of_its_own(tmp_path: Path) -> None:
    tiny_bundle.write(tmp_path / "vm", executor="vm")
    with pytest.raises(BadInput, match="with the static executor, this one's is vm"):
        load(tmp_path / "vm", threads=ThreadPool(2))
