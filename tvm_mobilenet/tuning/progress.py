"""How a tuning run shows itself: a live table on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from rich.console import Console, Group
    from rich.live import Live
    from rich.table import Table

    from tvm_mobilenet.tuning.search.state import Progress, State, Task

REFRESH_S = 0.25


@contextmanager
def open_progress(stream: TextIO | None = None) -> Iterator[Progress]:
    """Progress for ``stream`` (stderr): live where it is a terminal."""
    stream = sys.stderr if stream is None else stream
    if not stream.isatty():
        yield PlainProgress(stream)
        return
    from rich.console import Console
    from rich.live import Live

    console = Console(file=stream)
    with Live(console=console, auto_refresh=False, transient=True) as live:
        yield LiveProgress(live, console)


class PlainProgress:
    """One line for each batch."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def batch(self, state: State, task: Task, drift: float) -> None:
        parts = [f"{task.trials}/{task.space.size} tried"]
        if task.best_s is not None:
            parts.append(f"best {task.best_s * 1e6:.1f} us, {task.gflops:.1f} GFLOP/s")
        if task.gain is not None:
            parts.append(f"{task.gain:.2f}x the default")
        if task.failures:
            parts.append(failures_text(task))
        if drift > 0.03:
            parts.append(f"machine drifted {drift:.0%}")
        if task.ended:
            parts.append(task.ended)
        left = state.time_left
        when = f"[{clock(state.elapsed)}{'' if left is None else f', {clock(left)} left'}]"
        print(f"{when} {task.name}: {', '.join(parts)}", file=self._stream, flush=True)

    def tick(self, state: State) -> None:
        pass

    def note(self, text: str) -> None:
        print(text, file=self._stream, flush=True)


class LiveProgress:
    """A table of the tasks, drawn again a few times a second."""

    def __init__(self, live: Live, console: Console) -> None:
        self._live = live
        self._console = console
        self._drawn = 0.0

    def batch(self, state: State, task: Task, drift: float) -> None:
        self._draw(state)

    def tick(self, state: State) -> None:
        if time.monotonic() - self._drawn > REFRESH_S:
            self._draw(state)

    def note(self, text: str) -> None:
        self._console.print(text, highlight=False, markup=False)

    def _draw(self, state: State) -> None:
        self._drawn = time.monotonic()
        self._live.update(screen(state), refresh=True)


def screen(state: State) -> Group:
    from rich.console import Group
    from rich.text import Text

    left = state.time_left
    pace = state.trials / state.elapsed if state.elapsed else 0.0
    parts = [state.phase, f"{state.trials} trials", f"{pace:.1f}/s", clock(state.elapsed)]
    if left is not None:
        parts.append(f"{clock(left)} left")
    if state.network_s is not None:
        parts.append(f"kernels together {state.network_s * 1e3:.2f} ms")
    parts += [f"{count} x {cause}" for cause, count in state.failures.most_common()]
    return Group(task_table(state), Text(" · ".join(parts)))


def task_table(state: State) -> Table:
    """A row for each task: how far its search is, and what it found."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column("task", no_wrap=True, overflow="ellipsis")
    for name in ("calls", "tried", "of", "default us", "best us", "GFLOP/s", "gain", "failed"):
        table.add_column(name, justify="right")
    table.add_column("", no_wrap=True, overflow="ellipsis")
    for task in state.tasks:
        table.add_row(
            task.name,
            str(task.count),
            str(task.trials),
            str(task.space.size),
            microseconds(task.default_s),
            microseconds(task.best_s),
            f"{task.gflops:.1f}" if task.best_s else "-",
            f"{task.gain:.2f}x" if task.gain else "-",
            str(sum(task.failures.values()) or ""),
            task.ended or ("measuring" if task.in_flight else ""),
        )
    return table


def failures_text(task: Task) -> str:
    return ", ".join(f"{count} {cause}" for cause, count in task.failures.most_common())


def clock(seconds: float) -> str:
    """Minutes and seconds."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def microseconds(seconds: float | None) -> str:
    """A time for a table; ``-`` where there is none."""
    return "-" if seconds is None else f"{seconds * 1e6:.1f}"
