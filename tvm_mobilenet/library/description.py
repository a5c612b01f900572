"""What a library says of its network, as C: the constants and the tables behind ``info``."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tvm_mobilenet.bundle.manifest import Manifest, TensorInfo
from tvm_mobilenet.bundle.meaning import DTYPES
from tvm_mobilenet.kernels.arithmetic import Arithmetic, dot_products_of, probe_of
from tvm_mobilenet.library.cpu_bits import bits_of
from tvm_mobilenet.library.weights_hash import weights_hash

NATIVE = Path(__file__).resolve().parent / "native"
ALIGNMENT = 64
CONTEXT_BYTES, MOST_TENSORS = 1024, 64  # native/internal.h has the same numbers
# where in header.h a GPU's differs
NEEDS_OF_A_CPU = "It needs the C library and POSIX threads, and nothing else. In short:"
NEEDS_OF_A_GPU = """\
It runs on the first GPU that CUDA_VISIBLE_DEVICES leaves, and needs the C library and NVIDIA's
   driver, which is looked up when a context is made. Weights and activations lie on the GPU, each
   context's its own; the workspace holds the context alone; no threads are used. In short:"""
MEASURING, END_OF_NAMES = "/* For measuring.", "#ifdef __cplusplus"
DTYPE_NAMES = {name: f"TMN_{name.upper()}" for name in DTYPES}


