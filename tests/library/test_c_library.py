"""A bundle as people use it without Python: built from C and C++, and what it says of faults."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import onnx
import pytest
from support import kept_runtime, tiny_bundle
from support.c_programs import (
    EXAMPLES,
    FAULTS,
    WARNINGS,
    check_faults,
    damaged,
    output_of,
)
from support.quantized_networks import small_network

from tvm_mobilenet import bundle, models
from tvm_mobilenet.building.bundles import build_bundle
from tvm_mobilenet.compiler.options import CompileOptions
from tvm_mobilenet.errors import RunFailed
from tvm_mobilenet.hardware import cpu, target
from tvm_mobilenet.hardware.toolchain import compile_c
from tvm_mobilenet.library import building
from tvm_mobilenet.library.description import NATIVE
from tvm_mobilenet.library.options import LibraryOptions
from tvm_mobilenet.models import MobileNetConfig
from tvm_mobilenet.network import onnx_export, source
from tvm_mobilenet.runtime.session import load

ROOT = Path(__file__).parents[2]
CROWD = ROOT / "tests" / "support" / "crowd.c"
QUOTA = ROOT / "tests" / "support" / "quota.c"
EXPORTED = {
    "create", "default_threads", "destroy", "fma_peak", "info", "input", "last_error", "output",
    "pool_create", "pool_destroy", "pool_parallel", "profile", "run", "status_text", "stream_read",
    "threads", "weights_close", "weights_from_memory", "weights_open", "workspace_bytes",
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("library")


@pytest.fixture(scope="module")
def classifier(folder: Path, small_config: MobileNetConfig) -> Path:
    """A small network of ours for this machine, with an archive to link."""
    network = source.from_config(small_config)
    options = CompileOptions(target.resolve("x86"))
    package = LibraryOptions("classifier", static=True)
    return build_bundle(network, options, folder / "classifier", package=package).path


@pytest.fixture(scope="module")
def second(folder: Path) -> Path:
    """Another network, whose library holds its weights too."""
    about = tiny_bundle.manifest(name="second")
    files = tiny_bundle.package(tiny_bundle.classifier_source(), about)
    tiny_bundle.write(folder / "second", files["lib/libsecond.so"], name="second", package=files)
    return folder / "second"


@pytest.fixture(scope="module")
def built(folder: Path, classifier: Path, second: Path) -> Path:
    """The examples, built by CMake's find_package, with no warning in C or C++."""
    build = folder / "build"
    prefixes = f"-DCMAKE_PREFIX_PATH={classifier};{second}"
    output_of("cmake", "-S", EXAMPLES, "-B", build, prefixes)
    output_of("cmake", "--build", build)
    return build


def expected_of_zeros(path: Path) -> float:
    with load(path) as session:
        return float(np.ravel(session.run(np.zeros_like(session.input)))[0])


@pytest.mark.parametrize("language", ["", "_cxx"], ids=["C", "C++"])
def test_classify_an_image(built: Path, classifier: Path, folder: Path, language: str) -> None:
    pixels = np.random.default_rng(3).integers(0, 256, (32, 32, 3), np.uint8)
    image = folder / "image.ppm"
    image.write_bytes(b"P6\n32 32\n255\n" + pixels.tobytes())
    printed = output_of(built / f"classify{language}", classifier / "parameters.bin", image)
    with load(classifier) as session:
        form = session.manifest.inputs[0].normalisation
        assert form is not None
        values = (pixels * form.scale - np.array(form.mean)) / np.array(form.std)
        scores = np.asarray(session.run(values.transpose(2, 0, 1)[None].astype(np.float32)))
    found = re.fullmatch(r"class (\d+), score (\S+)\n", printed)
    assert found is not None and int(found[1]) == scores.argmax()
    assert float(found[2]) == pytest.approx(scores.max(), rel=1e-4)
    image.write_bytes(image.read_bytes()[:-1])
    cut = subprocess.run([built / f"classify{language}", classifier / "parameters.bin", image])
    assert cut.returncode == 1


@pytest.mark.parametrize("program", ["two_networks", "two_networks_cxx"])
def test_two_networks_on_one_pool(
    built: Path, classifier: Path, second: Path, program: str
) -> None:
    files = (classifier / "parameters.bin", second / "parameters.bin")
    first, other = output_of(built / program, *files).split()
    assert float(first) == pytest.approx(expected_of_zeros(classifier), rel=1e-5)
    assert float(other) == pytest.approx(expected_of_zeros(second), abs=1e-6)


@pytest.mark.parametrize("program", ["own_threads", "own_threads_cxx"])
def test_a_callers_threads(built: Path, classifier: Path, program: str) -> None:
    (first,) = output_of(built / program, classifier / "parameters.bin").split()
    assert float(first) == pytest.approx(expected_of_zeros(classifier), rel=1e-5)


