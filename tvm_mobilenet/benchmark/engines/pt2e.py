"""PyTorch's own int8 (PT2E): a module, quantized for what Inductor makes of x86."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from tvm_mobilenet.benchmark.engines.protocol import EngineUnavailable
from tvm_mobilenet.benchmark.engines.quantized import SAMPLE_SEED, SAMPLES


def quantize(module: nn.Module, inputs: Sequence[torch.Tensor]) -> nn.Module:
    """The module in int8 for inputs as these, calibrated with random ones.

    Random as those that quantized.py gives to all other engines. Raises EngineUnavailable without
    torchao, where PyTorch keeps its quantizers.
    """
    try:
        from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e
        from torchao.quantization.pt2e.quantizer import x86_inductor_quantizer as x86
    except ImportError:
        raise EngineUnavailable("PyTorch's int8 needs torchao: pip install torchao") from None
    quantizer = x86.X86InductorQuantizer()
    quantizer.set_global(x86.get_default_x86_inductor_quantization_config())
    rng = np.random.default_rng(SAMPLE_SEED)
    with torch.no_grad():
        exported = torch.export.export(module, tuple(inputs)).module()
        prepared = prepare_pt2e(exported, quantizer)
        for _ in range(SAMPLES):
            shapes = (tuple(one.shape) for one in inputs)
            prepared(*(torch.from_numpy(rng.standard_normal(s, dtype=np.float32)) for s in shapes))
        converted: nn.Module = convert_pt2e(prepared)
    return converted
