"""benchmarks/cuda_pairs.py: what it prints, and that it asks what the compiler asks."""

from __future__ import annotations

from support import benchmark_scripts, gpu_networks

from schedules.cuda.device import device_of
from schedules.cuda.fusion import cheapest
from schedules.cuda.kernel_times import KernelTimes
from tvm_mobilenet.hardware import target


def test_a_line_for_every_precision_and_batch() -> None:
    done = benchmark_scripts.run_here("cuda_pairs", "--target", "cuda-sm_75", "--batches", "1,8")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    heads = [line.partition(":")[0] for line in lines]
    assert heads == [
        *("sm_75 fp32 batch  1", "sm_75 fp32 batch  8"),
        *("sm_75 fp16 batch  1", "sm_75 fp16 batch  8"),
    ]
    assert lines[1].startswith("sm_75 fp32 batch  8: SSSSSSSSSSSS..")
    assert lines[1].endswith("( 0.0 %)")
    assert lines[3].startswith("sm_75 fp16 batch  8: .PPP.") and "(12." in lines[3]
    # the chain of layers is the one that the compiler's legalization asks to be paired
    times = KernelTimes(device_of(target.resolve("cuda-sm_75").tvm_target()), "fp16")
    time, pairs = cheapest(times, gpu_networks.chain())
    letters, found, *_ = lines[2].partition(": ")[2].split()
    assert found == f"{time:.1f}" and len(letters) == len(gpu_networks.chain()) - len(pairs)
