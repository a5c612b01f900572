"""The precisions of a network, the targets that have them, and how exact each leaves a result."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from tvm_mobilenet.errors import BadInput

if TYPE_CHECKING:
    from tvm_mobilenet.hardware.target import TargetSpec
    from tvm_mobilenet.quantization.calibration import Abilities

BF16_FEATURES = {"x86": "avx512_bf16", "arm": "bf16"}  # by family, as in /proc/cpuinfo
LOOKUP_FEATURE = "avx512vbmi"
FP16_FEATURE = "fullfp16"  # as LLVM calls it: ARM's arithmetic over halves, from ARMv8.2 on
IN_HALVES = ("bf16", "fp16")  # of 16 bits between layers, on CPUs
Precision = Literal["fp32", "tf32", "bf16", "fp16", "int8"]

# What a result may differ by from float32 arithmetic, ‖a - b‖ / ‖b‖.
# fp32 only sums in another order. fp16 keeps 10 bits after the leading one and so does tf32: each
# rounds what it multiplies by up to 2^-11 = 4.9e-4, some 27 layers deep, hence the same tolerance.
# (tf32 stays well below it: sums, and what lies between layers, are float32.)
# bf16 keeps 7 bits: it rounds by up to 2^-8 = 3.9e-3. A network may amplify either, as
# ``tolerance_of_halves`` has it.
# int8 is held against the quantized network, which rounds at the same places; what lies in the
# middle of two numbers may go either way, and the layers after it see that.
TOLERANCES: dict[str, float] = {
    "fp32": 1e-4,
    "tf32": 1e-2,
    "bf16": 2e-2,
    "fp16": 1e-2,
    "int8": 1e-2,
}


# Of a network that comes quantized: its reference rounds as the file says in float32, as integer
# kernels do not in one of some thousand results, and a network amplifies what differs. Twice what
# the reference's own ways to compute it differ by is right, and this in any case.
QUANTIZED_TOLERANCE = 1e-2
QUANTIZED_SPREAD = 2.0


def tolerance_of_quantized(rounding: float) -> float:
    """Where the reference's own ways to compute a network lie ``rounding`` apart."""
    return max(QUANTIZED_TOLERANCE, QUANTIZED_SPREAD * rounding)


# Of a network in bf16 or fp16: what rounding its weights and inputs alone moves the result by, in
# float32 arithmetic, times as much as all that is rounded besides may add. In bf16, which rounds
# between layers, ours and OpenVINO's came out at 1.0 to 2.3 times for 13 networks with random
# weights. In fp16 sums of up to 128 products are rounded too, by sqrt(128 / 6) times as much
# (kernels/cpu/float16.py).
SPREADS = {"bf16": 3.0, "fp16": 5.0}


def tolerance_of_halves(rounding: float, precision: str) -> float:
    """Of a network in bf16 or fp16 whose result rounded weights and inputs move by ``rounding``."""
    return max(TOLERANCES[precision], SPREADS[precision] * rounding)


def choose(asked: Precision, spec: TargetSpec, *, allow_tf32: bool = False) -> Precision:
    """The precision that was asked for, or tf32 where fp32 may be computed in it.

    Raises BadInput where the target lacks that, or tf32 is allowed for anything but fp32.
    """
    if not allow_tf32:
        check(asked, spec)
        return asked
    if asked != "fp32":
        raise BadInput(
            f"--allow-tf32 is for --precision fp32; {asked} uses tensor cores without it"
        )
    check("tf32", spec)
    return "tf32"


def has_bf16(spec: TargetSpec) -> bool:
    """Whether a target's CPU multiplies bfloat16."""
    return BF16_FEATURES.get(spec.family) in spec.cpu_features


def abilities_of(spec: TargetSpec) -> Abilities:
    """What a network may be quantized for."""
    from tvm_mobilenet.quantization.calibration import Abilities

    return Abilities(bf16=has_bf16(spec), tables=LOOKUP_FEATURE in spec.cpu_features)


def check_bf16(spec: TargetSpec) -> None:
    """Raise BadInput for a target whose CPU does not multiply bfloat16."""
    if has_bf16(spec):
        return
    from tvm_mobilenet.hardware import target

    have = [name for name in target.known() if has_bf16(target.resolve(name))]
    raise BadInput(
        f"target {spec.name}: precision bf16 is for CPUs that multiply bfloat16 "
        f"({BF16_FEATURES['x86']}, or {BF16_FEATURES['arm']} on ARM); those of {', '.join(have)} do"
    )


def has_fp16(spec: TargetSpec) -> bool:
    """Whether it is of ARM cores with arithmetic over float16."""
    if spec.family != "arm":
        return False
    from tvm.target.codegen import target_has_features

    return bool(target_has_features(FP16_FEATURE, spec.tvm_target()))


def check_fp16(spec: TargetSpec) -> None:
    """Raise BadInput for a target without a GPU whose CPU has no arithmetic over float16."""
    if has_fp16(spec):
        return
    from tvm_mobilenet.hardware import target

    have = [name for name in target.known() if has_fp16(target.resolve(name))]
    raise BadInput(
        f"target {spec.name}: precision fp16 is for GPUs and for ARM cores with arithmetic over "
        f"float16; those of {', '.join(have)} have it"
    )


def check_int8(spec: TargetSpec) -> None:
    """Raise BadInput for a target with a GPU."""
    if spec.gpu is None:
        return
    from tvm_mobilenet.hardware import target

    have = [name for name in target.known() if target.resolve(name).gpu is None]
    raise BadInput(f"target {spec.name}: precision int8 is for CPUs; {', '.join(have)} have it")


def check(precision: Precision, spec: TargetSpec) -> None:
    """Raise BadInput for a precision that the target does not compute in."""
    if precision == "fp32":
        return
    if precision == "bf16":
        check_bf16(spec)
        return
    if precision == "int8":
        check_int8(spec)
        return
    if precision == "fp16" and spec.gpu is None:
        check_fp16(spec)
        return
    if spec.gpu is None:
        raise BadInput(f"target {spec.name}: precision {precision} is for GPUs; expected fp32")
    if precision not in spec.gpu.tensor_cores:
        raise BadInput(
            f"target {spec.name}: the tensor cores of {spec.gpu.arch} do not multiply {precision}; "
            f"they do {', '.join(spec.gpu.tensor_cores)}"
        )
