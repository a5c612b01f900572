"""``processes.call`` without the process, which imports TVM or PyTorch once more to do little.

For tests of what is called. That there is a process, tests/test_processes.py shows, and the tests
that do not use this.
"""

from __future__ import annotations

import contextlib
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tvm_mobilenet import processes


def call(function: Callable[..., Any], *given: Any, **named: Any) -> Any:
    """What it returns, and raises; all goes there and back as it would through the pipe."""
    function, given, named = there_and_back((function, given, named))
    return there_and_back(function(*given, **named))


def there_and_back(value: Any) -> Any:
    return pickle.loads(pickle.dumps(value))


@contextlib.contextmanager
def used() -> Iterator[None]:
    """Meanwhile calls are made in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(processes, "call", call)
        yield
