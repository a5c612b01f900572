"""uint8 activations become int8 where a target multiplies those, and nowhere else."""

from __future__ import annotations

import onnx
import pytest
import tvm
from onnx import TensorProto, helper
from support.quantized_layers import network

from tvm_mobilenet.compiler.backend import backend_of
from tvm_mobilenet.compiler.options import CompileOptions
from tvm_mobilenet.compiler.pipeline import lower_graph
from tvm_mobilenet.hardware import target
from tvm_mobilenet.network import cleaning, relax_import


def lowered(model: onnx.ModelProto, name: str) -> tvm.IRModule:
    mod = relax_import.import_onnx(cleaning.clean(model).model)
    return lower_graph(mod, backend_of(CompileOptions(target.resolve(name))).legalize())


@pytest.mark.parametrize("case", ["concatenated", "residual", "squeeze-excite", "max-pool"])
@pytest.mark.parametrize("signed", [False, True])
def test_between_layers(case: str, signed: bool) -> None:
    net, output = network(case, signed=signed)
    on_arm, on_x86 = (
        lowered(net.model(output), name).script() for name in ("arm-rpi5", "x86-znver4")
    )
    assert "uint8" not in on_arm and '"int8"' in on_arm
    assert "uint8" in on_x86


def test_what_a_network_is_given_stays_uint8() -> None:
    """It is made int8 before the first kernel that multiplies it."""
    net, output = network("1x1", signed=False)
    model = net.model(output)
    first = model.graph.node[0]
    assert first.op_type == "QuantizeLinear" and first.input[0] == "x"
    given = helper.make_tensor_value_info(first.output[0], TensorProto.UINT8, net.shape)
    del model.graph.input[:], model.graph.node[0]
    model.graph.input.append(given)
    mod = lowered(model, "arm-rpi5")
    (param,) = mod["main"].params
    assert param.ty.dtype == "uint8"
    kernels = [gvar.name_hint for gvar in mod.functions if "quantized_pointwise" in gvar.name_hint]
    (kernel,) = (mod[name] for name in kernels)
    assert str(kernel.params[0].dtype) == "int8"
