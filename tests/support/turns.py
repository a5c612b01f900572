"""Cases of a test that take turns: a run has one in so many of them, and --seed chooses which.

For cases of which each shows the same of another network, target or shape: ``in_turns(2)`` above a
test is for half of them. With ``among="a name"`` the tests of a file that say so are cases of one.
A test of which fewer cases are asked for has them all.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import pytest

MARKER = "in_turns"


def others(items: Sequence[pytest.Item], seed: int) -> list[pytest.Item]:
    """Those whose turn it is not with this seed."""
    cases: defaultdict[tuple[str, int], list[pytest.Item]] = defaultdict(list)
    for item in items:
        marker = item.get_closest_marker(MARKER)
        if marker is not None:
            (shares,) = marker.args
            test = item.nodeid.partition("[")[0]
            among = marker.kwargs.get("among")
            one = test if among is None else f"{test.partition('::')[0]}, {among}"
            cases[one, shares].append(item)
    return [
        item
        for (_, shares), some in cases.items()
        if len(some) >= shares
        for place, item in enumerate(some)
        if (place - seed) % shares
    ]
