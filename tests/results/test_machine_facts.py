"""What files say of the machine: its microarchitecture, and what was found out about its cores."""

from __future__ import annotations

import json
from dataclasses import replace

from support import result_rows

from tvm_mobilenet.hardware.core_facts import CoreFacts
from tvm_mobilenet.reporting import words
from tvm_mobilenet.results import schema
from tvm_mobilenet.results.changes import machine_name

BEFORE = replace(result_rows.MACHINE, cpu="Intel Xeon Processor (family 6, model 207)")
FACTS = CoreFacts(2, 2, 412.3, 2900, 2500)
NOW = replace(BEFORE, microarchitecture="Intel Emerald Rapids", facts=FACTS)


def test_files_hold_it_and_files_from_before_are_read() -> None:
    for machine in (BEFORE, NOW):
        results = replace(result_rows.results(result_rows.row("bundle", 1.0)), machine=machine)
        assert schema.loads(schema.dumps(results), "x") == results
    before = json.loads(schema.dumps(replace(results, machine=BEFORE)))["machine"]
    assert not {"microarchitecture", "facts"} & before.keys()


def test_old_and_new_files_of_a_machine_are_compared() -> None:
    assert machine_name(BEFORE) == machine_name(NOW)


def test_it_is_told() -> None:
    assert words.machine_line(NOW).startswith(
        "Intel Emerald Rapids: Intel Xeon Processor (family 6, model 207), 2 cores, 2 hyper-threads"
        " a core, 2 last level caches, 412 ns from the first CPU to the second and back, 2900 MHz "
        "(2500 MHz under FMAs), governor"
    )
    one = replace(NOW, facts=CoreFacts(1, 1))
    assert "2 cores, governor" in words.machine_line(one)
    assert words.machine_line(BEFORE).startswith(f"{BEFORE.cpu}, 2 cores, governor")