def test_pkg_config_finds_it(classifier: Path, folder: Path) -> None:
    path = {"PKG_CONFIG_PATH": str(classifier)}
    flags = output_of("pkg-config", "--cflags", "--libs", "classifier", **path).split()
    program = folder / "by_pkg_config"
    output_of("gcc", "-std=c99", *WARNINGS, EXAMPLES / "own_threads.c", "-o", program, *flags)
    place = {"LD_LIBRARY_PATH": str(classifier / "lib")}
    assert output_of(program, classifier / "parameters.bin", **place)


def test_it_links_into_a_program(classifier: Path, folder: Path) -> None:
    program = folder / "linked"
    archive = classifier / "lib" / "libclassifier.a"
    output_of(
        "gcc", *WARNINGS, f"-I{classifier}", EXAMPLES / "own_threads.c", archive, "-o", program
    )
    assert output_of(program, classifier / "parameters.bin")
    symbols = output_of("nm", "--defined-only", "--extern-only", archive)
    found = {line.split()[-1] for line in symbols.splitlines() if line.count(" ") == 2}
    assert found == {f"classifier_{name}" for name in EXPORTED}


def test_it_needs_libc_alone_and_exports_its_header(classifier: Path) -> None:
    library = classifier / "model.so"
    dynamic = output_of("readelf", "--dynamic", library)
    needed = re.findall(r"NEEDED\).*\[(.*)\]", dynamic)
    assert all(re.match(r"(libc|libm|libpthread|ld-linux.*)\.so", name) for name in needed)
    assert not re.search(r"\((INIT|FINI)", dynamic), "no constructor, no destructor"
    symbols = output_of("nm", "--dynamic", "--defined-only", library)
    assert {line.split()[-1] for line in symbols.splitlines()} == {
        f"classifier_{name}" for name in EXPORTED
    }
    header = (classifier / "classifier.h").read_text()
    assert {name for name in EXPORTED if f"classifier_{name}(" in header} == EXPORTED
    undefined = output_of("nm", "--dynamic", "--undefined-only", library)
    assert "TVM" not in undefined


@pytest.mark.parametrize("checker", ["alone", "valgrind"])
def test_faults_are_codes_with_a_text(
    classifier: Path, tmp_path: Path, second: Path, checker: str
) -> None:
    """The same under valgrind, of a network without AVX-512, which valgrind does not know."""
    where = classifier
    before: tuple[str, ...] = ()
    if checker == "valgrind":
        if shutil.which("valgrind") is None:
            pytest.skip("no valgrind: apt-get install valgrind")
        about = tiny_bundle.manifest(name="classifier")
        files = tiny_bundle.package(tiny_bundle.parallel_classifier_source(), about)
        where = tmp_path / "plain"
        before = ("valgrind", "--quiet", "--error-exitcode=9", "--leak-check=full")
        library = files["lib/libclassifier.so"]
        tiny_bundle.write(where, library, name="classifier", package=files)
    program = tmp_path / "faults"
    flags = (*WARNINGS, "-std=c99", f"-I{where}", f"-L{where}/lib", f"-Wl,-rpath,{where}/lib")
    output_of("gcc", *flags, FAULTS, "-o", program, "-lclassifier", "-lm")
    weights = where / "parameters.bin"
    printed = output_of(*before, program, weights, *damaged(weights, tmp_path))
    check_faults(printed)


@pytest.mark.parametrize("sanitizer", ["address,undefined", "thread"])
@pytest.mark.parametrize("program", [FAULTS, CROWD], ids=["faults", "crowd"])
def test_sanitizers_find_nothing(tmp_path: Path, program: Path, sanitizer: str) -> None:
    """The runtime's own sources, built with the program."""
    about = tiny_bundle.manifest(name="classifier")
    files = tiny_bundle.package(tiny_bundle.classifier_source(), about)
    (tmp_path / "classifier.h").write_bytes(files["classifier.h"])
    tiny_bundle.unpack_sources(tiny_bundle.parallel_classifier_source(), about, tmp_path)
    weights = tmp_path / "weights"
    weights.write_bytes(tiny_bundle.WEIGHTS.tobytes())
    built = tmp_path / "program"
    flags = ("-g", "-O1", f"-fsanitize={sanitizer}", "-fno-sanitize-recover=all", f"-I{tmp_path}")
    defines = ("-D_GNU_SOURCE", "-DTMN_NAME=classifier", "-std=gnu11")
    output_of("gcc", *flags, *defines, *tmp_path.glob("*.c"), program, "-o", built, "-lm")
    if program == FAULTS:
        check_faults(output_of(built, weights, *damaged(weights, tmp_path)))
    else:
        assert output_of(built, weights) == "800 runs, 0 wrong\n"


