"""The answer in a sentence: who is fastest, by how much, and whether that can be told."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tvm_mobilenet.reporting import words
from tvm_mobilenet.reporting.groups import MachineGroup, Run
from tvm_mobilenet.reporting.page import Headline
from tvm_mobilenet.results.tables import Comparison, Summary, is_ours, summaries

MOST_COMPARISONS = 4  # of a run without a summary


def headlines(groups: Sequence[MachineGroup]) -> list[Headline]:
    """One for every thread count of every run; none where nothing was measured."""
    return [one for group in groups for run in group.runs for one in _of_run(group, run)]


def _of_run(group: MachineGroup, run: Run) -> Iterator[Headline]:
    totals = summaries(run.tables)
    for how in dict.fromkeys((one.batch, one.how) for one in totals):
        yield _of_summaries(group, [one for one in totals if (one.batch, one.how) == how])
    if not totals:
        for table in run.tables[:MOST_COMPARISONS]:
            yield _of_comparison(group, table)


def _of_summaries(group: MachineGroup, totals: Sequence[Summary]) -> Headline:
    """The same networks on every number of threads."""
    counts = [len(one.variants) for one in totals]
    verdicts = [one.verdicts for one in totals]
    faster = [f"{one['faster']} of {count}" for one, count in zip(verdicts, counts, strict=True)]
    lost = sum(one["slower"] for one in verdicts)
    means = [f"{one.ratio.value:.2f} on {words.threads_phrase(one.threads)}" for one in totals]
    if all(one["faster"] == count for one, count in zip(verdicts, counts, strict=True)):
        first = f"Ours is faster than the fastest peer on all {counts[0]} networks."
    else:
        first = (
            f"Ours is faster than the fastest peer on {_join(faster)} networks"
            f"{f', slower on {lost}' if lost else ''}."
        )
    sentence = f"{first} Peer ÷ ours is {_join(means)}, as a geometric mean."
    worst = min((one.worst for one in totals), key=lambda variant: variant.ratio.value)
    best = max((one.best for one in totals), key=lambda variant: variant.ratio.value)
    figures = [
        *(
            (f"÷ ours, {words.threads_phrase(one.threads)}", words.ratio(one.ratio))
            for one in totals
        ),
        (f"least: {worst.name}", f"{worst.ratio.value:.2f}"),
        (f"most: {best.name}", f"{best.ratio.value:.2f}"),
    ]
    how = "" if totals[0].how == "native" else f", {totals[0].how}"
    batch = "" if totals[0].batch == 1 else f", batch {totals[0].batch}"
    scope = f"{counts[0]} networks, {totals[0].precision}{batch}{how}, {group.title}"
    same = {one.ratio.verdict for one in totals}
    return Headline(scope, sentence, same.pop() if len(same) == 1 else "no difference", figures)


def _join(parts: Sequence[str]) -> str:
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)


def _of_comparison(group: MachineGroup, table: Comparison) -> Headline:
    scope = f"{table.title}, {group.title}"
    ours, peer = table.baseline, table.fastest_peer()
    if ours is None or ours.latency_ms is None:
        return Headline(scope, "No engine was measured.", "no difference")
    count = sum(line.row.latency_ms is not None for line in table.lines)
    own = words.milliseconds(ours.latency_ms.p50)
    if not is_ours(ours):
        return Headline(
            scope, f"No bundle of ours was measured; {ours.engine} takes {own} ms.", "no difference"
        )
    if peer is None or peer.ratio is None or peer.row.latency_ms is None:
        return Headline(scope, f"Ours takes {own} ms; no peer was measured.", "no difference")
    ratio, theirs = peer.ratio, words.milliseconds(peer.row.latency_ms.p50)
    verdict = ratio.verdict
    if verdict == "faster":
        sentence = (
            f"Ours is the fastest of {count} engines: {own} ms. {peer.label}, the fastest peer, "
            f"takes {ratio.value:.2f} times as long."
        )
    elif verdict == "slower":
        sentence = (
            f"{peer.label} is the fastest of {count} engines: {theirs} ms. Ours takes {own} ms, "
            f"{1 / ratio.value:.2f} times as long."
        )
    else:
        sentence = (
            f"Between ours ({own} ms) and {peer.label} ({theirs} ms) no difference can be told."
        )
    return Headline(
        scope,
        sentence,
        verdict,
        [
            ("ours", f"{own} ms"),
            (peer.label, f"{theirs} ms"),
            (f"{peer.label} ÷ ours", words.ratio(ratio)),
        ],
    )
