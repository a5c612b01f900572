"""The `compile` stage: a network, a target and its records → a bundle, checked by running it."""

from __future__ import annotations

import argparse
import contextlib
import platform
import shutil
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from tvm_mobilenet import cli
from tvm_mobilenet.compiler.build import EXECUTORS, check_executor
from tvm_mobilenet.errors import RunFailed

if TYPE_CHECKING:
    from tvm_mobilenet import models
    from tvm_mobilenet.bundle import Layer, Manifest
    from tvm_mobilenet.compiler.build import Compiled
    from tvm_mobilenet.compiler.memory_plan import KernelCall
    from tvm_mobilenet.database.lines import RecordInfo
    from tvm_mobilenet.database.store import Records
    from tvm_mobilenet.hardware.target import TargetSpec
    from tvm_mobilenet.network.source import Array, Source

TABLE_WIDTH = 100


@dataclass(frozen=True)
class Built:
    """A finished bundle; `difference` is its relative error here, None where it cannot run here."""

    path: Path
    manifest: Manifest
    difference: float | None


def main(argv: Sequence[str] | None = None) -> int:
    """Run the stage; returns its exit status."""
    parser = cli.make_parser(
        "compile", "Compile a network into a bundle that runs without TVM's compiler."
    )
    cli.add_target_flag(parser)
    cli.add_model_flags(parser)
    cli.add_strassen_flag(parser)
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
    cli.add_precision_flags(parser)
    parser.add_argument(
        "-o", "--output", type=Path, metavar="BUNDLE", help="a folder, or a .tar (default: by name)"
    )
    parser.add_argument(
        "--dump-ir", type=Path, metavar="DIR", help="write the module after every phase here"
    )
    return cli.run_stage(_compile, cli.parse(parser, argv))


def _compile(args: argparse.Namespace) -> int:
    from tvm_mobilenet.bundle import check_writable
    from tvm_mobilenet.compiler import precision
    from tvm_mobilenet.database.location import open_records
    from tvm_mobilenet.hardware import target
    from tvm_mobilenet.network import source

    spec = target.resolve(args.target)
    chosen = precision.from_flags(args, spec)
    check_executor(args.executor, spec)
    output = args.output or Path(default_name(args, spec, chosen))
    check_writable(output)
    records = open_records(spec, args.tuning_records)
    network = source.from_flags(args)
    if args.on_untuned == "error":
        refuse_untuned(network, spec, records, args.strassen, chosen)
    built = build_bundle(
        network, spec, output, records, args.dump_ir, args.strassen, chosen, args.executor
    )
    print_layers(built)
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
        else f"agrees with its reference to {built.difference:.1e}"
    )
    print(f"{output}: {network.title} for {spec.name}, {checked}")
    return 0


def compile_bundle(
    target: str,
    config: models.MobileNetConfig,
    batch: int,
    output: Path,
    records: Path | None = None,
    precision: str = "fp32",
) -> Path:
    """Compile one of our models for `target` into `output`, with the records of folder `records`.

    None means what `tune` left and what ships, as `database.location` says. Raises BadInput and
    RunFailed.
    """
    from tvm_mobilenet.database.location import open_records
    from tvm_mobilenet.hardware import target as targets
    from tvm_mobilenet.network import source

    spec = targets.resolve(target)
    network = source.from_config(config, batch)
    opened = open_records(spec, records)
    return build_bundle(network, spec, output, opened, precision=precision).path


def build_bundle(
    source: Source,
    spec: TargetSpec,
    output: Path,
    records: Records | None = None,
    dump_ir: Path | None = None,
    strassen: bool = True,
    precision: str = "fp32",
    executor: str = "static",
) -> Built:
    """Compile `source` for `spec` into the bundle `output`.

    Raises BadInput for a path or network that cannot be used and RunFailed where the compiled
    network does not agree with its reference: then no bundle is left behind.
    """
    import numpy as np

    from tvm_mobilenet import bundle
    from tvm_mobilenet.compiler.build import build_network, link
    from tvm_mobilenet.compiler.precision import TOLERANCES

    bundle.check_writable(output)
    compiled = build_network(
        source.relax_module(), spec, records, dump_ir, strassen, precision, executor
    )
    sample = source.sample_input()
    expected = source.reference(sample)
    with tempfile.TemporaryDirectory(prefix="tvm-mobilenet-") as folder:
        library = Path(folder, bundle.LIBRARY)
        link(compiled.module, library, spec)
        manifest = bundle.write(
            output,
            describe(source, spec, compiled, sample, expected, precision, executor),
            library=library,
            parameters=np.frombuffer(compiled.program.parameters, np.uint8),
            sample_input=sample,
            expected_outputs=expected,
            tolerance=TOLERANCES[precision],
            licenses=licenses(),
        )
    return Built(output, manifest, check(output, spec))


