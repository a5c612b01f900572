"""Who made a bundle: an Ed25519 signature of its manifest, which has the hash of every other file.

The file ``signature`` holds the 64 bytes that ``openssl pkeyutl -sign -rawin`` gives for
``manifest.json``. Keys are PEM files, as ``openssl genpkey -algorithm ed25519`` makes them. Needs
the package cryptography, the extra ``sign``.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from tvm_mobilenet import extras
from tvm_mobilenet.bundle.layout import SIGNATURE
from tvm_mobilenet.errors import BadInput

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import (
        Ed25519PrivateKey,
        Ed25519PublicKey,
    )

EXTRA, PACKAGE = "sign", "cryptography"
PRIVATE, PUBLIC = "a private key", "a public key"
MADE_BY = {
    PRIVATE: "openssl genpkey -algorithm ed25519 -out KEY.pem",
    PUBLIC: "openssl pkey -in KEY.pem -pubout -out KEY.pub",
}


def signing_key(path: Path) -> Ed25519PrivateKey:
    """The private key in a PEM file. Raises BadInput where there is none that can be read."""
    extras.require_module(PACKAGE, EXTRA)
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    data = _read(path, PRIVATE)
    try:
        key: Any = load_pem_private_key(data, password=None)
    except TypeError:
        raise BadInput(f"{path}: the key has a password; give one without") from None
    except Exception:  # several of its own kinds, some of them for keys that are merely old
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise _no_key(path, PRIVATE)
    return key


def verify_key(path: Path) -> Ed25519PublicKey:
    """The public key in a PEM file. Raises BadInput where there is none that can be read."""
    extras.require_module(PACKAGE, EXTRA)
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    data = _read(path, PUBLIC)
    try:
        key: Any = load_pem_public_key(data)
    except Exception:  # as above
        key = None
    if not isinstance(key, Ed25519PublicKey):
        raise _no_key(path, PUBLIC)
    return key


def check(bundle: Path, folder: Path, manifest: bytes, key: Path) -> None:
    """Raise BadInput unless the bundle's signature is of these bytes, by the key in the file.

    ``bundle`` is what messages name, ``folder`` where its files are.
    """
    by = verify_key(key)  # what is wrong with the key is no fault of the bundle's
    from cryptography.exceptions import InvalidSignature

    try:
        signature = (folder / SIGNATURE).read_bytes()
    except FileNotFoundError:
        raise BadInput(f"{bundle}: is not signed; expected a signature by {key}") from None
    except OSError as error:
        raise BadInput(f"{bundle}: {SIGNATURE} cannot be read: {error.strerror}") from error
    try:
        by.verify(signature, manifest)
    except InvalidSignature:
        raise BadInput(
            f"{bundle}: its signature is not by {key}, or the bundle was changed since; get it "
            "from who made it again"
        ) from None


def _read(path: Path, kind: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BadInput(f"{path}: cannot be read as {kind}: {error.strerror}") from error


def _no_key(path: Path, kind: str) -> BadInput:
    return BadInput(f"{path}: expected {kind} of Ed25519 in PEM, as by {MADE_BY[kind]}")
