"""What goes into a network and what comes out: names, shapes, element types, order of dimensions.

Sizes that a file leaves open are fixed here, by ``--batch`` and ``--input-shape``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tvm_mobilenet.errors import BadInput

if TYPE_CHECKING:
    import onnx

# in ONNX, what bundle.meaning allows
TYPES = ("FLOAT", "FLOAT16", "INT64", "INT32", "INT8", "UINT8")
IMAGE_RANK = 4
NCHW, NHWC = "NCHW", "NHWC"
UNNAMED = ("", "?")  # what exporters call a size that has no name
TO_NCHW, TO_NHWC = (0, 3, 1, 2), (0, 2, 3, 1)
USUAL_SIZE = 224  # pixels, in the example of a message

# what a converter leaves between an image and the Transpose: the layout is as before it
POINTWISE = frozenset(("Add", "Cast", "Clip", "Div", "Identity", "Mul", "Sub"))


@dataclass(frozen=True)
class Sizes:
    """What the command line says of an ONNX network's open dimensions.

    ``batch`` is the first dimension of every input; ``shapes`` are whole shapes by input name.
    """

    batch: int | None = None
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class InputTensor:
    """An input: its name in the file, and its static shape in the order that ``layout`` names."""

    name: str
    shape: tuple[int, ...]
    dtype: str = "float32"
    layout: str = NCHW


def real_inputs(model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    """The inputs but for weights, which files of IR 3 list among them, before or after."""
    given = {initializer.name for initializer in model.graph.initializer}
    return [one for one in model.graph.input if one.name not in given]


def fix_sizes(model: onnx.ModelProto, sizes: Sizes) -> onnx.ModelProto:
    """A copy whose inputs have the shapes that ``sizes`` gives where the file leaves them open.

    What the file says of the shapes in between and of its outputs is dropped: it may be stale.
    Raises BadInput for a size that would be ignored or that contradicts the file.
    """
    fixed = type(model)()
    fixed.CopyFrom(model)
    inputs = {one.name: one for one in real_inputs(fixed)}
    unknown = [name for name in sizes.shapes if name not in inputs]
    if unknown:
        raise BadInput(
            f"--input-shape {unknown[0]}: the network has no input of that name; it has "
            f"{', '.join(inputs) or 'none'}"
        )
    symbols: dict[str, int] = {}
    for name, shape in sizes.shapes.items():
        _give_shape(inputs[name], shape, symbols)
    if sizes.batch is not None:
        _give_batch(list(inputs.values()), sizes.batch, symbols)
    for one in inputs.values():
        for dim in one.type.tensor_type.shape.dim:
            if dim.dim_param in symbols:
                dim.dim_value = symbols[dim.dim_param]
    forget_shapes(fixed)
    return fixed


def forget_shapes(model: onnx.ModelProto) -> None:
    """Drop what the file says of shapes that follow from the inputs'."""
    del model.graph.value_info[:]
    inputs = {one.name for one in model.graph.input}
    for output in model.graph.output:
        if output.name not in inputs:  # which a file may give out as they are
            output.type.tensor_type.ClearField("shape")


def _give_shape(value: onnx.ValueInfoProto, shape: Sequence[int], symbols: dict[str, int]) -> None:
    dims = value.type.tensor_type.shape.dim
    flag = f"--input-shape {value.name}={_text(shape)}"
    stated = _text(_sizes(value))
    if len(dims) != len(shape):
        raise BadInput(f"{flag}: the input's shape in the file is {stated}; give as many numbers")
    for dim, size in zip(dims, shape, strict=True):
        static = dim.dim_value > 0
        if static and dim.dim_value != size:
            raise BadInput(
                f"{flag}: the input's shape in the file is {stated}; only sizes that it leaves "
                "open can be given"
            )
        named = not static and dim.dim_param not in UNNAMED
        if named and symbols.setdefault(dim.dim_param, size) != size:
            raise BadInput(
                f"{flag}: {dim.dim_param} is one size in the file, and {symbols[dim.dim_param]} "
                "was given for it before"
            )
        dim.dim_value = size


def _give_batch(inputs: Sequence[onnx.ValueInfoProto], batch: int, symbols: dict[str, int]) -> None:
    """Fix the first dimension of every input that leaves it open, or has it so already."""
    firsts = [
        (one, one.type.tensor_type.shape.dim[0])
        for one in inputs
        if len(one.type.tensor_type.shape.dim) > 0
    ]
    images = [
        (one, dim) for one, dim in firsts if len(one.type.tensor_type.shape.dim) == IMAGE_RANK
    ]
    for one, dim in images:
        if dim.dim_value > 0 and dim.dim_value != batch:
            raise BadInput(
                f"--batch {batch}: input {one.name} has the fixed shape {_text(_sizes(one))}; "
                "export it with a dynamic batch, or drop --batch"
            )
    for _, dim in firsts:
        if dim.dim_value <= 0:
            if dim.dim_param not in UNNAMED:
                symbols[dim.dim_param] = batch
            dim.dim_value = batch


