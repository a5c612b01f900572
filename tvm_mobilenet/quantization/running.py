"""ONNX Runtime over samples: any tensors of a network, one batch at a time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tvm_mobilenet import extras
from tvm_mobilenet.errors import BadInput, first_line
from tvm_mobilenet.network import onnx_export

if TYPE_CHECKING:
    import onnx

Array = NDArray[Any]


class Runner:
    """A network that gives out the tensors ``names`` instead of its own outputs.

    ``optimized`` is for float networks alone: a quantized one means what its nodes say one by one.
    Raises BadInput where ONNX Runtime is not installed or does not take the network.
    """

    def __init__(
        self, model: onnx.ModelProto, names: Sequence[str], *, optimized: bool = False
    ) -> None:
        extras.require_module("onnxruntime", "quantize")
        self.names = list(names)
        try:
            self.session = onnx_export.open_session(
                giving_out(model, self.names), optimized=optimized
            )
        except Exception as error:  # ONNX Runtime's errors have no base of their own
            raise BadInput(f"ONNX Runtime does not load the network: {first_line(error)}") from None
        self.inputs = [one.name for one in self.session.get_inputs()]
        self.made = [name for name in self.names if name not in self.inputs]

    def run(self, *inputs: Array) -> list[Array]:
        """The tensors, in the order of their names, for inputs in the order of the network's."""
        values = dict(zip(self.inputs, inputs, strict=True))
        made = self.session.run(self.made, values) if self.made else []
        values.update(zip(self.made, made, strict=True))
        return [np.asarray(values[name]) for name in self.names]

    def over(self, batches: Iterable[Sequence[Array]]) -> Iterable[list[Array]]:
        for batch in batches:
            yield self.run(*batch)


def giving_out(model: onnx.ModelProto, names: Iterable[str]) -> onnx.ModelProto:
    """The network with these tensors as its outputs, of whatever type and shape they are."""
    from onnx import helper

    changed = type(model)()
    changed.CopyFrom(model)
    given = {one.name for one in model.graph.input}
    del changed.graph.output[:]
    for name in dict.fromkeys(names):
        if name not in given:
            changed.graph.output.append(helper.make_empty_tensor_value_info(name))
    return changed
