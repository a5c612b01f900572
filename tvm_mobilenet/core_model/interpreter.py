"""Follows a kernel's machine code and times it, without doing all of its iterations.

Scalars are computed, vectors are only timed. A loop is whatever jumps back. Once two iterations of
it took the same way, and every number that a branch of it depended on moved evenly, it is known in
which iteration a branch will first go the other way; all before that are counted and not followed.
So trip counts come from the code itself, with whatever LLVM peeled, unrolled or interchanged.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

from tvm_mobilenet.core_model import aarch64, x86_64
from tvm_mobilenet.core_model.listing import Listing, read
from tvm_mobilenet.core_model.operation import (
    WORD,
    Operation,
    State,
    Unmodelled,
    difference,
    holds,
    signed,
)
from tvm_mobilenet.core_model.scoreboard import Demand, Scoreboard, demand_of
from tvm_mobilenet.hardware.core import Core

ISAS: dict[str, ModuleType] = {"x86_64": x86_64, "aarch64": aarch64}

STACK_TOP = 1 << 40
ARGUMENTS_START = 1 << 44
ARGUMENT_BYTES = 1 << 32  # addresses from one argument to the next
WORKSPACE = ARGUMENTS_START + 64 * ARGUMENT_BYTES
STEADY = 600  # instructions of a loop after which its pace is taken for steady
MOST = 3_000_000  # instructions to follow before giving up
COPIED_PER_CYCLE = 32  # bytes, of memset and memcpy
CALL_CYCLES = 10


@dataclass
class Count:
    """What ran: cycles, instructions, and of these by kind."""

    cycles: float = 0.0
    instructions: int = 0
    units: Counter[str] = field(default_factory=Counter)


@dataclass
class _Arrival:
    """A loop's state where it jumps back."""

    registers: dict[str, int | None]
    narrow: set[str]
    words: dict[int, int | None]
    events: int  # how many there were
    clock: int
    cycles: float
    ran: dict[int, int]
    copied: int


@dataclass
class _Loop:
    header: int
    latch: int
    first: int  # the clock of the first arrival
    arrivals: list[_Arrival] = field(default_factory=list)
    trips: int = 0


@dataclass(slots=True)
class _Event:
    """A branch, or a choice: what its outcome depended on. ``tainted`` when by an uneven number."""

    place: int
    condition: str
    number: int
    tainted: int


