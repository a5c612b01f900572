"""Signed bundles: what a key lets through, and what it does not."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import onnx
import pytest
from support import foreign_onnx, tiny_bundle

import tvm_mobilenet
from tvm_mobilenet import bundle, inspect, run
from tvm_mobilenet import compile as compile_stage
from tvm_mobilenet.errors import BadInput

Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two pairs of keys, mine and another's, and files that hold no such key."""
    reason = "pip install 'tvm-mobilenet[sign]'"
    serialization = pytest.importorskip(
        "cryptography.hazmat.primitives.serialization", reason=reason
    )
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519

    folder = tmp_path_factory.mktemp("keys")
    pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    plain = serialization.NoEncryption()
    made: dict[str, Any] = {
        "mine": ed25519.Ed25519PrivateKey.generate(),
        "other": ed25519.Ed25519PrivateKey.generate(),
        "curve": ec.generate_private_key(ec.SECP256R1()),
    }
    for name, key in made.items():
        (folder / f"{name}.pem").write_bytes(key.private_bytes(pem, pkcs8, plain))
        (folder / f"{name}.pub").write_bytes(key.public_key().public_bytes(pem, form))
    locked = serialization.BestAvailableEncryption(b"secret")
    (folder / "locked.pem").write_bytes(made["mine"].private_bytes(pem, pkcs8, locked))
    (folder / "text").write_text("no key")
    return folder


@pytest.fixture(params=["tiny", "tiny.tar"])
def signed(request: pytest.FixtureRequest, tmp_path: Path, keys: Path) -> Path:
    path = tmp_path / str(request.param)
    tiny_bundle.write(path, tiny_bundle.classifier())
    bundle.sign(path, keys / "mine.pem")
    return path


def refused(path: Path, key: Path, says: str) -> None:
    """By whoever is given the key: one line, and nothing of the bundle was loaded."""
    with pytest.raises(BadInput, match=says) as caught:
        tvm_mobilenet.load(path, verify_key=key)
    assert "\n" not in str(caught.value)


def test_the_key_of_who_signed_it(signed: Path, keys: Path, capsys: Capture) -> None:
    with tvm_mobilenet.load(signed, verify_key=keys / "mine.pub") as session:
        x = tiny_bundle.sample_input()
        assert session.run(x) is not None
    tvm_mobilenet.load(signed).close()  # a key is nobody's duty
    key = str(keys / "mine.pub")
    assert run.main([str(signed), "--verify-key", key]) == 0
    assert inspect.main([str(signed), "--verify-key", key]) == 0
    assert f"signature    right, by {key}" in capsys.readouterr().out
    assert inspect.main([str(signed)]) == 0
    assert "signature    not checked: no --verify-key" in capsys.readouterr().out


def test_compile_signs(tmp_path: Path, keys: Path) -> None:
    model = foreign_onnx.classifier(onnx.helper.make_node("Relu", ["scores"], ["y"]))
    file, out = foreign_onnx.save(model, tmp_path), tmp_path / "out.tar"
    arguments = ["--onnx", file, "--on-untuned", "allow", "--sign", keys / "mine.pem", "-o", out]
    assert compile_stage.main(list(map(str, arguments))) == 0
    bundle.open_bundle(out, verify_key=keys / "mine.pub").close()


def test_another_key(signed: Path, keys: Path, capsys: Capture) -> None:
    key = keys / "other.pub"
    refused(signed, key, r"its signature is not by \S+other.pub, or the bundle was changed")
    for stage in (run, inspect):
        assert stage.main([str(signed), "--verify-key", str(key)]) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ") and error.count("\n") == 1


def test_a_bundle_that_nobody_signed(tmp_path: Path, keys: Path) -> None:
    tiny_bundle.write(tmp_path / "tiny")
    refused(tmp_path / "tiny", keys / "mine.pub", "is not signed; expected a signature by")


@pytest.mark.parametrize("name", ["model.so", "parameters.bin", "tolerance"])
def test_a_file_that_was_changed(name: str, tmp_path: Path, keys: Path) -> None:
    path = tmp_path / "tiny"
    tiny_bundle.write(path, tiny_bundle.classifier())
    bundle.sign(path, keys / "mine.pem")
    content = (path / name).read_bytes()
    (path / name).write_bytes(bytes([content[0] ^ 1]) + content[1:])
    refused(path, keys / "mine.pub", f"{name}(: not the weights| is not the file that was)")


def test_a_manifest_that_was_changed(tmp_path: Path, keys: Path) -> None:
    """With the hash of another library in it, for one: as who has no key would do it."""
    path = tmp_path / "tiny"
    tiny_bundle.write(path, tiny_bundle.classifier())
    bundle.sign(path, keys / "mine.pem")
    file = path / bundle.MANIFEST
    file.write_text(json.dumps(json.loads(file.read_text()), indent=1))
    tvm_mobilenet.load(path).close()
    refused(path, keys / "mine.pub", "its signature is not by")
    (path / bundle.SIGNATURE).write_bytes(b"short")
    refused(path, keys / "mine.pub", "its signature is not by")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("none.pem", "cannot be read as a private key: No such file"),
        ("text", "expected a private key of Ed25519 in PEM"),
        ("curve.pem", "expected a private key of Ed25519 in PEM"),
        ("mine.pub", "expected a private key of Ed25519 in PEM"),
        ("locked.pem", "the key has a password"),
    ],
)
def test_keys_that_sign_nothing(name: str, says: str, keys: Path, capsys: Capture) -> None:
    """Said before anything is compiled."""
    assert compile_stage.main(["--sign", str(keys / name), "-o", str(keys / "bundle")]) == 2
    error = capsys.readouterr().err
    assert says in error and error.count("\n") == 1
    assert not (keys / "bundle").exists()


@pytest.mark.parametrize("name", ["text", "curve.pub", "mine.pem", "none.pub"])
def test_keys_that_check_nothing(name: str, tmp_path: Path, keys: Path) -> None:
    tiny_bundle.write(tmp_path / "tiny")
    refused(tmp_path / "tiny", keys / name, "(expected|cannot be read as) a public key")


def test_a_signed_bundle_is_replaced_and_keeps_its_manifest(tmp_path: Path, keys: Path) -> None:
    path = tmp_path / "tiny"
    tiny_bundle.write(path)
    bundle.sign(path, keys / "other.pem")
    bundle.sign(path, keys / "mine.pem")
    bundle.open_bundle(path, verify_key=keys / "mine.pub").close()
    accuracy = bundle.Accuracy(5, 10, "images")
    with pytest.raises(BadInput, match="record the accuracy before signing"):
        bundle.record_accuracy(path, accuracy)
    tiny_bundle.write(path)
    assert not (path / bundle.SIGNATURE).exists()


def test_without_the_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    tiny_bundle.write(tmp_path / "tiny")
    monkeypatch.setitem(sys.modules, "cryptography", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(BadInput, match=r"pip install 'tvm-mobilenet\[sign\]'"):
        bundle.open_bundle(tmp_path / "tiny", verify_key=tmp_path / "key.pub")
