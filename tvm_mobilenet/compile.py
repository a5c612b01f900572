"""The command ``compile``: a network, a target and its records → a bundle, checked by a run."""

from __future__ import annotations

import argparse
import contextlib
import gc
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from tvm_mobilenet import cli, extras, network_flags
from tvm_mobilenet.compiler.options import EXECUTORS
from tvm_mobilenet.errors import BadInput

if TYPE_CHECKING:
    from tvm_mobilenet.compiler.options import CompileOptions
    from tvm_mobilenet.library.options import LibraryOptions
    from tvm_mobilenet.network.source import NetworkSpec
    from tvm_mobilenet.quantization.quantize import Quantized


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    return cli.run_command(_compile, cli.parse(make_parser(), argv))


def make_parser() -> argparse.ArgumentParser:
    """The flags of the command."""
    parser = cli.make_parser(
        "compile", "Compile a network into a bundle that runs without TVM's compiler."
    )
    cli.add_target_flag(parser)
    int8 = network_flags.add_network_flags(
        parser,
        "The bundle keeps it for 'run'. Without these flags the network's own: that of an ONNX "
        "file is not known.",
        labels="class names, one a line, for the bundle to keep",
    )
    int8.add_argument(
        "--quantized-onnx",
        type=Path,
        metavar="FILE",
        help="also write the quantized network here, as QDQ ONNX",
    )
    parser.add_argument(
        "--tuning-records",
        type=Path,
        metavar="DIR",
        help="the folder of records to use, or none for default schedules "
        "(default: what `tune` left in tuning_records/<target>, then what ships)",
    )
    parser.add_argument(
        "--on-untuned",
        choices=("error", "warn", "allow"),
        default="warn",
        help="what to do about kernels without a record, which get the default schedule",
    )
    parser.add_argument(
        "--executor",
        choices=EXECUTORS,
        default="static",
        help="on a CPU: one compiled function over planned memory, or Relax's virtual machine, "
        "which also runs operators that are no kernels (default: static)",
    )
    library = parser.add_argument_group("the C library that a CPU's bundle is")
    library.add_argument(
        "--name", help="what its functions and files are called (default: after the network)"
    )
    library.add_argument(
        "--embed-weights",
        action="store_true",
        help="put the weights into it, so that it needs no file beside it",
    )
    library.add_argument(
        "--static", action="store_true", help="also make lib/libNAME.a, to link into a program"
    )
    parser.add_argument(
        "-o", "--output", type=Path, metavar="BUNDLE", help="a folder, or a .tar (default: by name)"
    )
    parser.add_argument(
        "--sign",
        type=Path,
        metavar="KEY.pem",
        help="sign the bundle with this private key of Ed25519, for 'run --verify-key'",
    )
    parser.add_argument(
        "--dump-ir", type=Path, metavar="DIR", help="write the module after every phase here"
    )
    return parser


@contextlib.contextmanager
def without_collector() -> Iterator[None]:
    """Meanwhile Python does not search for garbage in cycles: a few MB of it here.

    Each search goes through all that importing TVM made, a twentieth of the time in all.
    """
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


@without_collector()
def _compile(args: argparse.Namespace) -> int:
    extras.require("compile")

    from tvm_mobilenet import files
    from tvm_mobilenet.building.bundles import TEMPORARY_BYTES, build_bundle
    from tvm_mobilenet.bundle import check_writable, sign, signing
    from tvm_mobilenet.compiler.dump import IrDump
    from tvm_mobilenet.database.lookup import open_records
    from tvm_mobilenet.hardware import target
    from tvm_mobilenet.hardware.toolchain import link_command
    from tvm_mobilenet.library.options import LibraryOptions
    from tvm_mobilenet.reporting.layers import outside_of_int8, print_layers
    from tvm_mobilenet.reporting.quantization import print_quantization

    if args.sign is not None:
        signing.signing_key(args.sign)  # what is wrong with it is said before anything is compiled
    spec = target.resolve(args.target)
    options = replace(
        network_flags.options_of(args, spec),
        executor=args.executor,
        require_records=args.on_untuned == "error",
    )
    package = LibraryOptions(args.name, args.embed_weights, args.static)
    check_package(package, options)
    network = network_flags.spec_of(args)
    preparation = network_flags.preparation_of(args, options)
    network.check()
    if args.quantized_onnx is not None and preparation.calibration is None:
        raise BadInput("--quantized-onnx is for --calibrate SAMPLES; add it")
    preparation.check(network)
    if args.quantized_onnx is not None:
        files.check_writable(args.quantized_onnx, "--quantized-onnx")
    if network.trained is not None:
        print(f"weights {network.trained.line}", file=sys.stderr)
    link_command(spec)  # a missing compiler is said before anything is compiled
    output = args.output or default_output(network, options)
    check_writable(output)
    files.check_temporary_room(TEMPORARY_BYTES)
    records = open_records(spec, args.tuning_records)
    dump = IrDump(args.dump_ir)
    source, quantized = preparation.prepare(network.open())
    if quantized is not None:
        print_quantization(quantized.report)
        if args.quantized_onnx is not None:
            save_quantized(quantized, args.quantized_onnx)
    built = build_bundle(source, options, output, records, dump, package)
    if args.sign is not None:
        sign(output, args.sign)
    print_layers(built.manifest)
    outside = outside_of_int8(built.manifest)
    if outside is not None:
        print(outside)
    untuned = [layer for layer in built.manifest.layers if not layer.tuned]
    if untuned and args.on_untuned == "warn":
        print(
            f"warning: {len(untuned)} of {len(built.manifest.layers)} layers have no record for "
            f"{spec.name} and got their default schedule; 'tune' makes records",
            file=sys.stderr,
        )
    checked = (
        f"not run here: made for another {'GPU' if spec.gpu else 'CPU'}"
        if built.difference is None
        else f"agrees with its reference to {built.difference} ({source.reference_name})"
    )
    print(f"{output}: {source.title} for {spec.name}, {checked}")
    return 0


def check_package(package: LibraryOptions, options: CompileOptions) -> None:
    """Raise BadInput for flags of a C library where the bundle is none."""
    from tvm_mobilenet.library.options import DEFAULT

    if package != DEFAULT and options.executor != "static":
        raise BadInput(
            "--name, --embed-weights and --static are for a C library; leave them out for "
            "--executor vm"
        )
    if options.spec.gpu is not None and (package.embed_weights or package.static):
        raise BadInput(
            "--embed-weights and --static are for the C library of a CPU's bundle; leave them out "
            "for a GPU"
        )


def save_quantized(quantized: Quantized, path: Path) -> None:
    """Write the QDQ network. Raises BadInput where that fails."""
    import onnx

    try:
        onnx.save_model(quantized.model, str(path))
    except OSError as error:
        raise BadInput(f"--quantized-onnx {path}: cannot be written: {error.strerror}") from error


def default_output(network: NetworkSpec, options: CompileOptions) -> Path:
    """mobilenet_v1-1-224-<target>, or the ONNX file's name with the target's."""
    precision = "" if options.precision == "fp32" else f"-{options.precision}"
    return Path(f"{network.stem}{precision}-{options.spec.name}")


if __name__ == "__main__":
    cli.leave(main())