def inputs_of(model: onnx.ModelProto) -> tuple[InputTensor, ...]:
    """The network's inputs, in the order of the file.

    Raises BadInput for a type that no bundle holds, for anything but static shapes, one of them
    images, and for an input that nothing reads.
    """
    import onnx

    values = real_inputs(model)
    if not values:
        raise BadInput("ONNX model must have an input, it has none")
    allowed = {getattr(onnx.TensorProto, name): name for name in TYPES}
    readers = _readers(model)
    found = []
    for value in values:
        name, tensor = value.name, value.type.tensor_type
        if tensor.elem_type not in allowed:
            got = plain_type(onnx.TensorProto.DataType.Name(tensor.elem_type))
            raise BadInput(
                f"ONNX input {name}: expected {', '.join(map(plain_type, TYPES))}, got {got}; "
                "begin the network after it, or with a Cast from one of these"
            )
        shape = _static_shape(value)
        outputs = {output.name for output in model.graph.output}
        if name not in readers and name not in outputs:
            raise BadInput(f"ONNX input {name} is read by no node; take it out of the file")
        layout = _layout_of_input(name, readers) if len(shape) == IMAGE_RANK else NCHW
        dtype = plain_type(allowed[tensor.elem_type])
        found.append(InputTensor(name, shape, dtype, layout[: len(shape)]))
    if not any(len(one.shape) == IMAGE_RANK for one in found):
        raise BadInput(
            f"ONNX input {found[0].name}: expected images (N, C, H, W), got the shape "
            f"{_text(found[0].shape)}"
        )
    return tuple(found)


def output_layouts(model: onnx.ModelProto, ranks: Sequence[int]) -> tuple[str, ...]:
    """The order of each output's dimensions: NHWC behind a Transpose to that, else NCHW's first."""
    maker = {name: node for node in model.graph.node for name in node.output}
    return tuple(
        NHWC if rank == IMAGE_RANK and _ends_in_nhwc(output.name, maker) else NCHW[:rank]
        for output, rank in zip(model.graph.output, ranks, strict=True)
    )


def check_outputs(model: onnx.ModelProto) -> None:
    """Raise BadInput for an output of a type that no bundle holds."""
    import onnx

    allowed = {getattr(onnx.TensorProto, name) for name in TYPES}
    for output in model.graph.output:
        tensor = output.type.tensor_type
        if tensor.elem_type not in allowed:
            raise BadInput(
                f"ONNX output {output.name}: expected {', '.join(map(plain_type, TYPES))}, got "
                f"{plain_type(onnx.TensorProto.DataType.Name(tensor.elem_type))}; end the "
                "network before it, or add a Cast"
            )


def plain_type(name: str) -> str:
    """ONNX's name of a type as numpy's: float32 for FLOAT."""
    return {"FLOAT": "float32", "DOUBLE": "float64"}.get(name, name.lower())


def _static_shape(value: onnx.ValueInfoProto) -> tuple[int, ...]:
    tensor = value.type.tensor_type
    if not tensor.HasField("shape"):
        raise BadInput(f"ONNX input {value.name} has no shape; export the model with one")
    sizes = _sizes(value)
    static = tuple(size for size in sizes if isinstance(size, int))
    if len(static) < len(sizes):
        only_batch = len(static) == len(sizes) - 1 and not isinstance(sizes[0], int)
        example = (1, *(one if isinstance(one, int) else USUAL_SIZE for one in sizes[1:]))
        flag = "--batch 1" if only_batch else f"--input-shape {value.name}={_text(example)}"
        raise BadInput(
            f"ONNX input {value.name} has the dynamic shape {_text(sizes)}; fix it, as with {flag}"
        )
    return static


def _sizes(value: onnx.ValueInfoProto) -> list[int | str]:
    dims = value.type.tensor_type.shape.dim
    # some exporters write 0 or -1 for a size that is open
    return [dim.dim_value if dim.dim_value > 0 else dim.dim_param or "?" for dim in dims]


def _text(shape: Sequence[int | str]) -> str:
    return "x".join(map(str, shape))


def _readers(model: onnx.ModelProto) -> dict[str, list[onnx.NodeProto]]:
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in _all_nodes(model.graph.node):
        for name in node.input:
            readers.setdefault(name, []).append(node)
    return readers


def _all_nodes(nodes: Sequence[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    """Nodes, and those of the graphs within them."""
    for node in nodes:
        yield node
        for attribute in node.attribute:
            yield from _all_nodes(attribute.g.node)


def _layout_of_input(name: str, readers: Mapping[str, Sequence[onnx.NodeProto]]) -> str:
    """NHWC where all that is made of an image is its transpose to (N, C, H, W)."""
    while True:
        nodes = readers.get(name, ())
        if nodes and all(_is_transpose(node, TO_NCHW) for node in nodes):
            return NHWC
        if len(nodes) != 1 or nodes[0].op_type not in POINTWISE:
            return NCHW
        name = nodes[0].output[0]


def _ends_in_nhwc(name: str, maker: Mapping[str, onnx.NodeProto]) -> bool:
    node = maker.get(name)
    while node is not None and node.op_type == "Identity":
        node = maker.get(node.input[0])
    return node is not None and _is_transpose(node, TO_NHWC)


def _is_transpose(node: onnx.NodeProto, order: tuple[int, ...]) -> bool:
    perms = [tuple(one.ints) for one in node.attribute if one.name == "perm"]
    return node.op_type == "Transpose" and perms == [order]
