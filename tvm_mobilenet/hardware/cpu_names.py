"""Which microarchitecture an x86 CPU is, by the numbers that no hypervisor changes.

A virtual machine's CPU is often called no more than "AMD EPYC" or "Intel Xeon Processor"; its
family and model remain. The numbers are Linux's: Intel's of arch/x86/include/asm/intel-family.h,
AMD's of arch/x86/kernel/cpu/amd.c, which tells Zen's generations apart. Those with AVX2 are here.
"""

from __future__ import annotations

from collections.abc import Mapping

INTEL, AMD = "GenuineIntel", "AuthenticAMD"
_MAKERS = {INTEL: "Intel", AMD: "AMD"}

# family → models → name
Models = tuple[tuple[int, ...] | range, ...]
_NAMES: dict[tuple[str, int], dict[str, Models]] = {
    (INTEL, 6): {
        "Haswell": ((0x3C, 0x3F, 0x45, 0x46),),
        "Broadwell": ((0x3D, 0x47, 0x4F, 0x56),),
        "Skylake": ((0x4E, 0x5E),),
        # one number for all three
        "Skylake-SP, Cascade Lake or Cooper Lake": ((0x55,),),
        "Kaby Lake or Coffee Lake": ((0x8E, 0x9E),),
        "Comet Lake": ((0xA5, 0xA6),),
        "Ice Lake": ((0x6A, 0x6C, 0x7D, 0x7E),),
        "Rocket Lake": ((0xA7,),),
        "Tiger Lake": ((0x8C, 0x8D),),
        "Alder Lake": ((0x97, 0x9A),),
        "Raptor Lake": ((0xB7, 0xBA, 0xBF),),
        "Sapphire Rapids": ((0x8F,),),
        "Emerald Rapids": ((0xCF,),),
        "Granite Rapids": ((0xAD, 0xAE),),
        "Meteor Lake": ((0xAA, 0xAC),),
        "Arrow Lake": ((0xB5, 0xC5, 0xC6),),
        "Lunar Lake": ((0xBD,),),
    },
    (AMD, 0x17): {
        "Zen": (range(0x00, 0x30), range(0x50, 0x60)),
        "Zen 2": (range(0x30, 0x50), range(0x60, 0x80), range(0x90, 0x92), range(0xA0, 0xB0)),
    },
    (AMD, 0x19): {
        "Zen 3": (range(0x00, 0x10), range(0x20, 0x60)),
        "Zen 4": (range(0x10, 0x20), range(0x60, 0xB0)),
    },
    (AMD, 0x1A): {
        "Zen 5": (range(0x00, 0x30), range(0x40, 0x50), range(0x60, 0x80)),
    },
}


def microarchitecture(fields: Mapping[str, str]) -> str | None:
    """As in ``Intel Emerald Rapids`` or ``AMD Zen 4``, of a CPU's keys in /proc/cpuinfo.

    None for one that is not in the table.
    """
    numbers = [fields.get(key, "") for key in ("cpu family", "model")]
    if not all(number.isdecimal() for number in numbers):
        return None
    vendor = fields.get("vendor_id", "")
    family, model = map(int, numbers)
    for name, models in _NAMES.get((vendor, family), {}).items():
        if any(model in some for some in models):
            return f"{_MAKERS[vendor]} {name}"
    return None
