"""The command ``inspect``: what a bundle holds, without running anything of it."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tvm_mobilenet import cli
from tvm_mobilenet.kernels.arithmetic import Arithmetic, arithmetic_of

if TYPE_CHECKING:
    from tvm_mobilenet.bundle import Bundle, Layer, Manifest, TensorInfo


# what a layer computes in, where a network has several: all but dot products is float32
PRECISIONS: dict[Arithmetic, str] = {
    "bytes": "int8",
    "bytes_tiles": "int8",
    "bf16": "bf16",
    "bf16_tiles": "bf16",
    "fp16": "fp16",
    "fma": "fp32",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    parser = cli.make_parser(
        "inspect", "Print what a bundle holds, for any machine, after checking its files."
    )
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="a folder or a .tar")
    cli.add_verify_flag(parser)
    return cli.run_command(_inspect, cli.parse(parser, argv))


def _inspect(args: argparse.Namespace) -> int:
    from tvm_mobilenet.bundle import ANY_ARCHITECTURE, open_bundle

    with open_bundle(args.bundle, ANY_ARCHITECTURE, verify_key=args.verify_key) as bundle:
        print("\n".join(lines(bundle, args.verify_key)))
    return 0


def lines(bundle: Bundle, signed_by: Path | None = None) -> Iterator[str]:
    """All that is printed: the network, its memory, its files, its layers.

    ``signed_by`` is the key that its signature was checked with.
    """
    manifest = bundle.manifest
    target = manifest.target
    known = ", ".join(f"{key} {value}" for key, value in manifest.model.items())
    yield f"{'network':12} {known}; weights {manifest.weights}"
    yield f"{'target':12} {target.name} ({target.gpu_arch or target.triple})"
    yield f"{'needs':12} {' '.join(manifest.cpu_features) or 'no CPU features of its own'}"
    yield f"{'made':12} {manifest.created}, by TVM {manifest.tvm_version}"
    unchecked = "not checked: no --verify-key" if bundle.signed else "none"
    yield f"{'signature':12} {unchecked if signed_by is None else f'right, by {signed_by}'}"
    how = f"{manifest.executor}, {manifest.precision}"
    if manifest.executor == "static":
        how += f"; C library {manifest.name}"
    yield f"{'executor':12} {how}"
    if manifest.quantization is not None:
        yield f"{'quantized':12} {manifest.quantization}"
    for tensor in (*manifest.inputs, *manifest.outputs):
        yield f"{tensor.name:12} {describe(tensor)}"
    yield from memory(bundle, manifest)
    yield f"{'layers':12} {layers_line(manifest)}"
    yield from map(layer_line, manifest.layers)


def describe(tensor: TensorInfo) -> str:
    """An input or output in one line."""
    shape = "x".join(map(str, tensor.shape))
    facts = [f"{tensor.dtype} {shape} ({tensor.layout})"]
    if tensor.normalisation is not None:
        pixels = tensor.normalisation
        order = tensor.channel_order or "rgb"
        facts.append(f"{order} (pixel * {pixels.scale:.6g} - {pixels.mean}) / {pixels.std}")
    if tensor.scores is not None:
        facts.append(tensor.scores)
    if tensor.labels:
        facts.append(f"{len(tensor.labels)} labels")
    return ", ".join(facts)


def memory(bundle: Bundle, manifest: Manifest) -> Iterator[str]:
    """What it takes at run time, and each file's size and hash."""
    where = "in the library" if manifest.embedded_weights else "in parameters.bin"
    once = ", each stored once" if manifest.small_weights else ""
    yield f"{'weights':12} {manifest.parameters_bytes:,} bytes {where}{once}"
    yield f"{'workspace':12} {manifest.workspace_bytes:,} bytes"
    for name, digest in manifest.files.items():
        size = (bundle.folder / name).stat().st_size
        yield f"{'file':12} {digest[:12]} {size:>12,} {name}"


def layers_line(manifest: Manifest) -> str:
    """How many there are, how many of them are tuned, and of several precisions in which."""
    counts = Counter(PRECISIONS[arithmetic_of(one.workload)] for one in manifest.layers)
    text = f"{len(manifest.layers)}, {sum(one.tuned for one in manifest.layers)} tuned"
    if len(counts) > 1:
        known = [name for name in dict.fromkeys(PRECISIONS.values()) if name in counts]
        text += "; " + ", ".join(f"{counts[name]} in {name}" for name in known)
    return text


def layer_line(layer: Layer) -> str:
    """A kernel: what it computes, how much of it, and where its schedule is from."""
    if layer.tuned:
        where = f"{layer.how} {layer.date}, {layer.latency_us:.1f} us"
    else:
        where = "default" if layer.own else "by TVM"
    return f"  {layer.name:4} {layer.workload:40} {layer.flops:>12,} {layer.nbytes:>11,}  {where}"


if __name__ == "__main__":
    cli.leave(main())
