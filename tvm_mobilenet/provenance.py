"""When something was made or measured, as every file of ours writes it."""

from __future__ import annotations

import datetime


def now() -> str:
    """ISO 8601 in UTC, to the second."""
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
