"""Times a stream of instructions on a core: widths, latencies, and what waits for what.

Instructions enter in order, ``issue`` a cycle and of those on whole vectors ``vector_issue``, while
there is room in the window; each starts when
what it reads is ready and a unit of its kind is free; the window's oldest leaves first. A unit that
n instructions a cycle can use is counted as busy for 1/n cycle from when the instruction enters, so
that what waits for its operands does not hold up the others.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from tvm_mobilenet.core_model.operation import Operation
from tvm_mobilenet.hardware.core import DIVIDE_LATENCY, MULTIPLY_LATENCY, Core

VECTOR_BYTES = 16  # at least, of a whole vector
STACK_ALIGNMENT = 16  # bytes: all that a function may rely on


@dataclass(slots=True)
class Demand:
    """What an operation demands of a core; costs in cycles of the unit, latency likewise."""

    data: tuple[str, ...]
    address: tuple[str, ...]
    writes: tuple[str, ...]
    slots: float  # of the width at which instructions enter
    vector_slots: float  # and of that for whole vectors
    loads: float
    stores: float
    stored_bytes: int
    unit: str
    cost: float
    latency: int
    crossing: float  # how much of a stack access lies in a second line, on average


def demand_of(operation: Operation, core: Core) -> Demand:
    memory = operation.memory
    address = () if memory is None else tuple(one for one in (memory.base, memory.index) if one)
    data = tuple(one for one in operation.reads if one not in address)
    latency = {
        "fma": core.fma_latency,
        "vector": core.vector_latency,
        "scalar": 1,
        "multiply": MULTIPLY_LATENCY,
        "divide": DIVIDE_LATENCY,
        "none": 0,
    }[operation.unit]
    unit = "scalar" if operation.unit == "multiply" else operation.unit
    cost = {
        "fma": 1 / core.fmas,
        "vector": 1 / core.vectors,
        "scalar": 1 / core.scalars,
        "divide": float(DIVIDE_LATENCY),
        "none": 0.0,
    }[unit]
    size = memory.size if memory else 0
    entries = max(1, operation.loads + operation.stores)
    on_vectors = operation.unit in ("fma", "vector") or size >= VECTOR_BYTES
    return Demand(
        data,
        address,
        operation.writes,
        entries / core.issue,
        entries / core.vector_issue if on_vectors else 0.0,
        operation.loads / core.loads,
        operation.stores / core.stores,
        operation.stores * size,
        unit,
        cost,
        latency,
        max(0, size - STACK_ALIGNMENT) / core.line_bytes,
    )


class Scoreboard:
    """``cycles`` is when the last instruction so far has left."""

    def __init__(self, core: Core, refill: float = 0.0) -> None:
        """``refill``: cycles for each byte of a line that is stored to and was not in L1."""
        self.cycles = 0.0
        self._refill = refill
        self._core = core
        self._entry = 0.0  # when the last one entered
        self._vector_entry = 0.0  # and the last on whole vectors
        self._ready: dict[str, float] = {}
        self._stored: dict[int, float] = {}  # stack slots
        self._window: deque[float] = deque([0.0] * (core.window or 1))
        self._free = dict.fromkeys(("fma", "vector", "scalar", "divide", "load", "store"), 0.0)

    def issue(self, demand: Demand, slot: int | None, *, afar: bool) -> None:
        """Take one instruction; ``slot`` is the address where that is on the stack.

        What is stored ``afar`` is not in L1 yet. Stores take effect in order, so that those to the
        stack wait for it too.
        """
        core, ready, free = self._core, self._ready, self._free
        entry = self._entry + demand.slots
        if demand.vector_slots:
            entry = self._vector_entry = max(entry, self._vector_entry + demand.vector_slots)
        if self._window[0] > entry:
            entry = self._window[0]
        start = entry
        for name in demand.address:
            when = ready.get(name, 0.0)
            if when > start:
                start = when
        if demand.loads:
            cost = demand.loads if slot is None else demand.loads * (1 + demand.crossing)
            free["load"] = when = max(free["load"], entry) + cost
            start = max(start, when) + core.load_latency
            if slot is not None and slot in self._stored:
                late = core.forward_latency * (1 + demand.crossing)
                start = max(start, self._stored[slot] + late)
        begun = start
        for name in demand.data:
            when = ready.get(name, 0.0)
            if when > start:
                start = when
        if demand.cost:
            when = free[demand.unit]
            if entry > when:
                when = entry
            free[demand.unit] = when + demand.cost
            if when > start:
                start = when
        end = start + demand.latency
        if demand.stores:
            cost = demand.stores if slot is None else demand.stores * (1 + demand.crossing)
            if afar:
                cost += demand.stored_bytes * self._refill
            free["store"] = when = max(free["store"], entry) + cost
            end = max(end, when)
            if slot is not None:
                self._stored[slot] = end
        for name in demand.writes:
            ready[name] = end
        if not core.window:
            # in order: nothing enters before what came before it has started
            entry = max(
                entry, start if begun == start and not demand.loads else start - core.load_latency
            )
        self._entry = entry
        if end > self.cycles:
            self.cycles = end
        self._window.append(self.cycles)
        self._window.popleft()

    def wait(self, cycles: float) -> None:
        """Nothing enters before all that did has left, and so many cycles have passed."""
        self._entry = self.cycles + cycles

    def work(self, cycles: float) -> None:
        """Something that keeps the whole core busy, such as a library's function."""
        self._entry = self.cycles = max(self._entry, self.cycles) + cycles