def test_a_crowd_on_one_pool(classifier: Path, tmp_path: Path) -> None:
    """Contexts in four threads, one set of weights, one pool: right answers, whoever gets it."""
    flags = (*WARNINGS, "-std=c99", f"-I{classifier}", f"-Wl,-rpath,{classifier}/lib")
    program = tmp_path / "crowd"
    output_of("gcc", *flags, CROWD, "-o", program, f"-L{classifier}/lib", "-lclassifier")
    assert output_of(program, classifier / "parameters.bin") == "800 runs, 0 wrong\n"


@pytest.mark.parametrize(
    ("text", "cpus"),
    [
        ("max 100000", "unlimited"),
        ("50000 100000", "1"),
        ("100000 100000", "1"),
        ("250000 100000", "2"),
        ("800000 100000", "8"),
        ("", "unlimited"),
        ("what", "unlimited"),
        ("-1 100000", "unlimited"),
    ],
)
def test_a_quota_is_whole_cpus(tmp_path: Path, text: str, cpus: str) -> None:
    (tmp_path / "cpu.max").write_text(text)
    program = ROOT / "build" / "quota"
    program.parent.mkdir(exist_ok=True)
    compile_c(QUOTA, program, "gcc", ["-D_GNU_SOURCE", "-DTMN_NAME=x", f"-I{NATIVE}"])
    assert output_of(program, tmp_path / "cpu.max").strip() == cpus


EMULATED = {
    "aarch64": ("arm-rpi4", "aarch64-linux-gnu", "qemu-aarch64"),
    "armv7": ("arm-rpi2-armv7", "arm-linux-gnueabihf", "qemu-arm"),
}


@pytest.mark.parametrize(("name", "triple", "emulator"), EMULATED.values(), ids=EMULATED.keys())
def test_on_another_architecture(
    tmp_path: Path,
    classifier: Path,
    small_config: MobileNetConfig,
    name: str,
    triple: str,
    emulator: str,
) -> None:
    if shutil.which(emulator) is None or shutil.which(f"{triple}-gcc") is None:
        pytest.skip(f"apt-get install qemu-user gcc-{triple}")
    network = source.from_config(small_config)
    package = LibraryOptions("classifier", static=True)
    options = CompileOptions(target.resolve(name))
    path = build_bundle(network, options, tmp_path / "bundle", package=package).path
    program = tmp_path / "program"
    archive = path / "lib" / "libclassifier.a"
    flags = (*WARNINGS, "-std=c99", f"-I{path}")
    for library in (("-L", path / "lib", "-lclassifier"), (archive, "-lpthread")):
        output_of(f"{triple}-gcc", *flags, EXAMPLES / "own_threads.c", "-o", program, *library)
        system = (emulator, "-L", f"/usr/{triple}", "-E", f"LD_LIBRARY_PATH={path / 'lib'}")
        (first,) = output_of(*system, program, path / "parameters.bin").split()
        assert float(first) == pytest.approx(expected_of_zeros(classifier), rel=1e-4)


def test_int8_on_armv7(tmp_path: Path) -> None:
    """Rounding too needs libc alone there, which has no instruction for it."""
    name, triple, emulator = EMULATED["armv7"]
    if shutil.which(emulator) is None or shutil.which(f"{triple}-gcc") is None:
        pytest.skip(f"apt-get install qemu-user gcc-{triple}")
    model = small_network()
    onnx.save_model(model, str(tmp_path / "network.onnx"))
    network = source.from_onnx(tmp_path / "network.onnx")
    options = CompileOptions(target.resolve(name))
    path = build_bundle(network, options, tmp_path / "b", package=LibraryOptions("classifier")).path
    flags = (*WARNINGS, "-std=c99", f"-I{path}", "-L", path / "lib", "-lclassifier")
    program = tmp_path / "program"
    output_of(f"{triple}-gcc", EXAMPLES / "own_threads.c", "-o", program, *flags)
    system = (emulator, "-L", f"/usr/{triple}", "-E", f"LD_LIBRARY_PATH={path / 'lib'}")
    (first,) = output_of(*system, program, path / "parameters.bin").split()
    zeros = np.zeros((1, 3, 32, 32), np.float32)
    (right,) = onnx_export.evaluator(model, optimized=False).run(zeros)
    assert abs(float(first) - right[0, 0]) <= 0.02 * np.abs(right).max()


