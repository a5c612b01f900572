"""Where a program finds each CPU feature of /proc/cpuinfo without reading that file.

``native/cpu.c`` reads the words in this order: on x86 what CPUID gives, on ARM the two words of
hardware capabilities that Linux hands to every program, or what macOS says, in the same places.
"""

from __future__ import annotations

from dataclasses import dataclass

from tvm_mobilenet.errors import BadInput
from tvm_mobilenet.hardware import cpu

# of XCR0: what the system must save
AVX_STATE, AVX512_STATE, AMX_STATE = 0b110, 0b11100110, 0b11 << 17


@dataclass(frozen=True)
class CpuBit:
    """Bit ``bit`` of word ``word``; ``state`` are the bits of XCR0 that must be set too."""

    name: str
    word: int
    bit: int
    state: int = 0


# name: bit, by word
_X86 = (
    {  # leaf 1, ecx
        "pni": 0, "pclmulqdq": 1, "ssse3": 9, "fma": 12, "cx16": 13, "sse4_1": 19, "sse4_2": 20,
        "movbe": 22, "popcnt": 23, "aes": 25, "xsave": 26, "avx": 28, "f16c": 29, "rdrand": 30,
    },
    {"cmov": 15, "fxsr": 24, "sse": 25, "sse2": 26},  # leaf 1, edx
    {  # leaf 7, ebx
        "fsgsbase": 0, "bmi1": 3, "avx2": 5, "bmi2": 8, "erms": 9, "avx512f": 16, "avx512dq": 17,
        "rdseed": 18, "adx": 19, "avx512ifma": 21, "clflushopt": 23, "clwb": 24, "avx512cd": 28,
        "sha_ni": 29, "avx512bw": 30, "avx512vl": 31,
    },
    {  # leaf 7, ecx
        "avx512vbmi": 1, "umip": 2, "avx512_vbmi2": 6, "gfni": 8, "vaes": 9, "vpclmulqdq": 10,
        "avx512_vnni": 11, "avx512_bitalg": 12, "avx512_vpopcntdq": 14, "rdpid": 22,
    },
    {  # leaf 7, edx
        "fsrm": 4, "avx512_vp2intersect": 8, "amx_bf16": 22, "avx512_fp16": 23, "amx_tile": 24,
        "amx_int8": 25,
    },
    {"avx_vnni": 4, "avx512_bf16": 5},  # leaf 7.1, eax
    {"lahf_lm": 0, "abm": 5, "sse4a": 6},  # leaf 0x80000001, ecx
)  # fmt: skip
_AVX = {"avx", "avx2", "fma", "f16c", "avx_vnni", "vaes", "vpclmulqdq"}
_AARCH64 = (
    {
        "fp": 0, "asimd": 1, "evtstrm": 2, "aes": 3, "pmull": 4, "sha1": 5, "sha2": 6, "crc32": 7,
        "atomics": 8, "fphp": 9, "asimdhp": 10, "cpuid": 11, "asimdrdm": 12, "jscvt": 13,
        "fcma": 14, "lrcpc": 15, "dcpop": 16, "sha3": 17, "sm3": 18, "sm4": 19, "asimddp": 20,
        "sha512": 21, "sve": 22, "asimdfhm": 23, "dit": 24, "uscat": 25, "ilrcpc": 26, "flagm": 27,
        "ssbs": 28, "sb": 29,
    },
    {"dcpodp": 0, "sve2": 1, "flagm2": 7, "frint": 8, "i8mm": 13, "bf16": 14, "rng": 16, "bti": 17},
)  # fmt: skip
_ARM = (
    {
        "half": 1, "thumb": 2, "fastmult": 4, "vfp": 6, "edsp": 7, "neon": 12, "vfpv3": 13,
        "vfpv3d16": 14, "tls": 15, "vfpv4": 16, "idiva": 17, "idivt": 18, "vfpd32": 19, "lpae": 20,
        "evtstrm": 21,
    },
    {"aes": 0, "pmull": 1, "sha1": 2, "sha2": 3, "crc32": 4},
)  # fmt: skip


def bits_of(features: tuple[str, ...], triple: str) -> tuple[CpuBit, ...]:
    """Where each of ``features`` is, on a CPU of LLVM's ``triple``.

    Raises BadInput for one that a program cannot look up there.
    """
    architecture = cpu.architecture_of(triple)
    x86 = architecture == "x86_64"
    words = _X86 if x86 else _AARCH64 if architecture == "aarch64" else _ARM
    places = {name: (word, bit) for word, bits in enumerate(words) for name, bit in bits.items()}
    unknown = [name for name in features if name not in places]
    if unknown:
        raise BadInput(
            f"cpu_features: expected names of {architecture} as Linux has them in /proc/cpuinfo, "
            f"got {', '.join(unknown)}"
        )
    return tuple(CpuBit(name, *places[name], _state(name) if x86 else 0) for name in features)


def _state(name: str) -> int:
    if name.startswith("avx512"):
        return AVX512_STATE
    if name.startswith("amx"):
        return AMX_STATE
    return AVX_STATE if name in _AVX else 0
