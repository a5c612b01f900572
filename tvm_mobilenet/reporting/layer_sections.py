"""A profiled network: the roofline, the slowest layers by name, and where each schedule is from."""

from __future__ import annotations

from tvm_mobilenet.reporting import words
from tvm_mobilenet.reporting.charts import roofline
from tvm_mobilenet.reporting.page import Section, Table
from tvm_mobilenet.results.profiles import LayerProfile, Profiled


def profile_section(profile: Profiled, anchor: str) -> Section:
    total = sum(one.ms for one in profile.layers)
    chart = roofline.roofline(profile)
    slowest = "; ".join(
        f"{one.name} {one.workload}, {one.ms * 1e3:.1f} µs ({one.ms / total:.1%})"
        for one in roofline.slowest(profile)
    )
    speed = words.speed_heading({one.arithmetic for one in profile.layers})
    intensity = speed.removeprefix("G").replace("/s", "/byte")
    header = (
        *("layer", "kernel", "µs", "share", speed, intensity, "of its bound", "bound by"),
        *("schedule", "record µs", "recorded"),
    )
    sentences = [_floor(profile), *_states(profile), f"The layers that take longest: {slowest}."]
    table = Table(
        "Layers",
        header,
        [_cells(profile, one, total) for one in profile.layers],
        words=(0, 1, 7, 8, 10),
    )
    charts = [] if chart is None else [chart]
    return Section(f"Layers, {profile.title}", anchor, sentences, charts, [table])


def _floor(profile: Profiled) -> str:
    infer = f"An inference takes {profile.network_ms:.3f} ms"
    if not profile.floor_ms:
        return f"{infer}; the peak of its dot products was not measured, so there is no floor."
    kinds = dict.fromkeys(one.arithmetic for one in profile.layers)
    peaks = ", ".join(
        words.peak(kind, peak) for kind in kinds if (peak := profile.core.peak(kind)) is not None
    )
    return (
        f"{infer}, {profile.network_ms / profile.floor_ms:.2f} times its floor of "
        f"{profile.floor_ms:.3f} ms: all multiply-adds at the core's peak of {peaks}, measured in "
        "the same run."
    )


def _states(profile: Profiled) -> list[str]:
    """A sentence where the core had two states, else none."""
    if profile.state is None:
        return []
    each = "; ".join(
        f"{one.state} during {one.share:.0%} of the inferences: {one.network_ms:.3f} ms, "
        f"{one.network_ms / one.floor_ms:.2f} times what the core could do then"
        for one in profile.states
    )
    return [f"The core was {each}. All else is of the core {profile.state}."]


def _cells(profile: Profiled, one: LayerProfile, total_ms: float) -> list[str]:
    arithmetic, bound = profile.arithmetic_ms(one), profile.bound_ms(one)
    limit = words.NONE
    if arithmetic is not None:
        by_arithmetic = arithmetic >= profile.memory_ms(one)
        limit = words.ARITHMETIC[one.arithmetic] if by_arithmetic else "memory"
    recorded = " ".join(part for part in (one.how, (one.date or "").partition("T")[0]) if part)
    return [
        one.name,
        one.workload,
        f"{one.ms * 1e3:.1f}",
        f"{one.ms / total_ms:.1%}",
        f"{one.gflops:.1f}",
        f"{one.intensity:.1f}" if one.nbytes else words.NONE,
        words.NONE if bound is None else f"{bound / one.ms:.0%}",
        limit,
        "tuned" if one.tuned else "default" if one.own else "TVM's operator",
        words.NONE if one.latency_us is None else f"{one.latency_us:.1f}",
        recorded or words.NONE,
    ]