@pytest.mark.skipif(shutil.which("qemu-x86_64") is None, reason="apt-get install qemu-user")
@pytest.mark.skipif(cpu.host_architecture() != "x86_64", reason="compiles for this machine")
@pytest.mark.parametrize(
    ("feature", "core", "said"),
    [
        ("avx2", "Nehalem", "this CPU has no avx2"),
        ("avx", "max,-xsave", "this CPU has no avx|this system does not enable avx"),
        ("sse4_2", "Nehalem", None),
    ],
)
def test_a_cpu_that_lacks_a_feature(
    tmp_path: Path, feature: str, core: str, said: str | None
) -> None:
    about = tiny_bundle.manifest(name="classifier", cpu_features=(feature,))
    for name, content in tiny_bundle.package(tiny_bundle.classifier_source(), about).items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    (tmp_path / "weights").write_bytes(tiny_bundle.WEIGHTS.tobytes())
    program, library = tmp_path / "program", tmp_path / "lib"
    flags = (f"-I{tmp_path}", f"-L{library}", f"-Wl,-rpath,{library}", "-lclassifier")
    output_of("gcc", EXAMPLES / "own_threads.c", "-o", program, *flags)
    done = subprocess.run(
        ["qemu-x86_64", "-cpu", core, program, tmp_path / "weights"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == (0 if said is None else 1)
    if said is not None:
        assert re.search(f"classifier is compiled for test; ({said})\n", done.stderr)


def test_the_same_bytes_again(monkeypatch: pytest.MonkeyPatch) -> None:
    about = tiny_bundle.manifest(name="classifier")
    source_text = tiny_bundle.classifier_source()
    first = tiny_bundle.package(source_text, about)
    tiny_bundle.kept_package.cache_clear()
    monkeypatch.setattr(building, "compile_source", kept_runtime.compile_anew)
    assert tiny_bundle.package(source_text, about) == first


def test_a_run_fails_for_its_own_faults_alone(tmp_path: Path) -> None:
    """A kernel that asks for more scratch than there is, and the next time does not."""
    declared = "extern void *(*__TVMBackendAllocWorkspace)(int, int, uint64_t, int, int);\n"
    asks = """
    static int runs;
    if (runs++ == 0 && !__TVMBackendAllocWorkspace(1, 0, 1, 2, 32)) return -1;
    """
    text = tiny_bundle.classifier_source().replace("int32_t tmn_", f"{declared}int32_t tmn_", 1)
    text = text.replace("    if (stamped)", f"{asks}if (stamped)", 1)
    path = tmp_path / "bundle"
    tiny_bundle.write(path, tiny_bundle.compiled(text))
    x = tiny_bundle.sample_input()
    with load(path) as session:
        with pytest.raises(RunFailed, match="more scratch than there is"):
            session.run(x)
        np.testing.assert_allclose(session.run(x), tiny_bundle.reference(x), rtol=1e-5, atol=1e-5)


def test_weights_in_the_library(tmp_path: Path) -> None:
    about = tiny_bundle.manifest(name="classifier", embedded_weights=True)
    files = tiny_bundle.package(tiny_bundle.classifier_source(), about)
    path = tmp_path / "embedded"
    library = files["lib/libclassifier.so"]
    tiny_bundle.write(path, library, name="classifier", embedded_weights=True, package=files)
    assert not (path / "parameters.bin").exists()
    x = tiny_bundle.sample_input()
    with load(path) as session:
        np.testing.assert_allclose(session.run(x), tiny_bundle.reference(x), rtol=1e-5, atol=1e-5)


def test_a_tar_is_whole(tmp_path: Path) -> None:
    about = tiny_bundle.manifest(name="classifier")
    files = tiny_bundle.package(tiny_bundle.classifier_source(), about)
    library = files["lib/libclassifier.so"]
    tiny_bundle.write(tmp_path / "b.tar", library, name="classifier", package=files)
    with bundle.open_bundle(tmp_path / "b.tar") as opened:
        for name, content in files.items():
            assert (opened.folder / name).read_bytes() == content


def test_denormal_weights_take_no_longer() -> None:
    """The kernels see none: they are flushed while a run lasts, in every thread."""
    body = "output[0] = (volatile float){1e-39f} * 1.0f == 0.0f ? 1 : 0;"
    text = tiny_bundle.classifier_source(body=f"volatile float tiny = 1e-39f; {body}").replace(
        "(volatile float){1e-39f}", "tiny"
    )
    with tempfile.TemporaryDirectory() as name:
        path = Path(name, "b")
        tiny_bundle.write(path, tiny_bundle.compiled(text))
        for threads in (1, 2):
            with load(path, threads=min(threads, len(os.sched_getaffinity(0)))) as session:
                assert float(np.ravel(session.run(tiny_bundle.sample_input()))[0]) == 1


def test_names_of_models_are_identifiers() -> None:
    from tvm_mobilenet.library.naming import check_name, name_from

    for name in models.MODELS:
        assert check_name(name_from(f"{name} 0.25-32")).startswith(name.split("-")[0][:4])
