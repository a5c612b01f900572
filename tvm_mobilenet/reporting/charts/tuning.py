"""What the search found by when."""

from __future__ import annotations

from tvm_mobilenet.reporting.charts.style import OURS, SERIES, Chart, drawing
from tvm_mobilenet.results.tuning_runs import TuningRun


def curve(runs: tuple[TuningRun, ...], target: str) -> Chart | None:
    """The sum of the best kernels against minutes of search, a line a run; None without points."""
    drawn = [run for run in runs if len(run.curve) > 1]
    if not drawn:
        return None
    with drawing(f"tuning {target}", 2.7) as chart:
        for place, run in enumerate(drawn):
            minutes = [seconds / 60 for seconds, _ in run.curve]
            chart.axes.step(
                minutes,
                [us / 1e3 for _, us in run.curve],
                where="post",
                color=OURS if len(drawn) == 1 else SERIES[place % len(SERIES)],
                label=", ".join(part for part in (run.date.partition("T")[0], run.of) if part),
                linewidth=1.8,
            )
        chart.axes.set_xlabel("minutes of search")
        chart.axes.set_ylabel("best kernels, ms in all")
        chart.axes.grid()
        if len(drawn) > 1:
            chart.figure.legend(loc="outside lower center", ncols=3)
        first, last = drawn[-1].curve[0], drawn[-1].curve[-1]
        return chart.finish(
            "Tuning",
            target,
            f"From {first[1] / 1e3:.3f} ms after {first[0] / 60:.1f} minutes to "
            f"{last[1] / 1e3:.3f} ms after {last[0] / 60:.1f}.",
        )
