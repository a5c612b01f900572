"""Our AVX2 kernels beside ONNX Runtime's, on a CPU with AVX-512: MobileNetV1's 16 variants.

    python benchmarks/avx2.py [--threads 1,2] [--min-time 1s] [--json FILE] [--only-hold]

ONNX Runtime takes its kernels by what the CPU has and by which registers the system saves, for
which it asks with the instruction ``xgetbv``. It runs from a copy here, in which that instruction
is replaced by two of the same length that answer "those of AVX". That the copy keeps to AVX2 is
seen first: Linux tells in ``/proc/PID/arch_status`` whether a process used 512-bit registers. The
C library's own functions, which would use them, are held back by a tunable of glibc.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from tvm_mobilenet import cli, files, provenance
from tvm_mobilenet.errors import BadInput, RunFailed

TARGET = "x86-64-v3"
PACKAGE = "onnxruntime"
XGETBV = bytes.fromhex("0f01d0")
ANSWER = bytes.fromhex("6a0758")  # push 7; pop rax: x87, SSE and AVX registers are saved
TUNABLE = {"GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX512F,-AVX512VL,-AVX512BW"}
# Prints whether a process used 512-bit registers while it inferred. Linux notes down when it last
# saw them in use as another process gets the CPU, hence the sleeps; before, Python used them.
STATUS = "/proc/self/arch_status"
INFER = f"""
import sys, time
import numpy as np
import onnxruntime
session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
given = {{one.name: np.ones(one.shape, np.float32) for one in session.get_inputs()}}
time.sleep(0.1)
begin = time.monotonic()
for _ in range(50):
    session.run(None, given)
    time.sleep(0.001)
inferred_ms = 1e3 * (time.monotonic() - begin)
since_ms = int(open("{STATUS}").read().rpartition("AVX512_elapsed_ms:")[2])
print(0 <= since_ms < inferred_ms)
"""


def main() -> int:
    parser = cli.make_parser("avx2", "Time AVX2 kernels beside ONNX Runtime's.")
    parser.add_argument("--threads", default="1,2", metavar="N,...", help="(default: 1,2)")
    parser.add_argument("--min-time", default="1s", metavar="S", help="per engine (default: 1s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results here")
    what = "see that the copy of ONNX Runtime keeps to AVX2, and measure nothing"
    parser.add_argument("--only-hold", action="store_true", help=what)
    return cli.run_command(measure, parser.parse_args())


def measure(args: argparse.Namespace) -> int:
    with files.temporary_folder() as held:
        hold_to_avx2(installed(), held / PACKAGE)
        network = exported(held / "network.onnx")
        if uses_avx512(network, held):
            raise RunFailed(f"the copy of {PACKAGE} uses 512-bit registers")
        if not uses_avx512(network):
            raise BadInput(f"{PACKAGE} as installed uses no 512-bit registers: bench does as well")
        print(f"{PACKAGE} uses 512-bit registers as installed, and none in a copy held to AVX2")
        return 0 if args.only_hold else sweep(args, held)


def sweep(args: argparse.Namespace, held: Path) -> int:
    """``bench --sweep`` with the copy in ``held``; the results name this command."""
    words = ["--sweep", "--target", TARGET, "--against", PACKAGE]
    words += ["--threads", args.threads, "--min-time", args.min_time]
    words += ["--json", str(args.json)] if args.json else []
    status = python("-m", "tvm_mobilenet.bench", *words, packages=held).returncode
    if args.json and status == 0:
        text = args.json.read_text(encoding="utf-8")
        command = json.dumps(json.loads(text)["command"])
        files.write_text(args.json, text.replace(command, json.dumps(provenance.this_command()), 1))
    return status


def python(
    *arguments: str, packages: Path | None = None, stdout: int | None = None
) -> subprocess.CompletedProcess[str]:
    """Run Python with the packages in a folder before all others, and glibc held to AVX2."""
    paths = {} if packages is None else {"PYTHONPATH": os.pathsep.join([str(packages), *sys.path])}
    environment = {**os.environ, **TUNABLE, **paths}
    command = [sys.executable, *arguments]
    return subprocess.run(command, env=environment, stdout=stdout, text=True, check=False)


def installed() -> Path:
    """The folder of the installed package."""
    found = importlib.util.find_spec(PACKAGE)
    if found is None or found.origin is None:
        raise BadInput(f"{PACKAGE} is not installed; pip install 'tvm-mobilenet[bench]'")
    return Path(found.origin).parent


def hold_to_avx2(package: Path, copy: Path) -> None:
    """Copy a package; its libraries are told that the registers of AVX-512 are not saved."""
    shutil.copytree(package, copy, ignore=shutil.ignore_patterns("__pycache__"))
    for library in copy.rglob("*.so*"):
        library.write_bytes(library.read_bytes().replace(XGETBV, ANSWER))


def exported(path: Path) -> Path:
    """MobileNetV1 1.0-224 as ONNX."""
    from tvm_mobilenet import models
    from tvm_mobilenet.network import source

    path.write_bytes(
        source.from_config(models.config_from("mobilenet_v1"), 1).onnx.SerializeToString()
    )
    return path


def uses_avx512(network: Path, packages: Path | None = None) -> bool:
    """Whether a process that infers uses 512-bit registers. Raises BadInput where none can tell."""
    if not Path(STATUS).exists():
        raise BadInput(f"expected {STATUS}, which tells whether a process uses AVX-512")
    done = python("-c", INFER, str(network), packages=packages, stdout=subprocess.PIPE)
    if done.returncode:
        raise RunFailed(f"{PACKAGE} cannot run {network.name}; it said why")
    return done.stdout.strip() == "True"


if __name__ == "__main__":
    sys.exit(main())
