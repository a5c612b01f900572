"""PyTorch to ONNX for plain networks of convolutions, in a tenth of a second.

``torch.onnx.export`` traces a network three times and parses a library of 500 operators for it,
which takes seconds. Our own networks are chains of a few kinds of layers: ``torch.fx`` tells which,
and each is written here as that exporter writes it. Batch norm goes into the convolution before it,
and zeros around an image into the convolution's ``pads``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import fx, nn

if TYPE_CHECKING:
    import onnx

Array: TypeAlias = NDArray[np.float32]

RELU6 = {"min": 0.0, "max": 6.0}
PIXELS = (2, 3)  # the axes of height and width


class NotPlain(Exception):
    """A network with a part that is not written here."""


def write(
    module: nn.Module, input_name: str, input_shape: Sequence[int], opset: int
) -> onnx.ModelProto:
    """The ONNX model of ``module`` for one static float32 input of ``input_shape`` (N, C, H, W).

    Outputs are called ``output`` or, where there are several, ``output0``, ``output1``, …  Raises
    NotPlain for anything but convolutions with batch norm, ReLU or ReLU6, zero padding, a mean over
    the pixels and linear layers, in eval mode.
    """
    if module.training:
        raise NotPlain("in training mode")
    try:
        graph = fx.symbolic_trace(module).graph
    except Exception as error:  # whatever a forward function meets that reads values
        raise NotPlain(f"cannot be traced: {error}") from error
    return _Writer(module, input_name).write(graph, tuple(input_shape), opset)


class _Writer:
    """Reads a graph's nodes in order, and keeps which ONNX value each one is."""

    def __init__(self, module: nn.Module, input_name: str) -> None:
        self.modules = dict(module.named_modules())
        self.input_name = input_name
        self.names: dict[fx.Node, str] = {}
        self.paddings: dict[fx.Node, tuple[int, int, int, int]] = {}  # as ONNX's pads
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: dict[str, onnx.TensorProto] = {}
        self.layers: dict[type[nn.Module], Callable[..., None]] = {
            nn.Identity: self.identity,
            nn.ZeroPad2d: self.zero_pad,
            nn.Conv2d: self.convolution,
            nn.BatchNorm2d: self.batch_norm,
            nn.ReLU: self.relu,
            nn.ReLU6: self.relu6,
            nn.Linear: self.linear,
        }

    def write(self, graph: fx.Graph, input_shape: tuple[int, ...], opset: int) -> onnx.ModelProto:
        from onnx import TensorProto, helper, shape_inference

        result: tuple[fx.Node, ...] = ()
        for node in graph.nodes:
            if node.op == "placeholder":
                if self.names:
                    raise NotPlain("more than one input")
                self.names[node] = self.input_name
            elif node.op == "call_module":
                layer = self.modules[node.target]
                if type(layer) not in self.layers:
                    raise NotPlain(f"a {type(layer).__name__}")
                self.layers[type(layer)](node, layer)
            elif node.op == "call_method" and node.target == "mean":
                self.mean(node)
            elif node.op == "output":
                (value,) = node.args
                result = tuple(value) if isinstance(value, tuple | list) else (value,)
                if not all(isinstance(one, fx.Node) for one in result):
                    raise NotPlain("an output that is no tensor")
            else:
                raise NotPlain(f"{node.op} of {node.target}")
        names = ["output"] if len(result) == 1 else [f"output{i}" for i in range(len(result))]
        values = [self.value(one) for one in result]
        if len(set(values)) < len(values) or self.input_name in values:
            raise NotPlain("an output that is given out twice, or is the input")
        self.rename(dict(zip(values, names, strict=True)))
        image = helper.make_tensor_value_info(self.input_name, TensorProto.FLOAT, input_shape)
        outputs = [helper.make_tensor_value_info(one, TensorProto.FLOAT, None) for one in names]
        made = helper.make_graph(
            self.nodes, "main_graph", [image], outputs, list(self.initializers.values())
        )
        opsets = [helper.make_opsetid("", opset)]
        model = helper.make_model(made, opset_imports=opsets, producer_name="tvm-mobilenet")
        model.ir_version = helper.find_min_ir_version_for(opsets)
        return shape_inference.infer_shapes(model, strict_mode=True)

    def rename(self, names: dict[str, str]) -> None:
        """Give values of the graph other names."""
        for node in self.nodes:
            for values in (node.input, node.output):
                values[:] = [names.get(value, value) for value in values]

    # --- layers -------------------------------------------------------------------------------

    def identity(self, node: fx.Node, _layer: nn.Identity) -> None:
        self.names[node] = self.value(source_of(node))

    def zero_pad(self, node: fx.Node, layer: nn.ZeroPad2d) -> None:
        """Kept for the convolution that alone reads it."""
        left, right, top, bottom = layer.padding
        self.paddings[node] = (top, left, bottom, right)

    def convolution(self, node: fx.Node, layer: nn.Conv2d) -> None:
        if layer.padding_mode != "zeros" or isinstance(layer.padding, str):
            raise NotPlain("a convolution with other padding than zeros")
        source = source_of(node)
        top, left, bottom, right = self.paddings.get(source, (0, 0, 0, 0))
        if source in self.paddings:
            source = source_of(source)
        high, wide = layer.padding
        if f"{node.target}.weight" in self.initializers:
            raise NotPlain("a layer that is called twice")
        bias = np.zeros(layer.out_channels, np.float32) if layer.bias is None else layer.bias
        self.add(
            node,
            "Conv",
            [
                self.value(source),
                self.constant(f"{node.target}.weight", layer.weight),
                self.constant(f"{node.target}.bias", bias),
            ],
            auto_pad="NOTSET",
            dilations=list(layer.dilation),
            group=layer.groups,
            kernel_shape=list(layer.kernel_size),
            pads=[top + high, left + wide, bottom + high, right + wide],
            strides=list(layer.stride),
        )

    def batch_norm(self, node: fx.Node, layer: nn.BatchNorm2d) -> None:
        """Put into the convolution before, as onnxscript's FuseBatchNormIntoConv does."""
        from onnx import numpy_helper

        source = source_of(node)
        before = self.modules.get(str(source.target)) if source.op == "call_module" else None
        if not isinstance(before, nn.Conv2d) or len(source.users) > 1 or not layer.affine:
            raise NotPlain("a batch norm that is not a convolution's own")
        (written,) = (one for one in self.nodes if one.output[0] == self.value(source))
        weight, bias = written.input[1:]
        gamma, beta, mean, variance = map(
            _array, (layer.weight, layer.bias, layer.running_mean, layer.running_var)
        )
        scale = gamma / np.sqrt(variance + np.float32(layer.eps))
        old = {one: numpy_helper.to_array(self.initializers[one]) for one in (weight, bias)}
        self.constant(weight, old[weight] * scale.reshape(-1, 1, 1, 1))
        self.constant(bias, (old[bias] - mean) * scale + beta)
        self.names[node] = self.value(source)

    def relu(self, node: fx.Node, _layer: nn.ReLU) -> None:
        self.add(node, "Relu", [self.value(source_of(node))])

    def relu6(self, node: fx.Node, _layer: nn.ReLU6) -> None:
        bounds = [self.constant(f"relu6.{name}", np.float32(x)) for name, x in RELU6.items()]
        self.add(node, "Clip", [self.value(source_of(node)), *bounds])

    def mean(self, node: fx.Node) -> None:
        """Over height and width, which do not stay as axes of size 1."""
        if node.kwargs != {"dim": PIXELS}:
            raise NotPlain("a mean that is not over the pixels")
        axes = self.constant("pixels", np.array(PIXELS, np.int64))
        inputs = [self.value(source_of(node)), axes]
        self.add(node, "ReduceMean", inputs, keepdims=0, noop_with_empty_axes=0)

    def linear(self, node: fx.Node, layer: nn.Linear) -> None:
        if layer.bias is None:
            raise NotPlain("a linear layer without a bias")
        weights = [
            self.constant(f"{node.target}.{name}", value)
            for name, value in (("weight", layer.weight), ("bias", layer.bias))
        ]
        inputs = [self.value(source_of(node)), *weights]
        self.add(node, "Gemm", inputs, alpha=1.0, beta=1.0, transA=0, transB=1)

    # --- the graph ----------------------------------------------------------------------------

    def value(self, node: fx.Node) -> str:
        """The name of a node's value. Raises NotPlain for a padded image, which is none."""
        if node not in self.names:
            raise NotPlain("padding that is not a convolution's own")
        return self.names[node]

    def add(self, node: fx.Node, operator: str, inputs: list[str], **attributes: Any) -> None:
        from onnx import helper

        name = str(node.name)
        self.nodes.append(helper.make_node(operator, inputs, [name], name, **attributes))
        self.names[node] = name

    def constant(self, name: str, value: Any) -> str:
        from onnx import numpy_helper

        self.initializers[name] = numpy_helper.from_array(_array(value), name)
        return name


def source_of(node: fx.Node) -> fx.Node:
    """What a layer reads."""
    source = node.args[0]
    if len(node.args) != 1 or not isinstance(source, fx.Node):
        raise NotPlain("a layer with other inputs than one tensor")
    return source


def _array(value: Any) -> Array:
    array: Array = np.asarray(value.detach().numpy() if isinstance(value, torch.Tensor) else value)
    return array
