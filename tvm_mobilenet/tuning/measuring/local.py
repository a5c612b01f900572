"""Measuring on this machine: one process compiles while another, alone on its cores, times.

MetaSchedule's LocalBuilder and LocalRunner start Python and TVM anew for every batch;
``benchmarks/tuning_speed.py`` puts both side by side.
"""

from __future__ import annotations

from tvm_mobilenet.hardware import cpu, gpu
from tvm_mobilenet.hardware.cores import share_cores
from tvm_mobilenet.tuning.measuring.builders import Builders
from tvm_mobilenet.tuning.measuring.lanes import Lane
from tvm_mobilenet.tuning.measuring.pool import PoolMeasurer
from tvm_mobilenet.tuning.workers.messages import Settings


class LocalMeasurer(PoolMeasurer):
    """Times on this CPU, or on this machine's GPU."""

    def __init__(self, settings: Settings, timeout_s: float = 10.0) -> None:
        device = gpu.describe_present() if settings.gpu else cpu.host_model()
        super().__init__(settings, timeout_s, "native", device)
        build_cores, run_cores = share_cores(settings.threads)
        builder = self.make_worker("builder", build_cores)
        self.builders = Builders([builder], timeout_s, self.statistics)
        self.lanes = [Lane(self.make_worker("runner", run_cores), self.statistics)]

    def __enter__(self) -> LocalMeasurer:
        return self