class Interpreter:
    """Runs functions of one assembly listing."""

    def __init__(
        self, assembly: str, isa: str, core: Core, threads: int = 1, refill: float = 0.0
    ) -> None:
        self._isa: Any = ISAS[isa]
        self._listing: Listing = read(assembly, self._isa.COMMENT)
        self._core = core
        self._threads = threads
        self._operations: dict[int, tuple[Operation, Demand]] = {}
        self._state = State()
        self._score = Scoreboard(core, refill)
        self._events: list[_Event] = []
        self._taint: dict[str, int] = {}  # register → when an uneven number was last put into it
        self._clock = 0
        self._skipped_cycles = 0.0
        self._ran: dict[int, int] = {}  # how often each instruction
        self._copied = 0

    def call(self, function: str, arguments: int) -> Count:
        """Run ``function`` with so many pointers, to memory it knows nothing of.

        Raises Unmodelled for code the model cannot follow.
        """
        self._state.put(self._isa.STACK_POINTER, STACK_TOP - 4096)
        for place in range(arguments):
            self._pass(place, ARGUMENTS_START + place * ARGUMENT_BYTES)
        self._run(self._entry(function))
        units: Counter[str] = Counter(copied=self._copied)
        for place, times in self._ran.items():
            operation, _ = self._operation(place)
            units[operation.unit] += times
            units["load"] += times * operation.loads
            units["store"] += times * operation.stores
        cycles = self._score.cycles + self._skipped_cycles
        return Count(cycles, sum(self._ran.values()), units)

    def _pass(self, place: int, value: int) -> None:
        if place < len(self._isa.ARGUMENTS):
            self._state.put(self._isa.ARGUMENTS[place], value)

    def _entry(self, function: str) -> int:
        if function not in self._listing.functions:
            raise Unmodelled(f"the code has no function {function}")
        return self._listing.labels[function]

    def _operation(self, place: int) -> tuple[Operation, Demand]:
        found = self._operations.get(place)
        if found is None:
            if place >= len(self._listing.instructions):
                raise Unmodelled("the code ends without a return")
            operation = self._isa.decode(self._listing.instructions[place])
            found = self._operations[place] = (operation, demand_of(operation, self._core))
        return found

    # ---- following

    def _run(self, place: int) -> None:
        """Until the function that starts at ``place`` returns."""
        loops: list[_Loop] = []
        ran, score = self._ran, self._score
        while True:
            operation, demand = self._operation(place)
            self._clock += 1
            if self._clock > MOST:
                raise Unmodelled(f"its loops are not followed in {MOST} instructions")
            ran[place] = ran.get(place, 0) + 1
            slot, afar = self._place(operation)
            score.issue(demand, slot, afar=afar)
            following = place + 1
            if operation.effect is not None or operation.condition:
                self._compute(place, operation)
            if operation.control == "branch":
                event = self._events[-1]
                if holds(event.condition, event.number):
                    following = self._label(operation.target)
                else:
                    self._left(loops, place)
            elif operation.control == "jump":
                if operation.target not in self._listing.labels:  # a tail call
                    self._call(operation)
                    return
                following = self._label(operation.target)
            elif operation.control == "call":
                self._call(operation)
            elif operation.control == "return":
                return
            if following <= place and operation.control:
                self._back(loops, following, place)
            place = following

    def _compute(self, place: int, operation: Operation) -> None:
        state = self._state
        if operation.control == "branch" and operation.effect is not None:
            operation.effect(state)  # a branch that compares by itself
        taint = max((self._taint.get(one, 0) for one in operation.reads), default=0)
        if operation.nonlinear:
            taint = self._clock
        if operation.condition:
            if state.flags is not None:
                number = difference(operation.condition, state.flags)
                self._events.append(_Event(place, operation.condition, number, taint))
            elif operation.control == "branch":
                raise Unmodelled(f"a branch depends on what is not known: '{operation.text}'")
        if operation.control != "branch" and operation.effect is not None:
            operation.effect(state)
        for one in operation.writes:
            self._taint[one] = taint

    def _place(self, operation: Operation) -> tuple[int | None, bool]:
        """The address that the instruction accesses, where that is on the stack; and whether it is
        in one of the function's arguments."""
        memory = operation.memory
        if memory is None or memory.base is None:
            return None, False
        base = self._state.registers.get(memory.base)
        if base is None:
            return None, False
        if base >= ARGUMENTS_START:
            return None, base < WORKSPACE
        return self._state.address(memory), False

    def _label(self, name: str) -> int:
        if name not in self._listing.labels:
            raise Unmodelled(f"a jump to where the model does not know: {name}")
        return self._listing.labels[name]

    # ---- calls

    def _call(self, operation: Operation) -> None:
        state, isa = self._state, self._isa
        name = operation.target
        if name in state.registers:
            name = state.symbol_at(state.get(name)) or name
        if name in self._listing.functions:
            self._push(lambda: self._run(self._listing.labels[name]))
            return
        arguments = [state.get(one) for one in isa.ARGUMENTS]
        result: int | None = None
        self._score.work(CALL_CYCLES)
        if name == "__TVMBackendParallelLaunch":
            self._launch(arguments)
            result = 0
        elif name == "__TVMBackendAllocWorkspace":
            result = WORKSPACE
        elif name == "__TVMBackendFreeWorkspace":
            result = 0
        elif name in ("memset", "memcpy", "memmove"):
            size = arguments[2]
            if size is None:
                raise Unmodelled(f"{name} of a size that is not known")
            self._score.work(size / COPIED_PER_CYCLE)
            self._copied += size
        else:
            raise Unmodelled(f"a call of {name}, which the model does not know")
        state.put(isa.RESULT, result)

    def _launch(self, arguments: list[int | None]) -> None:
        """A parallel loop: the share of the first of the threads."""
        lambda_name = self._state.symbol_at(arguments[0])
        if lambda_name is None or arguments[1] is None:
            raise Unmodelled("a parallel loop whose function is not known")
        closure = arguments[1]
        environment = STACK_TOP - 64
        self._state.words[environment + 8] = self._threads
        kept = {one: self._state.get(one) for one in self._state.registers}
        for place, argument in enumerate((0, environment, closure)):
            self._pass(place, argument)
        self._push(lambda: self._run(self._entry(lambda_name)))
        for one, value in kept.items():  # the callee's duty; some code there is not followed
            self._state.put(one, value)

    def _push(self, run: Callable[[], None]) -> None:
        """Run with room on the stack for a return address."""
        pointer = self._isa.STACK_POINTER
        before = self._state.get(pointer)
        assert before is not None
        self._state.put(pointer, before - 8 if self._isa is x86_64 else before)
        run()
        self._state.put(pointer, before)

    # ---- loops

    def _left(self, loops: list[_Loop], place: int) -> None:
        """A loop ends here: a long one ends in a branch that was predicted wrongly."""
        if loops and loops[-1].latch == place:
            if loops[-1].trips > self._core.predicted_trips:
                self._score.wait(self._core.mispredict)
            loops.pop()

    def _back(self, loops: list[_Loop], header: int, latch: int) -> None:
        while loops and loops[-1].header != header:
            outer = loops[-1]
            if outer.header <= header and latch <= outer.latch:
                break
            loops.pop()
        if not loops or loops[-1].header != header:
            loops.append(_Loop(header, latch, self._clock))
        loop = loops[-1]
        loop.latch = max(loop.latch, latch)
        loop.trips += 1
        state = self._state
        loop.arrivals.append(
            _Arrival(
                dict(state.registers),
                set(state.narrow),
                dict(state.words),
                len(self._events),
                self._clock,
                self._score.cycles + self._skipped_cycles,
                dict(self._ran),
                self._copied,
            )
        )
        if self._clock - loop.first >= STEADY and len(loop.arrivals) >= 3:
            self._skip(loop)
        if len(loop.arrivals) > 64:  # a long warm-up of a short loop
            del loop.arrivals[: len(loop.arrivals) // 2 - 1]

    def _skip(self, loop: _Loop) -> None:
        """Jump over all iterations that go the same way as the last two."""
        before, last, now = loop.arrivals[-3:]
        count = self._same_ahead(
            self._events[before.events : last.events],
            self._events[last.events : now.events],
            before.clock,
        )
        if count is None:
            return
        # the pace: over the later half of what was followed
        middle = loop.arrivals[len(loop.arrivals) // 2]
        trips = len(loop.arrivals) - 1 - len(loop.arrivals) // 2
        if trips:
            self._skipped_cycles += count * (now.cycles - middle.cycles) / trips
        for place, times in now.ran.items():
            self._ran[place] += count * (times - last.ran.get(place, 0))
        self._copied += count * (now.copied - last.copied)
        self._move(before, last, now, count)
        loop.trips += count
        loop.arrivals.clear()
        loop.first = self._clock

    def _same_ahead(self, before: list[_Event], last: list[_Event], since: int) -> int | None:
        """How many more iterations take the way of these two; None where that is not known."""
        if len(before) != len(last):
            return None
        least: int | None = None
        for one, other in zip(before, last, strict=True):
            if one.place != other.place or one.condition != other.condition:
                return None
            outcome = holds(one.condition, one.number)
            if outcome != holds(other.condition, other.number):
                return None
            step = other.number - one.number
            if step and other.tainted > since:
                return None
            ahead = _until_change(other.condition, other.number, step)
            if ahead is not None and (least is None or ahead < least):
                least = ahead
        return least or None

    def _move(self, before: _Arrival, last: _Arrival, now: _Arrival, count: int) -> None:
        """Move every number on by ``count`` iterations; unknown where it does not move evenly."""
        state = self._state
        for name, value in now.registers.items():
            bits = 32 if name in now.narrow else WORD
            one, two = before.registers.get(name), last.registers.get(name)
            moved = _distance_moved(one, two, value, count, bits)
            if bits == 32:
                state.put(name, moved, 32)
            else:
                state.put(name, moved)
        for address, value in now.words.items():
            state.words[address] = _distance_moved(
                before.words.get(address), last.words.get(address), value, count, WORD
            )


def _distance_moved(
    one: int | None, two: int | None, now: int | None, count: int, bits: int
) -> int | None:
    if now is None or two is None or one is None:
        return None
    step = signed(now - two, bits)
    if signed(two - one, bits) != step:
        return None
    return (now + count * step) & ((1 << bits) - 1)


def _until_change(condition: str, number: int, step: int) -> int | None:
    """How many more steps leave the condition as it is; None for ever."""
    if step == 0:
        return None
    if condition in ("e", "ne"):
        if number == 0:
            return 0  # equal now, and not after
        return -number // step - 1 if number % step == 0 and -number // step > 0 else None
    outcome = holds(condition, number)
    # the first number, going by step, for which the outcome differs
    if (number < 0) == (number + step < 0) and (number > 0) == (step > 0) and number != 0:
        return None  # away from zero
    steps = max(1, abs(number) // abs(step))
    while holds(condition, number + steps * step) == outcome:
        steps += 1
    while steps > 1 and holds(condition, number + (steps - 1) * step) != outcome:
        steps -= 1
    return steps - 1
