"""Which core QEMU emulates for a target, and a device that has it."""

from __future__ import annotations

from dataclasses import replace

from tvm_mobilenet.emulation import emulator
from tvm_mobilenet.emulation.emulator import ARCHITECTURE, Emulator
from tvm_mobilenet.errors import BadInput
from tvm_mobilenet.hardware import cpu, target

# targets' mcpu that QEMU emulates by that name; "max" has every instruction that it knows
CORES = ("cortex-a7", "cortex-a53", "cortex-a72", "cortex-a76", "neoverse-n1")
ANY_CORE = "max"
FOLDER = "targets"  # of devices with other cores, in the device's own


def core_of(target_name: str) -> tuple[str, str]:
    """QEMU's name of the core that a target is for, and the core's architecture.

    Raises BadInput for a target of another family than ARM's.
    """
    if target_name not in target.known():
        return ANY_CORE, ARCHITECTURE  # a TOML file of the user's own
    spec = target.resolve(target_name)
    if spec.family != "arm":
        raise BadInput(
            f"instructions are counted on an emulated ARM core, {target_name} is none; "
            "--target arm, or a bundle compiled for that"
        )
    mcpu = str(spec.target.get("mcpu"))
    return mcpu if mcpu in CORES else ANY_CORE, cpu.architecture_of(spec.triple)


def device_of(target_name: str) -> Emulator:
    """The device with a target's core, whose Python runs on it and whose /proc/cpuinfo says so.

    Raises BadInput where no device was set up, and for a target that is none of 64-bit ARM.
    """
    spec = target.resolve(target_name)
    if spec.family != "arm" or cpu.architecture_of(spec.triple) != ARCHITECTURE:
        raise BadInput(f"--emulate {target_name}: expected arm, or a target of 64-bit ARM")
    device, (core, _) = emulator.find(), core_of(spec.name)
    if core == device.cpu:
        return device
    other = replace(device, folder=device.folder / FOLDER / spec.name, cpu=core)
    emulator.share_files(device, other, spec.cpu_features)
    return other
