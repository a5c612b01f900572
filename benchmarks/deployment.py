"""What a bundle costs a program beside its latency: against other runtimes, in fresh processes.

    python benchmarks/deployment.py BUNDLE ONNX [--tflite FILE] [--ncnn FOLDER] [--threads 2]
                                    [--soak BUNDLE] [--json FILE]

LiteRT's file is what ``litert_torch.convert`` exports, ncnn's folder holds ``network.param`` and
``network.bin`` as ``pnnx network.onnx fp16=0`` writes them (``ncnnparam=``, ``ncnnbin=``).

For each engine: bytes on disk, the time from opening to the first answer (the module is imported
already; the median over --starts processes), resident memory after ten runs, the CPU time of an
idle second after a run, and of a second with 20 requests. For the bundle also: ``create`` of
another context in C; percentiles of --runs runs (of the --soak bundle, where one is given) and by
how much memory grows meanwhile; and the throughput of 8 sessions on 8 threads of one process beside
that of 8 processes.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from tvm_mobilenet import cli, provenance
from tvm_mobilenet.errors import RunFailed

STARTS = 7
CREATES = 21

# What each process runs. It is told the file and the threads, and prints one JSON object.
HEAD = """
import json, os, resource, sys, threading, time
import numpy as np

path, threads, runs = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])

def rss():
    return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6

def cpu_in(seconds, requests):
    time.sleep(0.5)
    begin = time.process_time()
    for _ in range(max(requests, 1)):
        if requests:
            run()
        time.sleep(seconds / max(requests, 1))
    return time.process_time() - begin
"""
OURS = """
from tvm_mobilenet.runtime.session import load
import tvm_mobilenet.runtime.library, tvm_mobilenet.runtime.cuda
x = np.load(path + "/sample_input.npy")
before = rss()
begin = time.perf_counter()
session = load(path, threads=threads)
loaded = time.perf_counter()
session.run(x)
"""
ONNX_RUNTIME = """
import onnxruntime
before = rss()
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = threads
begin = time.perf_counter()
session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
loaded = time.perf_counter()
info = session.get_inputs()[0]
x = np.zeros(info.shape, np.float32)
session.run(None, {info.name: x})
"""
LITERT = """
from ai_edge_litert.interpreter import Interpreter
before = rss()
begin = time.perf_counter()
session = Interpreter(path, num_threads=threads)
session.allocate_tensors()
loaded = time.perf_counter()
(given,), (result,) = session.get_input_details(), session.get_output_details()
x = np.zeros(given["shape"], np.float32)
def infer():
    session.set_tensor(given["index"], x)
    session.invoke()
    return session.get_tensor(result["index"])
infer()
"""
NCNN = """
import ncnn
before = rss()
begin = time.perf_counter()
session = ncnn.Net()
session.opt.num_threads = threads
assert session.load_param(path + "/network.param") == 0
assert session.load_model(path + "/network.bin") == 0
loaded = time.perf_counter()
x = ncnn.Mat(np.zeros((3, 224, 224), np.float32))
def infer():
    run = session.create_extractor()
    assert run.input("in0", x) == 0
    status, result = run.extract("out0")
    assert status == 0
    return np.array(result)
infer()
"""
TAIL = """
first = time.perf_counter()
def run():
    RUN
for _ in range(10):
    run()
facts = {"load_ms": 1e3 * (loaded - begin), "first_answer_ms": 1e3 * (first - begin),
         "rss_mb": rss(), "rss_of_session_mb": rss() - before}
if runs:
    facts["idle_cpu"] = cpu_in(2, 0) / 2
    facts["cpu_at_20_a_second"] = cpu_in(2, 40) / 2
print(json.dumps(facts))
"""
SOAK = """
times = np.ones(runs)
session.infer_in_place()
before = rss()
for i in range(runs):
    begin = time.perf_counter()
    session.infer_in_place()
    times[i] = time.perf_counter() - begin
growth = rss() - before
p50, p99, p999 = (1e3 * float(np.quantile(times, q)) for q in (0.5, 0.99, 0.999))
print(json.dumps({"runs": runs, "p50_ms": p50, "p99_ms": p99, "p999_ms": p999,
                  "rss_growth_mb": growth}))
"""
CREATE = """
import ctypes
from tvm_mobilenet.runtime.library import VERSION, InfoHead, Options
context, times, handle = session.executor.context, [], ctypes.c_void_p()
info = context.function("info", result=ctypes.POINTER(InfoHead))().contents
options = Options(VERSION, info.signature, context.weights, threads=threads, spin_us=-1)
create = context.function("create", ctypes.c_void_p, ctypes.c_void_p)
destroy = context.function("destroy", ctypes.c_void_p, result=None)
for _ in range(runs):
    begin = time.perf_counter()
    assert create(ctypes.byref(options), ctypes.byref(handle)) == 0
    times.append(time.perf_counter() - begin)
    destroy(handle)
