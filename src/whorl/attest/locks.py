"""Locked files: any file, encrypted for those who hold a licence, in frames that neither move nor vanish unnoticed.

A locked file is, in this order,

    "whorl-lock/v1\\n", the length of the header in 4 bytes, big-endian, the header, and the frames

The header is canonical JSON (RFC 8785): ``digest``, SHA-256 of the plain file in hexadecimal; ``licence``, an id;
``frames``, their number; ``recipients``, for each the id of its key (SHA-256 of the SubjectPublicKeyInfo), an ephemeral
X25519 key and the sealed data key, in hexadecimal. Frames are of 2^20 bytes but for the last, each encrypted with
AES-256-GCM and followed by its tag. The nonce is the number of the frame from 0 in 12 bytes, big-endian; the associated
data are the digest (32 bytes), the licence in UTF-8 and the number of frames (8 bytes), so that a frame of another
file, licence or place fails. A file of no bytes has one empty frame.

The 32-byte data key is drawn anew for each file. For a recipient it is sealed with AES-256-GCM under HKDF-SHA-256 of
the X25519 secret between ephemeral and recipient key: salt empty, info "whorl/lock/v1" || ephemeral || recipient ||
associated data, nonce 12 zero bytes, since that key serves once.

What it is worth: whoever has no key has no weights. Whoever unlocked the file has all of them and can pass them on.

Source: AES-GCM: NIST SP 800-38D; X25519: RFC 7748; HKDF: RFC 5869. The frames are those of STREAM: Hoang, Reyhanitabar,
Rogaway & Vizar, CRYPTO 2015, with the number of frames in the associated data in place of a mark at the last.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, BinaryIO, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from whorl.attest.keys import read_bytes, read_pem
from whorl.errors import InvalidFile, MissingExtra, UsageError
from whorl.printable import counted
from whorl.storage import canonical_json, check_size, replacing

try:
    from cryptography.exceptions import InvalidTag, UnsupportedAlgorithm
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF
except ImportError:
    raise MissingExtra("locking files", "claims") from None

__all__ = [
    "Locked",
    "X25519PrivateKey",
    "X25519PublicKey",
    "lock",
    "read_header",
    "read_recipient",
    "read_unlocking_key",
]
__all__ += ["unlock"]

MAGIC: Final = b"whorl-lock/v1\n"
PURPOSE: Final = b"whorl/lock/v1"
FRAME: Final = 1 << 20
TAG: Final = 16
KEY: Final = 32
MOST_FRAMES: Final = 1 << 22  # 4 TiB
MOST_HEADER: Final = 1 << 16
MOST_RECIPIENTS: Final = 64
MAKE: Final = "openssl genpkey -algorithm x25519 -out KEY"
Hex64 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Hex96 = Annotated[str, Field(pattern=r"^[0-9a-f]{96}$")]
Progress = Callable[[int, int], None]
"""Told (frames done, frames in all)."""


class _Recipient(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    key: Hex64
    ephemeral: Hex64
    sealed: Hex96


class Locked(BaseModel):
    """The header of a locked file, which anybody may read."""

    model_config = ConfigDict(extra="forbid", strict=True)

    digest: Hex64
    licence: Annotated[str, Field(max_length=256)]
    frames: Annotated[int, Field(ge=1, le=MOST_FRAMES)]
    recipients: Annotated[list[_Recipient], Field(min_length=1, max_length=MOST_RECIPIENTS)]

    @property
    def associated(self) -> bytes:
        """What every frame and every sealed key is bound to."""
        return bytes.fromhex(self.digest) + self.licence.encode() + self.frames.to_bytes(8, "big")


def read_recipient(path: str | Path) -> X25519PublicKey:
    """The X25519 key of a recipient that a PEM file holds.

    Raises `UsageError` where there is no such file, `InvalidFile` for anything else.
    """
    data = read_bytes(path)
    try:
        key = serialization.load_pem_public_key(data)
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, X25519PublicKey):
        raise InvalidFile(
            f"{path} holds no public key of X25519 in PEM. Whoever is to unlock types: {MAKE} and "
            "openssl pkey -in KEY -pubout -out KEY.pub"
        )
    return key


def read_unlocking_key(path: str | Path, password: bytes | None = None) -> X25519PrivateKey:
    """The X25519 key of a PEM file that is encrypted, or readable by its owner alone.

    Raises:
        UsageError: no such file, a wrong or missing password, or a key in the clear that others may read.
        InvalidFile: no private key, or one of another kind.
    """
    key = read_pem(path, password, make=MAKE)
    if not isinstance(key, X25519PrivateKey):
        raise InvalidFile(f"{path} holds a key that is not of X25519; make one: {MAKE}")
    return key


def lock(
    source: str | Path,
    target: str | Path,
    recipients: Sequence[X25519PublicKey],
    *,
    licence: str = "",
    progress: Progress | None = None,
) -> Locked:
    """Encrypt a file for one recipient or more. The file is read twice, a frame at a time.

    Raises:
        UsageError: no such file, one that changes meanwhile or is too large, no recipient or too many, one given twice,
            or a licence id that is not up to 256 printable characters.
    """
    ids = [_id(each) for each in recipients]
    if not 1 <= len(ids) <= MOST_RECIPIENTS or len(set(ids)) < len(ids):
        raise UsageError(f"a file is locked for 1..{MOST_RECIPIENTS} recipients, each given once; given are {len(ids)}")
    if len(licence) > 256 or not licence.isprintable():
        raise UsageError("a licence id has at most 256 printable characters")
    if Path(source).exists() and Path(target).exists() and Path(source).samefile(target):
        raise UsageError(f"{target} is the file that is to be locked; write the locked one elsewhere")
    size = check_size(source, MOST_FRAMES * FRAME)
    digest, frames = hashlib.sha256(), max(1, -(-size // FRAME))
    with Path(source).open("rb") as file:
        while part := file.read(FRAME):
            digest.update(part)
    header = Locked.model_construct(digest=digest.hexdigest(), licence=licence, frames=frames, recipients=[])
    key = secrets.token_bytes(KEY)
    header.recipients += [_sealed(key, each, header.associated) for each in recipients]
    text, cipher, again = canonical_json(header.model_dump()), AESGCM(key), hashlib.sha256()
    with Path(source).open("rb") as file, replacing(target) as temporary, temporary.open("wb") as out:
        out.write(MAGIC + len(text).to_bytes(4, "big") + text)
        for number in range(frames):
            part = file.read(FRAME)
            again.update(part)
            out.write(cipher.encrypt(_nonce(number), part, header.associated))
            if progress is not None:
                progress(number + 1, frames)
        if file.read(1) or again.digest() != digest.digest():
            raise UsageError(f"{source} changed while it was read; lock it again")
    return header


def read_header(path: str | Path) -> Locked:
    """The header of a locked file, of which nothing is proven yet. Raises `InvalidFile` where it has none."""
    check_size(path, MOST_FRAMES * (FRAME + TAG) + 2 * MOST_HEADER)
    with Path(path).open("rb") as file:
        return _header(path, file)


def unlock(
    source: str | Path, target: str | Path, key: X25519PrivateKey, *, progress: Progress | None = None
) -> Locked:
    """Decrypt a file, a frame at a time. The target appears only once every frame was authentic.

    Raises:
        UsageError: no such file, one that was locked for others, or one that the target would take the place of.
        InvalidFile: no locked file, or one that was cut, reordered, mixed with another or changed.
    """
    check_size(source, MOST_FRAMES * (FRAME + TAG) + 2 * MOST_HEADER)
    if Path(target).exists() and Path(source).samefile(target):
        raise UsageError(f"{target} is the locked file; write what it holds elsewhere")
    mine, digest = key.public_key(), hashlib.sha256()
    with Path(source).open("rb") as file:
        header = _header(source, file)
        own = next((each for each in header.recipients if each.key == _id(mine)), None)
        if own is None:
            count = len(header.recipients)
            raise UsageError(
                f"{source} is locked for {counted(count, 'other key')}, as "
                f"{header.recipients[0].key[:16]}…; give that with --key"
            )
        cipher = AESGCM(_opened(source, own, key, header.associated))
        with replacing(target) as temporary, temporary.open("wb") as out:
            for number in range(header.frames):
                part = _frame(source, file, cipher, number, header)
                digest.update(part)
                out.write(part)
                if progress is not None:
                    progress(number + 1, header.frames)
            if file.read(1):
                raise InvalidFile(f"{source} goes on after its last frame; get it anew")
            if digest.hexdigest() != header.digest:
                raise InvalidFile(f"{source} holds another file than its header says; get it anew")
    return header


def _frame(source: str | Path, file: BinaryIO, cipher: AESGCM, number: int, header: Locked) -> bytes:
    part = file.read(FRAME + TAG)
    last = number == header.frames - 1
    where = f"frame {number + 1} of {header.frames}"
    if len(part) < (TAG if last else FRAME + TAG):
        raise InvalidFile(f"{source} ends in {where}; get it anew")
    try:
        return cipher.decrypt(_nonce(number), part, header.associated)
    except InvalidTag:
        raise InvalidFile(
            f"{source} was changed, or its frames were moved: {where} is not authentic; get it anew"
        ) from None


def _header(path: str | Path, file: BinaryIO) -> Locked:
    if file.read(len(MAGIC)) != MAGIC:
        raise InvalidFile(f"{path} is no locked file; whorl lock makes one")
    length = int.from_bytes(file.read(4), "big")
    text = file.read(length) if length <= MOST_HEADER else b""
    try:
        header = Locked.model_validate_json(text)
        canonical = canonical_json(json.loads(text)) == text
    except (ValidationError, ValueError, RecursionError):
        canonical, header = False, None
    if header is None or not canonical or not header.licence.isprintable():
        raise InvalidFile(f"the header of {path} is damaged; get it anew")
    return header


def _sealed(key: bytes, recipient: X25519PublicKey, associated: bytes) -> _Recipient:
    ephemeral = X25519PrivateKey.generate()
    wrapping = _wrapping(ephemeral, recipient, ephemeral.public_key(), recipient, associated)
    sealed = AESGCM(wrapping).encrypt(_nonce(0), key, associated)
    public = ephemeral.public_key().public_bytes_raw()
    return _Recipient(key=_id(recipient), ephemeral=public.hex(), sealed=sealed.hex())


def _opened(source: str | Path, own: _Recipient, key: X25519PrivateKey, associated: bytes) -> bytes:
    try:
        ephemeral = X25519PublicKey.from_public_bytes(bytes.fromhex(own.ephemeral))
        wrapping = _wrapping(key, ephemeral, ephemeral, key.public_key(), associated)
        return AESGCM(wrapping).decrypt(_nonce(0), bytes.fromhex(own.sealed), associated)
    except (InvalidTag, ValueError):  # the latter for a point of low order
        raise InvalidFile(f"the header of {source} was changed: its sealed key is not authentic; get it anew") from None


def _wrapping(
    private: X25519PrivateKey,
    other: X25519PublicKey,
    ephemeral: X25519PublicKey,
    recipient: X25519PublicKey,
    associated: bytes,
) -> bytes:
    info = PURPOSE + ephemeral.public_bytes_raw() + recipient.public_bytes_raw() + associated
    return HKDF(hashes.SHA256(), KEY, salt=None, info=info).derive(private.exchange(other))


def _nonce(number: int) -> bytes:
    return number.to_bytes(12, "big")


def _id(key: X25519PublicKey) -> str:
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return hashlib.sha256(key.public_bytes(serialization.Encoding.DER, form)).hexdigest()
