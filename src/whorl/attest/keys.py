"""Keys of those who sign: Ed25519 to sign with, and ECDSA on P-256 too to verify with.

A key is a PEM file, as ``openssl genpkey -algorithm ed25519`` writes it. Its id is the SHA-256 of its
SubjectPublicKeyInfo in DER, in hexadecimal.

Source: Ed25519: RFC 8032, in SubjectPublicKeyInfo: RFC 8410; ECDSA: FIPS 186-5, section 6, with SHA-256 and signatures
in DER (RFC 3279, section 2.2.3).
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Final

from whorl.errors import InvalidFile, MissingExtra, UsageError
from whorl.storage import check_size

try:
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
except ImportError:
    raise MissingExtra("signing claims and verifying what is signed", "claims") from None

__all__ = ["Ed25519PrivateKey", "Ed25519PublicKey", "PublicKey", "key_id", "read_private_key", "read_public_key"]
__all__ += ["raw_key", "read_bytes", "read_pem", "read_raw_key", "signature_fits"]

PublicKey = Ed25519PublicKey | ec.EllipticCurvePublicKey
MOST_BYTES: Final = 16 << 10
OTHERS: Final = 0o077  # what group and others may do
MAKE: Final = "openssl genpkey -algorithm ed25519 -out KEY"


def key_id(key: PublicKey) -> str:
    """SHA-256 of the key's SubjectPublicKeyInfo in DER, in hexadecimal."""
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return hashlib.sha256(key.public_bytes(serialization.Encoding.DER, form)).hexdigest()


def raw_key(key: Ed25519PublicKey) -> bytes:
    """The 32 bytes of an Ed25519 key (RFC 8032, section 5.1.5)."""
    return key.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)


def read_raw_key(data: bytes) -> Ed25519PublicKey:
    """The Ed25519 key of 32 bytes. Raises `InvalidFile` where they are none."""
    try:
        return Ed25519PublicKey.from_public_bytes(data)
    except (ValueError, TypeError):
        raise InvalidFile("this is no key of Ed25519") from None


def read_private_key(path: str | Path, password: bytes | None = None) -> Ed25519PrivateKey:
    """The Ed25519 key that a PEM file holds, which is encrypted, or readable by its owner alone.

    Raises:
        UsageError: no such file, a wrong or missing password, or a key in the clear that others may read.
        InvalidFile: no private key, or one of another kind.
    """
    key = read_pem(path, password, make=MAKE)
    if not isinstance(key, Ed25519PrivateKey):
        raise InvalidFile(f"{path} holds a key that is not of Ed25519; make one: {MAKE}")
    return key


def read_pem(path: str | Path, password: bytes | None, *, make: str) -> object:
    """The private key of any kind that a PEM file holds; ``make`` is the command that makes one as is needed.

    Raises what `read_private_key` raises.
    """
    data = read_bytes(path)
    clear = True
    try:
        key: object = serialization.load_pem_private_key(data, None)
    except TypeError:  # which is how cryptography says that the key is encrypted
        clear = False
        key = _decrypted(path, data, password)
    except (ValueError, UnsupportedAlgorithm):
        if b"-----BEGIN PUBLIC KEY-----" in data:
            raise InvalidFile(f"{path} holds the public half of a key; give the private one") from None
        raise InvalidFile(f"{path} holds no private key in PEM; make one: {make}") from None
    if clear and os.name == "posix" and Path(path).stat().st_mode & OTHERS:
        raise UsageError(f"{path} holds a private key in the clear that others may read. Type: chmod 600 {path}")
    return key


def read_public_key(path: str | Path) -> PublicKey:
    """The Ed25519 or P-256 key that a PEM file holds.

    Raises `UsageError` where there is no such file, `InvalidFile` for anything else.
    """
    data = read_bytes(path)
    try:
        key = serialization.load_pem_public_key(data)
    except (ValueError, UnsupportedAlgorithm):
        raise InvalidFile(f"{path} holds no public key in PEM. Type: openssl pkey -in KEY -pubout") from None
    if isinstance(key, Ed25519PublicKey):
        return key
    if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1):
        return key
    raise InvalidFile(f"{path} holds a key that is neither of Ed25519 nor of ECDSA on P-256")


def signature_fits(key: PublicKey, signature: bytes, message: bytes) -> bool:
    """Whether the key made this signature: 64 bytes of Ed25519, or ECDSA with SHA-256 in DER."""
    try:
        if isinstance(key, Ed25519PublicKey):
            key.verify(signature, message)
        else:
            key.verify(signature, message, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        return False
    return True


def _decrypted(path: str | Path, data: bytes, password: bytes | None) -> object:
    if not password:
        raise UsageError(f"{path} is encrypted; give its password in the variable WHORL_KEY_PASSWORD")
    try:
        return serialization.load_pem_private_key(data, password)
    except (ValueError, UnsupportedAlgorithm):
        raise UsageError(f"this password does not open {path}") from None


def read_bytes(path: str | Path) -> bytes:
    """The bytes of a file that may hold a key, at most 16 KiB."""
    check_size(path, MOST_BYTES)
    return Path(path).read_bytes()
