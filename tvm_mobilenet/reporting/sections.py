"""Inputs → the page of a report, from the headline down to the exact commands."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tvm_mobilenet.reporting import words
from tvm_mobilenet.reporting.charts import latencies, ratios, tradeoffs
from tvm_mobilenet.reporting.charts.style import Chart
from tvm_mobilenet.reporting.family import members
from tvm_mobilenet.reporting.groups import MachineGroup, Run, by_machine
from tvm_mobilenet.reporting.headlines import headlines
from tvm_mobilenet.reporting.layer_sections import profile_section
from tvm_mobilenet.reporting.markdown import READING
from tvm_mobilenet.reporting.page import Page, Section, Table
from tvm_mobilenet.reporting.precision_sections import beside_each_other
from tvm_mobilenet.reporting.tuning_sections import bought_section, log_section
from tvm_mobilenet.results.core_use import core_use_table
from tvm_mobilenet.results.counts import CountTable
from tvm_mobilenet.results.inputs import Inputs
from tvm_mobilenet.results.schema import Results
from tvm_mobilenet.results.tables import Comparison, comparisons, noise, summaries

FEW_NOTES = 6
UNFOLDED = 4  # up to so many comparisons a reader sees all of each at once


def build(inputs: Inputs) -> Page:
    """The page; whatever the files hold is in it as text."""
    groups = by_machine(inputs)
    machines = [_machine(number, group) for number, group in enumerate(groups, 1)]
    logs = [log_section(*one) for one in inputs.tuning]
    return Page(headlines(groups), [*machines, *logs], READING)


def _machine(number: int, group: MachineGroup) -> Section:
    anchor = f"machine-{number}"
    inner = [_run(f"{anchor}-{place}", group, run) for place, run in enumerate(group.runs, 1)]
    beside = beside_each_other(group, f"{anchor}-precisions")
    bought = bought_section(group, f"{anchor}-tuning")
    layers = [
        profile_section(profile, f"{anchor}-layers-{place}-{which}")
        for place, (_, file) in enumerate(group.profiles)
        for which, profile in enumerate(file.profiles)
    ]
    extra = [one for one in (beside, bought) if one is not None]
    return Section(
        group.title,
        anchor,
        sections=[*inner, *extra, *layers, _provenance(group, f"{anchor}-provenance")],
    )


def _run(anchor: str, group: MachineGroup, run: Run) -> Section:
    same = [other for other in group.runs if other.precision == run.precision]
    title = run.precision if len(same) == 1 else f"{run.precision}, {run.source}"
    if run.counted:
        return Section(title, anchor, sections=[_counts(anchor, one) for one in run.counted])
    totals = summaries(run.tables)
    whole = len(run.tables) <= UNFOLDED
    each = [
        _comparison(f"{anchor}-{place}", one, charts=whole)
        for place, one in enumerate(run.tables, 1)
    ]
    if whole:
        sections = each
    else:
        sections = [Section("Every network", f"{anchor}-each", sections=each, folded=True)]
    family = _of_the_family(run)
    charts = [*([ratios.ratios(totals)] if totals else []), *family]
    tables = [
        Table(
            f"Ours beside the fastest peer, {words.summary_title(summary)}",
            words.SUMMARY_HEADER,
            words.summary_cells(summary),
            words=(0, 2, -1),
        )
        for summary in totals
    ]
    tables += _costs(run) if family else []
    sentences = [words.summary_sentence(summary) for summary in totals]
    shared = words.core_use_sentence([core_use_table(table) for table in run.tables])
    sentences += [shared] if shared else []
    return Section(title, anchor, sentences, charts, tables, sections=sections)


def _by_threads(run: Run) -> Iterator[tuple[str, Sequence[Comparison]]]:
    for threads in dict.fromkeys(table.threads for table in run.tables):
        same = [table for table in run.tables if table.threads == threads]
        yield words.threads_phrase(threads), same


def _of_the_family(run: Run) -> list[Chart]:
    """The charts over several networks; none of fewer than two."""
    where = f"{run.precision}, {run.source}"
    drawn: list[Chart | None] = []
    for draw in (tradeoffs.accuracy_against_latency, tradeoffs.latency_against_work):
        drawn += [draw(members(tables), title, where) for title, tables in _by_threads(run)]
    if len(run.tables) > UNFOLDED:  # else each comparison has its own
        drawn += [latencies.spreads(tables, title, where) for title, tables in _by_threads(run)]
    return [chart for chart in drawn if chart is not None]


def _costs(run: Run) -> list[Table]:
    """The figures of the charts over the family."""
    header = ["network", "multiply-adds, M", "top-1 %", "top-1 from", "ours ms", "peer ms"]
    return [
        Table(
            f"What the networks cost and how often they are right, {run.precision}, {title}",
            header,
            [
                [
                    one.name,
                    words.NONE if (m := one.mega_multiply_adds) is None else f"{m:.0f}",
                    words.NONE if one.top1 is None else f"{one.top1:.1f}",
                    words.NONE if one.top1 is None else "here" if one.measured else "its paper",
                    words.milliseconds(one.ours_ms),
                    words.milliseconds(one.peer_ms),
                ]
                for one in members(tables)
            ],
            words=(0, 3),
        )
        for title, tables in _by_threads(run)
    ]


def _comparison(anchor: str, table: Comparison, *, charts: bool) -> Section:
    shown = [words.latency_cells(table, line) for line in table.lines]
    costs = [words.cost_cells(line) for line in table.lines if line.row.status == "ok"]
    tables = [Table("Latency", words.latency_header(table), shown)]
    used = core_use_table(table)
    if used.engines:
        cells = words.core_use_cells(used)
        tables.append(Table(words.CORE_USE_CAPTION, words.CORE_USE_HEADER, cells, words=(0,)))
    if costs:
        tables.append(Table("What else an engine costs", words.COST_HEADER, costs))
    drawn = [latencies.ranked(table), latencies.distribution(table)] if charts else []
    reference = f"Reference for the outputs: {table.lines[0].row.reference}."
    return Section(
        table.title,
        anchor,
        charts=[chart for chart in drawn if chart is not None],
        tables=tables,
        notes=[*words.remarks(table), reference],
    )


def _counts(anchor: str, table: CountTable) -> Section:
    cells = Table(table.title, words.count_header(table), words.count_cells(table), words=(0,))
    name = f"{anchor}-{table.threads}"
    return Section(table.title, name, words.count_sentences(table), tables=[cells])


def _provenance(group: MachineGroup, anchor: str) -> Section:
    """Machine, versions, exact command and noise of every file."""
    files = [
        _file(f"{anchor}-{place}", source, results)
        for place, (source, results) in enumerate(group.files, 1)
    ]
    profiled = [
        Section(source, f"{anchor}-p{place}", facts=words.profile_provenance(file, source))
        for place, (source, file) in enumerate(group.profiles, 1)
    ]
    return Section("Machine, commands and noise", anchor, sections=[*files, *profiled])


def _file(anchor: str, source: str, results: Results) -> Section:
    notes = noise(results.machine, comparisons(results))
    facts = words.provenance(results, source)
    if len(notes) <= FEW_NOTES:
        return Section(source, anchor, facts=facts, notes=notes or [words.QUIET])
    every = Section(f"All {len(notes)} notes", f"{anchor}-notes", notes=notes, folded=True)
    rows = sum(row.status == "ok" for row in results.results)
    return Section(
        source, anchor, [words.noise_sentence(notes, rows)], facts=facts, sections=[every]
    )
