"""Which instructions an ARM Mac has, as macOS tells it: one setting of ``sysctl`` for each feature.

The features have Linux's names here as everywhere; ``library/native/cpu.c`` asks for the same
settings. Only the standard library is imported.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable

ARM = "hw.optional.arm.FEAT_"
SETTINGS = {
    "fp": "hw.optional.floatingpoint",
    "asimd": "hw.optional.AdvSIMD",
    "aes": f"{ARM}AES",
    "pmull": f"{ARM}PMULL",
    "sha1": f"{ARM}SHA1",
    "sha2": f"{ARM}SHA256",
    "crc32": "hw.optional.armv8_crc32",
    "atomics": f"{ARM}LSE",
    "fphp": f"{ARM}FP16",
    "asimdhp": f"{ARM}FP16",
    "asimdrdm": f"{ARM}RDM",
    "jscvt": f"{ARM}JSCVT",
    "fcma": f"{ARM}FCMA",
    "lrcpc": f"{ARM}LRCPC",
    "dcpop": f"{ARM}DPB",
    "sha3": f"{ARM}SHA3",
    "asimddp": f"{ARM}DotProd",
    "sha512": f"{ARM}SHA512",
    "asimdfhm": f"{ARM}FHM",
    "uscat": f"{ARM}LSE2",
    "ilrcpc": f"{ARM}LRCPC2",
    "flagm": f"{ARM}FlagM",
    "dcpodp": f"{ARM}DPB2",
    "flagm2": f"{ARM}FlagM2",
    "frint": f"{ARM}FRINTTS",
    "i8mm": f"{ARM}I8MM",
    "bf16": f"{ARM}BF16",
}


def read_setting(name: str) -> int:
    """An integer setting of this Mac's; 0 where it has none of that name, as older systems do."""
    value, size = ctypes.c_int(0), ctypes.c_size_t(ctypes.sizeof(ctypes.c_int))
    status = ctypes.CDLL(None).sysctlbyname(
        name.encode(), ctypes.pointer(value), ctypes.pointer(size), None, ctypes.c_size_t(0)
    )
    return value.value if status == 0 else 0


def features(read: Callable[[str], int] | None = None) -> frozenset[str]:
    """The features of this Mac that targets ask for; ``read`` stands in for ``read_setting``."""
    read = read or read_setting
    return frozenset(name for name, setting in SETTINGS.items() if read(setting))
