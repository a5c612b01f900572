"""From a request to what a run needs: the workers' settings, the linker, who measures."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from tvm_mobilenet.hardware.toolchain import linker_flags

if TYPE_CHECKING:
    from tvm_mobilenet.compiler.precision import Precision
    from tvm_mobilenet.hardware.target import TargetSpec
    from tvm_mobilenet.tuning.measuring.measurer import Measurer
    from tvm_mobilenet.tuning.request import TuneRequest
    from tvm_mobilenet.tuning.workers.messages import Settings


def make_settings(request: TuneRequest) -> Settings:
    """How the workers build, check and time candidates."""
    from tvm_mobilenet.compiler.precision import TOLERANCES
    from tvm_mobilenet.tuning.workers.messages import Settings

    target, conditions = request.target, request.conditions
    return Settings(
        target=target.tvm_config(),
        gpu=target.gpu is not None,
        link=find_linker(target, here=conditions.tracker is None),
        threads=conditions.threads,
        cold=not conditions.warm and target.gpu is None,
        tolerance=TOLERANCES[rounding_of(request)],
        seed=request.seed,
    )


def rounding_of(request: TuneRequest) -> Precision:
    """The precision whose rounding every kernel of a run is held to.

    Kernels over integers are held to those, and what they give as float32 to that; but layers that
    are kept out of int8 may be in bfloat16.
    """
    if request.options.precision != "int8":
        return request.options.precision
    return "bf16" if request.networks.preparation.may_keep_bf16 else "fp32"


def find_linker(target: TargetSpec, *, here: bool) -> tuple[str, ...]:
    """The command that makes a library of object files for ``target``.

    The target's compiler; ``here``, on this machine, its linker itself, which starts 15 ms sooner.
    """
    if here and target.gpu is not None:
        return ("cc", "-shared")  # which also compiles the host's half, for this machine
    if here and target.linker is None and shutil.which("ld"):
        return ("ld", "-shared", "-z", "noexecstack")
    return (target.cross_compiler or "cc", "-shared", *linker_flags(target))


def make_measurer(request: TuneRequest, settings: Settings) -> Measurer:
    """What measures under the request's conditions. Use it as a context manager.

    Raises RunFailed where no tracker answers, BadInput where it has no device of the key or no
    compiler for the device is installed.
    """
    target, conditions = request.target, request.conditions
    if conditions.by == "model":
        from tvm_mobilenet.tuning.measuring.modelled import ModelMeasurer

        assert target.core is not None, "checked before"
        return ModelMeasurer(settings, conditions.timeout_s, target.core, target.device)
    if conditions.by == "native":
        from tvm_mobilenet.tuning.measuring.local import LocalMeasurer

        return LocalMeasurer(settings, conditions.timeout_s)
    from tvm_mobilenet.tuning.measuring.farm import FarmMeasurer

    assert conditions.tracker is not None and conditions.key is not None, "checked before"
    return FarmMeasurer(
        settings,
        conditions.timeout_s,
        conditions.tracker,
        conditions.key,
        target.cpu_features,
        target.triple,
    )
