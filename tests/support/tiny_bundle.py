"""Bundles of a network of a few lines, to test what surrounds a network with."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tvm_mobilenet import bundle
from tvm_mobilenet.bundle.layout import shared_name
from tvm_mobilenet.bundle.manifest import from_json, to_json
from tvm_mobilenet.hardware import cpu, target
from tvm_mobilenet.hardware.toolchain import compile_c
from tvm_mobilenet.library.building import sources_of
from tvm_mobilenet.library.description import NATIVE, Network, description_text
from tvm_mobilenet.library.package import write_package

WEIGHTS = np.array([1, 2, 3], np.uint8)
TVM_VERSION = "0.27.0.post1"
INPUT_SHAPE = (1, 3, 4, 4)
HOST = target.resolve("x86" if cpu.host_architecture() == "x86_64" else "arm-graviton2")

# The compiled network in C: output[c] = weight[c] * sum over the channel. It goes through the
# workspace, and a last output, where there is one, is twice the input.
CLASSIFIER = """
#include <stdint.h>
int32_t tmn_kernel_network(const float *input, const uint8_t *parameters, uint8_t *workspace,
                           float *output, {more} int64_t *stamps, int32_t stamped) {{
    if (stamped) for (int i = 0; i < 3; i++) stamps[i] = 1000 * i;
    for (int c = 0; c < 3; c++) {{
        workspace[c] = parameters[c];
        output[c] = 0;
        for (int i = 0; i < 16; i++) output[c] += input[16 * c + i] * (float)workspace[c];
    }}
    {body}
    return 0;
}}
int32_t tmn_kernel_fma_peak(float *scratch) {{ return scratch[0] > 0; }}
int32_t tmn_kernel_stream_read(const float *rows, float *sums) {{ return rows == sums; }}
"""
SECOND_OUTPUT = "for (int i = 0; i < 48; i++) doubled[i] = 2 * input[i];"
SHARED = """\
typedef struct { void *unused; int32_t count; } group;
__attribute__((weak)) int (*__TVMBackendParallelLaunch)(int (*)(int, group *, void *), void *, int);
typedef struct {
    const float *input;
    const uint8_t *parameters;
    uint8_t *workspace;
    float *output;
} arguments;
static int share(int thread, group *threads, void *closure) {
    arguments *given = closure;
    for (int c = thread; c < 3; c += threads->count) {
        given->workspace[c] = given->parameters[c];
        given->output[c] = 0;
        for (int i = 0; i < 16; i++)
            given->output[c] += given->input[16 * c + i] * (float)given->workspace[c];
    }
    return 0;
}
int32_t tmn_kernel_network"""
# eight equal shares of some 10 ms of arithmetic each, with the classifier's signature
PARALLEL = """
#include <stdint.h>
typedef struct { void *unused; int32_t count; } group;
__attribute__((weak)) int (*__TVMBackendParallelLaunch)(int (*)(int, group *, void *), void *, int);
static int share(int thread, group *threads, void *closure) {
    const float *input = ((void **)closure)[0];
    float *output = ((void **)closure)[1];
    for (int c = thread; c < 8; c += threads->count) {
        volatile float value = input[0];
        for (int step = 0; step < 5000000; step++) value = value * 0.999f + 0.001f;
        output[c] = value;
    }
    return 0;
}
int32_t tmn_kernel_network(float *input, const uint8_t *parameters, uint8_t *workspace,
                           float *output, int64_t *stamps, int32_t stamped) {
    void *closure[] = {input, output};
    (void)parameters, (void)workspace, (void)stamps, (void)stamped;
    return __TVMBackendParallelLaunch(share, closure, 0);
}
int32_t tmn_kernel_fma_peak(float *scratch) { return scratch[0] > 0; }
int32_t tmn_kernel_stream_read(const float *rows, float *sums) { return rows == sums; }
"""

# one that runs until its input is cleared, and says in its output that it has begun: 2, and then 1
HELD = """
#include <stdint.h>
int32_t tmn_kernel_network(float *input, const uint8_t *parameters, uint8_t *workspace,
                           float *output, int64_t *stamps, int32_t stamped) {
    volatile float *given = input, *said = output;
    (void)parameters, (void)workspace, (void)stamps, (void)stamped;
    said[0] = 2;
    while (given[0] != 0) {}
    said[0] = 1;
    return 0;
}
int32_t tmn_kernel_fma_peak(float *scratch) { return scratch[0] > 0; }
int32_t tmn_kernel_stream_read(const float *rows, float *sums) { return rows == sums; }
"""


def classifier_source(*, more: str = "", body: str = "") -> str:
    return CLASSIFIER.format(more=more, body=body)


def parallel_classifier_source() -> str:
    """The classifier, whose threads share the sums."""
    return (
        CLASSIFIER.replace("{{", "{")
        .replace("}}", "}")
        .replace("{more}", "")
        .replace("{body}", "")
        .replace("int32_t tmn_kernel_network", SHARED, 1)
        .replace(
            "    for (int c = 0; c < 3; c++) {\n",
            "    arguments given = {input, parameters, workspace, output};\n"
            "    if (__TVMBackendParallelLaunch(share, &given, 0)) return -1;\n"
            "    for (int c = 0; c < 0; c++) {\n",
        )
    )


def compiled(source: str, about: bundle.Manifest | None = None) -> bytes:
    """The library of a network in C, for this machine; ``about`` describes it."""
    about = about or manifest()
    return package(source, about)[shared_name(about.name)]


def package(source: str, about: bundle.Manifest) -> dict[str, bytes]:
    """All files of a network's C library, by their place in a bundle."""
    return dict(kept_package(source, to_json(about)))


