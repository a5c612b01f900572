"""What ``bench`` says while it measures: a progress bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn


class PlainProgress:
    """One line for each step and note; nothing for the turns."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def __enter__(self) -> PlainProgress:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def heading(self, text: str) -> None:
        self._say(text)

    def step(self, engine: str, doing: str) -> None:
        self._say(f"  {engine}: {doing}")

    def turn(self, engine: str, done: int, rounds: int) -> None:
        pass

    def note(self, text: str) -> None:
        self._say(f"  note: {text}")

    def _say(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)


class BarProgress(PlainProgress):
    """A bar that counts rounds. It is drawn between turns only: a drawing thread would take time
    from what is measured."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed:.0f}/{task.total:.0f} rounds"),
            TimeElapsedColumn(),
            console=console,
            auto_refresh=False,
            transient=True,
        )
        self._task = self._bar.add_task("", total=1)

    def __enter__(self) -> BarProgress:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def heading(self, text: str) -> None:
        super().heading(text)
        self._bar.reset(self._task, total=1)

    def step(self, engine: str, doing: str) -> None:
        if doing.startswith("not run"):
            super().step(engine, doing)
        self._show(f"{engine}: {doing}")

    def turn(self, engine: str, done: int, rounds: int) -> None:
        self._bar.update(self._task, completed=done, total=max(rounds, done + 1))
        self._show(f"{engine}: measuring")

    def _show(self, text: str) -> None:
        self._bar.update(self._task, description=text)
        self._bar.refresh()


def open_progress(console: Console) -> PlainProgress:
    """The kind that suits where ``console`` writes."""
    return BarProgress(console) if console.is_terminal else PlainProgress(console)