@dataclass(frozen=True)
class Network:
    """A compiled network, as its library has to know it.

    ``plan_bytes`` is the workspace that the kernels were planned for, ``scratch_bytes`` what one
    thread's kernels allocate beside that, ``most_threads`` how many threads share work by stealing.
    """

    manifest: Manifest
    weights: bytes
    scratch_bytes: int
    most_threads: int

    @property
    def name(self) -> str:
        return self.manifest.name

    @property
    def gpu(self) -> bool:
        """Whether it runs on one, where plan and scratch lie too."""
        return self.manifest.target.gpu_arch is not None

    @property
    def plan_bytes(self) -> int:
        return 0 if self.gpu else self.manifest.workspace_bytes

    @property
    def tensors(self) -> tuple[TensorInfo, ...]:
        return (*self.manifest.inputs, *self.manifest.outputs)

    @property
    def workspace_bytes(self) -> int:
        """For one thread: the plan, the context, its own inputs and outputs, and scratch.

        Of a GPU's the context alone: the rest lies in memory that the driver gives.
        """
        if self.gpu:
            return CONTEXT_BYTES
        sizes = [self.plan_bytes, *map(nbytes, self.tensors), self.scratch_bytes]
        return CONTEXT_BYTES + sum(-(-size // ALIGNMENT) * ALIGNMENT for size in sizes)

    @property
    def dot_products(self) -> tuple[Arithmetic, ...]:
        """What its kernels multiply but by FMAs, whose peaks the library can measure."""
        return dot_products_of(layer.workload for layer in self.manifest.layers)

    @property
    def signature(self) -> int:
        """Of the inputs and outputs, in 64 bits: what a caller was compiled to pass."""
        manifest = self.manifest
        form = [manifest.name] + [
            [(one.name, one.shape, one.dtype, one.layout) for one in tensors]
            for tensors in (manifest.inputs, manifest.outputs)
        ]
        digest = hashlib.sha256(json.dumps(form).encode()).digest()
        return int.from_bytes(digest[:8], "big")


def header_text(network: Network) -> str:
    """NAME.h."""
    manifest = network.manifest
    values = {
        "PEAKS": "".join(map(peak_line, network.dot_products)),
        "NAME": network.name,
        "UPPER": network.name.upper(),
        "GUARD": f"TMN_{network.name.upper()}_H",
        "TARGET": comment(manifest.target.name),
        "IO": "\n".join(map(tensor_line, network.tensors)),
        "SIGNATURE": f"0x{network.signature:016x}",
        "WEIGHTS_BYTES": str(len(network.weights)),
        "WORKSPACE_BYTES": str(network.workspace_bytes),
        "TYPES": (NATIVE / "types.h").read_text(encoding="utf-8").rstrip(),
    }
    text = (NATIVE / "header.h").read_text(encoding="utf-8")
    if network.gpu:
        before, _, rest = text.partition(MEASURING)
        text = before + rest[rest.index(END_OF_NAMES) :]
        text = text.replace(NEEDS_OF_A_CPU, NEEDS_OF_A_GPU)
    for key, value in values.items():
        text = text.replace(f"@{key}@", value)
    return text


def peak_line(arithmetic: Arithmetic) -> str:
    """The probe of a kind of dot products, declared with the network's name left open."""
    return f"void @NAME@_{probe_of(arithmetic)}(float *scratch); /* dot products */\n"


def comment(text: str) -> str:
    """Text that ends no comment."""
    return text.replace("*/", "* /").replace("/*", "/ *").replace("\n", " ")


def tensor_line(tensor: TensorInfo) -> str:
    shape = " x ".join(map(str, tensor.shape))
    return comment(f"   {tensor.name}: {tensor.dtype}, {shape} ({tensor.layout})")


def description_text(network: Network) -> str:
    """The C source of ``tmn_this_network``.

    Weights that it holds are taken from parameters.bin in the folder that it is compiled in.
    """
    manifest = network.manifest
    embed = manifest.embedded_weights
    bits = bits_of(manifest.cpu_features, manifest.target.triple)
    features = [f'    {{"{one.name}", {one.word}, {one.bit}, {one.state}}},' for one in bits]
    lines = [
        "/* Generated: what the library knows of its network. */",
        '#include "internal.h"',
        "",
        *(EMBEDDED if embed else ()),
        "static const char *const cpu_features[] = {",
        *(f"    {text(name)}," for name in manifest.cpu_features),
        "    NULL,",
        "};",
        "static const tmn_feature features[] = {",
        *features,
        "    {NULL, 0, 0, 0},",
        "};",
    ]
    for index, tensor in enumerate(network.tensors):
        lines += tensor_tables(tensor, f"t{index}")
    inputs, outputs = len(manifest.inputs), len(manifest.outputs)
    lines += ["static const tmn_tensor tensors[] = {"]
    lines += [f"    {tensor_entry(t, f't{i}')}," for i, t in enumerate(network.tensors)]
    lines += ["};", "", *(() if network.gpu else call_of_network(inputs, outputs)), ""]
    lines += [
        "const tmn_network tmn_this_network = {",
        "    .info = {",
        "        .version = TMN_VERSION,",
        f"        .signature = UINT64_C(0x{network.signature:016x}),",
        f"        .name = {text(network.name)},",
        f"        .target = {text(manifest.target.name)},",
        f"        .triple = {text(manifest.target.triple)},",
        f"        .input_count = {inputs},",
        f"        .output_count = {outputs},",
        "        .inputs = tensors,",
        f"        .outputs = tensors + {inputs},",
        "        .cpu_features = cpu_features,",
        f"        .weights_bytes = {len(network.weights)},",
        f"        .weights_hash = UINT64_C(0x{weights_hash(network.weights):016x}),",
        f"        .weights_embedded = {int(embed)},",
        f"        .workspace_bytes = {network.workspace_bytes},",
        f"        .alignment = {ALIGNMENT},",
        f"        .most_threads = {network.most_threads},",
        f"        .kernel_count = {len(manifest.layers)},",
        "    },",
        "    .features = features,",
        f"    .weights = {'tmn_embedded' if embed else 'NULL'},",
        f"    .plan_bytes = {network.plan_bytes},",
        f"    .scratch_bytes = {network.scratch_bytes},",
        f"    .run = {'NULL' if network.gpu else 'run'},",
        "};",
        "",
    ]
    return "\n".join(lines)


EMBEDDED = (
    "#ifdef __APPLE__",
    '#define TMN_SECTION ".section __TEXT,__const"',
    '#define TMN_SYMBOL "_tmn_embedded"',
    '#define TMN_HIDE ".private_extern "',
    "#else",
    '#define TMN_SECTION ".section .rodata"',
    '#define TMN_SYMBOL "tmn_embedded"',
    '#define TMN_HIDE ".hidden "',
    "#endif",
    '__asm__(TMN_SECTION "\\n.balign 64\\n.globl " TMN_SYMBOL "\\n" TMN_HIDE TMN_SYMBOL "\\n"',
    '        TMN_SYMBOL ":\\n.incbin \\"parameters.bin\\"\\n.text\\n");',
    "extern const unsigned char tmn_embedded[] TMN_HIDDEN;",
    "",
)


def tensor_tables(tensor: TensorInfo, prefix: str) -> Iterable[str]:
    """The arrays that a tensor's entry points to."""
    yield f"static const int64_t {prefix}_shape[] = {{{', '.join(map(str, tensor.shape))}}};"
    pixels = tensor.normalisation
    if pixels is not None:
        for field in ("mean", "std"):
            values = ", ".join(number(value) for value in getattr(pixels, field))
            yield f"static const float {prefix}_{field}[] = {{{values}}};"
        yield (
            f"static const tmn_pixels {prefix}_pixels = {{{number(pixels.scale)}, "
            f"{len(pixels.mean)}, {prefix}_mean, {prefix}_std, "
            f"{int(tensor.channel_order == 'bgr')}}};"
        )
    if tensor.labels:
        yield f"static const char *const {prefix}_labels[] = {{"
        yield from (f"    {text(label)}," for label in tensor.labels)
        yield "};"


def tensor_entry(tensor: TensorInfo, prefix: str) -> str:
    pixels = f"&{prefix}_pixels" if tensor.normalisation is not None else "NULL"
    scores = "NULL" if tensor.scores is None else text(tensor.scores)
    labels = f"{prefix}_labels" if tensor.labels else "NULL"
    return (
        f"{{{text(tensor.name)}, {DTYPE_NAMES[tensor.dtype]}, {len(tensor.shape)}, {prefix}_shape, "
        f"{text(tensor.layout)}, {nbytes(tensor)}, 0, 0, {pixels}, {scores}, {labels}, "
        f"{len(tensor.labels)}}}"
    )


def call_of_network(inputs: int, outputs: int) -> list[str]:
    """From arrays of pointers to the arguments of the compiled function."""
    pointers = ["void *"] * inputs + ["const void *", "void *"] + ["void *"] * outputs
    arguments = [f"inputs[{i}]" for i in range(inputs)] + ["weights", "workspace"]
    arguments += [f"outputs[{i}]" for i in range(outputs)]
    return [
        f"extern int32_t tmn_kernel_network({', '.join(pointers)}, int64_t *, int32_t) TMN_HIDDEN;",
        "",
        "static int run(void *const *inputs, const void *weights, void *workspace,",
        "               void *const *outputs, int64_t *stamps, int32_t stamped) {",
        "    /* no stamps are written where there are none: any pointer will do */",
        "    int64_t *place = stamps ? stamps : (int64_t *)workspace;",
        f"    return tmn_kernel_network({', '.join(arguments)}, place, stamped);",
        "}",
    ]


def nbytes(tensor: TensorInfo) -> int:
    return math.prod(tensor.shape) * DTYPES[tensor.dtype]


def number(value: float) -> str:
    return f"{float(value)!r}f"


def text(value: str) -> str:
    """A C string literal."""
    escaped = "".join(
        chr(byte) if 32 <= byte < 127 and byte not in b'"\\?' else f"\\{byte:03o}"
        for byte in value.encode("utf-8")
    )
    return f'"{escaped}"'
