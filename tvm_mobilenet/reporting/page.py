"""What a page of a report consists of; the template lays it out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from tvm_mobilenet.reporting.charts.style import Chart


@dataclass(frozen=True)
class Table:
    """A table that a reader can sort. ``caption`` says what it holds; ``words`` which columns are
    no figures, counted from 0."""

    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    words: Sequence[int] = (0, -1)

    def is_words(self, column: int) -> bool:
        return column in self.words or column - len(self.header) in self.words


@dataclass(frozen=True)
class Headline:
    """The first thing a reader sees: on what, the sentence, and the figures that it rests on."""

    scope: str
    sentence: str
    verdict: str
    figures: Sequence[tuple[str, str]] = ()


@dataclass(frozen=True)
class Section:
    """A heading and what follows it; ``folded`` ones open when asked."""

    title: str
    anchor: str
    sentences: Sequence[str] = ()
    charts: Sequence[Chart] = ()
    tables: Sequence[Table] = ()
    facts: Sequence[tuple[str, str]] = ()
    notes: Sequence[str] = ()
    sections: Sequence[Section] = field(default=())
    folded: bool = False


@dataclass(frozen=True)
class Page:
    headlines: Sequence[Headline]
    sections: Sequence[Section]
    reading: str