def describe(
    source: Source,
    spec: TargetSpec,
    compiled: Compiled,
    sample: Array,
    expected: Sequence[Array],
    precision: str = "fp32",
    executor: str = "static",
) -> Manifest:
    """The manifest, but for what only writing the files tells."""
    import tvm

    from tvm_mobilenet import bundle

    image = bundle.Normalisation(
        scale=1 / 255, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)
    )
    names = ["output"] if len(expected) == 1 else [f"output{i}" for i in range(len(expected))]
    return bundle.Manifest(
        target=bundle.Target(spec.name, spec.triple, spec.gpu.arch if spec.gpu else None),
        cpu_features=spec.cpu_features,
        tvm_version=tvm.__version__,
        model=source.model,
        inputs=(bundle.TensorInfo("input", sample.shape, "float32", "NCHW", image),),
        outputs=tuple(
            bundle.TensorInfo(name, array.shape, "float32", "NCHW"[: array.ndim])
            for name, array in zip(names, expected, strict=True)
        ),
        precision=precision,
        executor="cuda" if spec.gpu else executor,
        workspace_bytes=max(compiled.program.workspace_bytes, 1),
        layers=tuple(layers(compiled.program.calls, compiled.tuned)),
    )


def layers(calls: Iterable[KernelCall], tuned: dict[str, RecordInfo]) -> Iterable[Layer]:
    """One entry for each kernel call: its place in the network, its kernel, its record."""
    from tvm_mobilenet.bundle import Layer

    for index, call in enumerate(calls):
        layer = Layer(f"{index:02d}", call.kernel, False, flops=call.flops, nbytes=call.nbytes)
        record = tuned.get(call.kernel)
        if record is not None:
            layer = replace(
                layer,
                tuned=True,
                latency_us=record.latency_us,
                how=record.how,
                date=record.date,
            )
        yield layer


def check(path: Path, spec: TargetSpec) -> float | None:
    """Run the bundle on its sample where this host can; its relative difference from the reference.

    Raises RunFailed where it is above the tolerance, and removes the bundle.
    """
    from tvm_mobilenet.hardware import cpu, gpu
    from tvm_mobilenet.run import load, relative_difference

    same_architecture = cpu.architecture_of(spec.triple) == platform.machine()
    if not same_architecture or spec.missing_features(cpu.host_features()):
        return None
    if spec.gpu is not None and not gpu.runs(spec.gpu.arch):
        return None
    with load(path) as session:
        result = session.run(session.bundle.sample_input())
        results = result if isinstance(result, tuple) else (result,)
        expected = session.bundle.expected_outputs()
        difference = max(relative_difference(a, b) for a, b in zip(results, expected, strict=True))
        tolerance = session.bundle.tolerance()
    if not difference <= tolerance:
        with contextlib.suppress(OSError):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        raise RunFailed(
            f"the compiled network differs from its reference by {difference:.1e}, "
            f"{tolerance:.0e} allowed; no bundle was kept"
        )
    return difference


def licenses() -> str:
    """What the bundle's code is licensed under."""
    return (
        "model.so: generated by tvm-mobilenet (Apache License 2.0) with Apache TVM "
        "(Apache License 2.0, https://www.apache.org/licenses/LICENSE-2.0).\n"
        "parameters.bin: the network's weights, under the license of whoever trained them; "
        "random weights are under none.\n"
    )


def refuse_untuned(
    network: Source,
    spec: TargetSpec,
    records: Records | None,
    strassen: bool = True,
    precision: str = "fp32",
) -> None:
    """Raise RunFailed, naming the kernels, where some kernel has no record."""
    from tvm_mobilenet.compiler import pipeline
    from tvm_mobilenet.compiler.graph import legalization

    lowered = pipeline.lower_graph(
        network.relax_module(),
        spec.vector_width,
        pipeline.rules_of(spec.tvm_target(), strassen),
        legalization=legalization.for_target(spec, precision),
    )
    missing = [
        kernel.name
        for kernel in pipeline.extract_kernels(lowered)
        if records is None or records.schedule_for(kernel.func)[0] is None
    ]
    if missing:
        raise RunFailed(
            f"no record for {len(missing)} kernels on {spec.name}: {', '.join(missing)}; "
            "run 'tune' for them, or drop --on-untuned error"
        )


def default_name(args: argparse.Namespace, spec: TargetSpec, precision: str) -> str:
    """mobilenet_v1-1.0-224-<target>, or the ONNX file's name."""
    if args.onnx is not None:
        return f"{args.onnx.stem}-{spec.name}"
    batch = "" if args.batch == 1 else f"-b{args.batch}"
    suffix = "" if precision == "fp32" else f"-{precision}"
    return f"{args.model}-{args.alpha:g}-{args.resolution}{batch}{suffix}-{spec.name}"


def print_layers(built: Built) -> None:
    """A table: every kernel call, tuned or default, and the record's time."""
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for heading in ("layer", "kernel", "schedule", "recorded µs", "measured"):
        right = heading.endswith("µs")
        table.add_column(heading, justify="right" if right else "left", no_wrap=True)
    for layer in built.manifest.layers:
        latency = "" if layer.latency_us is None else f"{layer.latency_us:.1f}"
        day = layer.date.partition("T")[0] if layer.date else None
        how = " ".join(part for part in (layer.how, day) if part)
        table.add_row(
            layer.name, layer.workload, "tuned" if layer.tuned else "default", latency, how
        )
    console = Console()
    console.width = max(console.width, TABLE_WIDTH)  # a cut-off kernel name says nothing
    console.print(table)


if __name__ == "__main__":
    sys.exit(main())