print(json.dumps({"create_ms": 1e3 * float(np.median(times))}))
"""
CROWD = """
sessions = [load(path) for _ in range(runs)]
expected = session.run(x)
SECONDS, done = 5, [0] * runs
wrong = []
def serve(i):
    end = time.perf_counter() + SECONDS
    while time.perf_counter() < end:
        done[i] += 1
        if not np.array_equal(sessions[i].run(x), expected):
            wrong.append(i)
crowd = [threading.Thread(target=serve, args=(i,)) for i in range(runs)]
for one in crowd: one.start()
for one in crowd: one.join()
assert not wrong, wrong
print(json.dumps({"runs_a_second": sum(done) / SECONDS}))
"""
# of each engine what opens it, and one run
PROGRAMS = {
    "tvm-mobilenet": (OURS, "session.run(x)"),
    "onnxruntime": (ONNX_RUNTIME, "session.run(None, {info.name: x})"),
    "litert": (LITERT, "infer()"),
    "ncnn": (NCNN, "infer()"),
}
CROWD_SIZE = 8


def main() -> int:
    parser = cli.make_parser("deployment", "What a bundle costs a program beside its latency.")
    parser.add_argument("bundle", type=Path)
    parser.add_argument("onnx", type=Path)
    parser.add_argument("--tflite", type=Path, metavar="FILE")
    parser.add_argument("--ncnn", type=Path, metavar="FOLDER")
    parser.add_argument("--threads", type=cli.positive_int, default=2)
    parser.add_argument("--starts", type=cli.positive_int, default=STARTS)
    parser.add_argument("--soak", type=Path, metavar="BUNDLE")
    parser.add_argument("--runs", type=cli.positive_int, default=20000)
    parser.add_argument("--json", type=cli.new_file, metavar="FILE")
    return cli.run_command(report, parser.parse_args())


def report(args: argparse.Namespace) -> int:
    paths = dict(zip(PROGRAMS, (args.bundle, args.onnx, args.tflite, args.ncnn), strict=True))
    rows = {
        name: measure(name, path, args.threads, args.starts)
        for name, path in paths.items()
        if path is not None
    }
    for name, row in rows.items():
        print(name, *(f"{key} {value:.3f}" for key, value in row.items()), sep="\n  ")
    create = run_python(HEAD + OURS + CREATE, args.bundle, args.threads, CREATES)
    print(create)
    soak = run_python(HEAD + OURS + SOAK, args.soak or args.bundle, 1, args.runs)
    print("runs on one thread:", soak)
    program = HEAD + OURS + CROWD
    together = run_python(program, args.bundle, 1, CROWD_SIZE)["runs_a_second"]
    children = [start(program, args.bundle, 1, 1) for _ in range(CROWD_SIZE)]
    apart = sum(finish(child)["runs_a_second"] for child in children)
    crowd = {"threads_a_second": together, "processes_a_second": apart}
    print(f"{CROWD_SIZE} sessions:", crowd)
    if args.json:
        what = "what a bundle and other runtimes cost a program beside their latency"
        provenance.write_results(
            args.json, {"what": what, "engines": rows, **create, "soak": soak, "crowd": crowd}
        )
    return 0


def measure(name: str, path: Path, threads: int, starts: int) -> dict[str, float]:
    """Medians over ``starts`` fresh processes; what takes seconds is measured in the last."""
    opening, one_run = PROGRAMS[name]
    program = HEAD + opening + TAIL.replace("RUN", one_run)
    found = [run_python(program, path, threads, last) for last in [0] * (starts - 1) + [1]]
    medians = {key: statistics.median(one[key] for one in found) for key in found[0]}
    return {"disk_mb": size_mb(path), **found[-1], **medians}


def size_mb(path: Path) -> float:
    """Of a bundle, what a program ships: the library and the weights; of others, all there is."""
    files = list(path.iterdir()) if path.is_dir() else [path]
    if (path / "model.so").is_file():
        files = [path / "model.so", path / "parameters.bin"]
    return sum(file.stat().st_size for file in files) / 1e6


def start(program: str, path: Path, threads: int, runs: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", program, str(path), str(threads), str(runs)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def finish(child: subprocess.Popen[str]) -> dict[str, Any]:
    printed, _ = child.communicate()
    if child.returncode:
        raise RunFailed(f"a measuring process ended with status {child.returncode}")
    facts: dict[str, Any] = json.loads(printed.splitlines()[-1])
    return facts


def run_python(program: str, path: Path, threads: int, runs: int) -> dict[str, Any]:
    return finish(start(program, path, threads, runs))


if __name__ == "__main__":
    sys.exit(main())
