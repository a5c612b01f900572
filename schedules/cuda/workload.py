"""A layer as the models of times see it."""

from __future__ import annotations

from dataclasses import dataclass

from schedules.filter_window import Window


@dataclass(frozen=True)
class Convolution:
    """Depthwise or 1x1, from (N, H, W, C) to (N, H, W, C)."""

    depthwise: bool
    source: tuple[int, int, int, int]
    result: tuple[int, int, int, int]
    window: Window

    @property
    def pixels(self) -> int:
        """Of the result."""
        batch, height, width, _ = self.result
        return batch * height * width

    @property
    def channels_in(self) -> int:
        return self.source[3]

    @property
    def channels_out(self) -> int:
        return self.result[3]

    @property
    def inputs(self) -> int:
        """Values."""
        batch, height, width, channels = self.source
        return batch * height * width * channels

    @property
    def outputs(self) -> int:
        """Values."""
        return self.pixels * self.channels_out
