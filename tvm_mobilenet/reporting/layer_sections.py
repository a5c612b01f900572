"""A profiled network: the roofline, the slowest layers by name, and where each schedule is from."""

from __future__ import annotations

from tvm_mobilenet.reporting import words
from tvm_mobilenet.reporting.charts import roofline
from tvm_mobilenet.reporting.page import Section, Table
from tvm_mobilenet.results.profiles import LayerProfile, Profiled

HEADER = (
    *("layer", "kernel", "µs", "share", "GFLOP/s", "FLOP/byte", "of its bound", "bound by"),
    *("schedule", "record µs", "recorded"),
)


def profile_section(profile: Profiled, anchor: str) -> Section:
    total = sum(one.ms for one in profile.layers)
    chart = roofline.roofline(profile)
    slowest = "; ".join(
        f"{one.name} {one.workload}, {one.ms * 1e3:.1f} µs ({one.ms / total:.1%})"
        for one in roofline.slowest(profile)
    )
    sentences = [_floor(profile), f"The layers that take longest: {slowest}."]
    table = Table(
        "Layers",
        HEADER,
        [_cells(profile, one, total) for one in profile.layers],
        words=(0, 1, 7, 8, 10),
    )
    charts = [] if chart is None else [chart]
    return Section(f"Layers, {profile.title}", anchor, sentences, charts, [table])


def _floor(profile: Profiled) -> str:
    infer = f"An inference takes {profile.network_ms:.3f} ms"
    if not profile.floor_ms:
        return f"{infer}; FMAs say nothing of kernels in int8 and bf16, so there is no floor."
    return (
        f"{infer}, {profile.network_ms / profile.floor_ms:.2f} times its floor of "
        f"{profile.floor_ms:.3f} ms: all multiply-adds at the core's peak of "
        f"{profile.core.flops_per_s / 1e9:.0f} GFLOP/s, measured in the same run."
    )


def _cells(profile: Profiled, one: LayerProfile, total_ms: float) -> list[str]:
    arithmetic = profile.arithmetic_ms(one) >= profile.memory_ms(one)
    known = not one.by_dot_products
    recorded = " ".join(part for part in (one.how, (one.date or "").partition("T")[0]) if part)
    return [
        one.name,
        one.workload,
        f"{one.ms * 1e3:.1f}",
        f"{one.ms / total_ms:.1%}",
        f"{one.gflops:.1f}" if known else words.NONE,
        f"{one.intensity:.1f}" if one.nbytes and known else words.NONE,
        f"{profile.bound_ms(one) / one.ms:.0%}" if known else words.NONE,
        ("arithmetic" if arithmetic else "memory") if known else words.NONE,
        "tuned" if one.tuned else "default" if one.own else "TVM's operator",
        words.NONE if one.latency_us is None else f"{one.latency_us:.1f}",
        recorded or words.NONE,
    ]