@functools.cache
def kept_package(source: str, about: str) -> dict[str, bytes]:
    network = network_of(from_json(about))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "kernels.c").write_text(source)
        compile_c(folder / "kernels.c", folder / "kernels.o", "gcc", ["-c", "-fPIC"])
        objects = [folder / "kernels.o"]
        return write_package(network, objects, folder / "model.so", HOST, static=False)


def network_of(about: bundle.Manifest) -> Network:
    return Network(about, WEIGHTS.tobytes(), scratch_bytes=0, most_threads=4)


def unpack_sources(source: str, about: bundle.Manifest, folder: Path) -> None:
    """The C that a library is made of: the network's, the runtime's, the description."""
    network = network_of(about)
    for file in (*map(NATIVE.joinpath, sources_of(network)), *NATIVE.glob("*.h")):
        (folder / file.name).write_bytes(file.read_bytes())
    (folder / "network.c").write_text(description_text(network))
    (folder / "kernels.c").write_text(source)


def classifier(*, two_outputs: bool = False) -> bytes:
    more = "float *doubled," if two_outputs else ""
    source = classifier_source(more=more, body=SECOND_OUTPUT if two_outputs else "")
    return compiled(source, manifest(two_outputs=two_outputs))


def manifest(*, two_outputs: bool = False, **changes: Any) -> bundle.Manifest:
    """A manifest that this machine accepts, with the fields in ``changes`` replaced."""
    pixels = bundle.Normalisation(scale=1 / 255, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
    outputs = [bundle.TensorInfo("logits", (1, 3), "float32", "NC", scores="logits")]
    if two_outputs:
        outputs.append(bundle.TensorInfo("features", INPUT_SHAPE, "float32", "NCHW"))
    fields: dict[str, Any] = {
        "target": bundle.Target("test", f"{cpu.host_architecture()}-linux-gnu"),
        "cpu_features": (),
        "tvm_version": TVM_VERSION,
        "model": {"name": "tiny", "alpha": 0.25},
        "inputs": (
            bundle.TensorInfo(
                "input", INPUT_SHAPE, "float32", "NCHW", pixels, resizing=bundle.Resizing(4)
            ),
        ),
        "outputs": tuple(outputs),
        "precision": "fp32",
        "executor": "static",
        "workspace_bytes": 128,
        "layers": (
            bundle.Layer(
                "sum", "sum_4x4", tuned=True, latency_us=1.5, how="native", date="2026-01-01"
            ),
            bundle.Layer("pool", "pool_4x4", tuned=False),
        ),
    }
    return bundle.Manifest(**{**fields, **changes})


def of_a_gpu(precision: str) -> dict[str, Any]:
    """The changes to a manifest that make it one of a GPU's bundle; its library stays the CPU's."""
    target = bundle.Target("test", f"{cpu.host_architecture()}-linux-gnu", "sm_90")
    return {"target": target, "executor": "cuda", "precision": precision}


def sample_input() -> NDArray[np.float32]:
    return np.random.default_rng(7).standard_normal(INPUT_SHAPE, dtype=np.float32)


def reference(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """What the classifier computes, in float64 before the last rounding."""
    sums: NDArray[np.float64] = x.sum((2, 3), dtype=np.float64)
    return (sums * WEIGHTS).astype(np.float32)


def write(
    path: Path,
    library: bytes = b"not a library",
    *,
    two_outputs: bool = False,
    package: Mapping[str, bytes] = MappingProxyType({}),
    **changes: Any,
) -> bundle.Manifest:
    """Write a bundle around ``library``; bundle.write takes a file, so it goes through one."""
    x = sample_input()
    expected = [reference(x), x * 2] if two_outputs else [reference(x)]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "built.so")
        file.write_bytes(library)
        return bundle.write(
            path,
            manifest(two_outputs=two_outputs, **changes),
            library=file,
            parameters=WEIGHTS,
            sample_inputs=[x],
            expected_outputs=expected,
            tolerance=1e-5,
            licenses="Apache-2.0\n",
            package=package,
        )
