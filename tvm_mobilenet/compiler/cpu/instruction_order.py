"""Which model of a core LLVM orders instructions by: for products of bytes on ARM, Neoverse N1's.

By its models of other cores LLVM begins a long piece of code with all of its loads, and spills what
the registers do not hold. Which instructions there are stays the core's own business: the target
gets its features one by one. Cores that begin instructions in their order keep their own model,
which spills a little there: by llvm-mca they would wait longer for what was loaded just before.

On 32 bits, which have half as many registers, all kernels are ordered by the model of Cortex-A15.
"""

from __future__ import annotations

import tvm
import tvm_ffi
from tvm import tirx
from tvm.ir import Call
from tvm.target import Target
from tvm.target.codegen import llvm_get_cpu_features, llvm_lookup_intrinsic_id

from schedules.arm_cpu.byte_tiles import keeps_order
from schedules.arm_cpu.cores import core_of
from schedules.cpu.arm import is_32_bit_arm
from schedules.cpu.byte_instructions import SDOT
from schedules.cpu.register_products import SMMLA

ORDERED_AS, ORDERED_AS_32 = "neoverse-n1", "cortex-a15"
LLVM_CALL = "tirx.call_llvm_pure_intrin"


def order_of(mod: tvm.IRModule, target: Target) -> Target:
    """What to generate the code of ``mod`` for: ``target``, or that with another core's model."""
    if is_32_bit_arm(target):
        return in_order_of(target, ORDERED_AS_32)
    if not keeps_order(target) or target.attrs["mcpu"] == ORDERED_AS:
        return target
    if core_of(target).window == 0:
        return target
    if not any(map(_multiplies_bytes, mod.functions.values())):
        return target
    return in_order_of(target, ORDERED_AS)


def in_order_of(target: Target, mcpu: str) -> Target:
    """A target with all features of ``target``, whose core LLVM takes for another."""
    config = {**target.export(), "mcpu": mcpu, "mattr": []}
    own, others = (set(llvm_get_cpu_features(one)) for one in (target, Target(config)))
    missing, foreign = sorted(own - others), sorted(others - own)
    # first what is taken away, which takes along what needs it
    config["mattr"] = [*(f"-{one}" for one in foreign), *(f"+{one}" for one in missing)]
    return Target(config)


def _multiplies_bytes(func: object) -> bool:
    if not isinstance(func, tirx.PrimFunc):
        return False
    products = {llvm_lookup_intrinsic_id(name) for name in (SDOT, SMMLA)}
    found = False

    def visit(call: Call) -> None:
        nonlocal found
        if getattr(call.op, "name", "") == LLVM_CALL:
            found = found or int(call.args[0]) in products

    tvm_ffi.structural_walk(func.body, (Call, visit))
    return found
