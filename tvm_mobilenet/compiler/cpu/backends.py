"""The two ways to compile for a CPU: one static program, or one for Relax's virtual machine."""

from __future__ import annotations

import tvm

from schedules.arm_cpu.cores import HALF_LANES
from schedules.cpu.dot_products import integers_of
from schedules.cpu.pair_products import channels_of_step
from schedules.cpu.sharing import num_cores
from tvm_mobilenet.compiler.backend import Finished
from tvm_mobilenet.compiler.cpu.lowering import lower_module
from tvm_mobilenet.compiler.cpu.native_code import generate
from tvm_mobilenet.compiler.cpu.packed_stores import looks_up
from tvm_mobilenet.compiler.cpu.static_program import make_static
from tvm_mobilenet.compiler.cpu.vm_program import build_vm
from tvm_mobilenet.compiler.dump import IrDump
from tvm_mobilenet.compiler.graph.legalize_cpu import CpuKernels, legalize
from tvm_mobilenet.compiler.graph.legalize_float import FUSED, STRASSEN, WINOGRAD
from tvm_mobilenet.compiler.graph.legalize_fp16 import HalfLegalizer
from tvm_mobilenet.compiler.graph.signed import sign_integers
from tvm_mobilenet.compiler.graph.topk import legalize_topk
from tvm_mobilenet.compiler.options import CompileOptions
from tvm_mobilenet.kernels.cpu.topk import topk
from tvm_mobilenet.scheduling.rules import overlapping_tile_of, rules_of


class _CpuBackend:
    def __init__(self, options: CompileOptions) -> None:
        self.target = options.spec.tvm_target()
        self.vector_width = options.spec.vector_width
        self.fp16 = options.precision == "fp16"
        rules = {"strassen": STRASSEN, "winograd": WINOGRAD, "fused": {FUSED}}
        self.bf16 = options.precision == "bf16" or options.floats_in_bf16
        # two compute with sums of weights and of images, which bfloat16 would round; fused blocks
        # have no kernel in bfloat16
        left_out = frozenset(rules) if self.bf16 else options.without
        without = frozenset().union(*(rules[name] for name in left_out))
        self.rules = rules_of(self.target) - without
        self.small_weights = options.small_weights

    def legalize(self) -> tvm.transform.Pass:
        integers = integers_of(self.target)
        return tvm.transform.Sequential(
            [
                *([sign_integers] if integers.dtype == "int8" else []),
                legalize(
                    CpuKernels(
                        HALF_LANES if self.fp16 else self.vector_width,
                        self.rules,
                        overlapping_tile_of(self.target),
                        integers,
                        bf16=self.bf16,
                        bf16_depth=channels_of_step(self.target),
                        looks_up=looks_up(self.target),
                        small_weights=self.small_weights,
                    ),
                    HalfLegalizer if self.fp16 else None,
                ),
                legalize_topk(topk),
            ]
        )


class StaticBackend(_CpuBackend):
    """The whole network as one function over planned memory."""

    def finish(self, mod: tvm.IRModule, dump: IrDump) -> Finished:
        program = make_static(mod, self.vector_width, num_cores(self.target), self.target)
        dump("static", program.module)
        lowered = lower_module(program.module, self.target)
        dump("lowered", lowered)
        code = generate(lowered, self.target)
        if dump.folder is not None:
            dump.text("assembly.s", "".join(part.inspect_source("s") for part in code.parts))
        return Finished(code, program)


class VmBackend(_CpuBackend):
    """Instructions for Relax's virtual machine, which calls the same kernels."""

    def finish(self, mod: tvm.IRModule, dump: IrDump) -> Finished:
        code, program = build_vm(mod, self.target, dump)
        return Finished(code, program)
