"""Signed statements: in-toto Statement v1 in a DSSE v1 envelope, both in the one canonical form of their JSON.

What is signed is ``"DSSEv1" SP len(type) SP type SP len(payload) SP payload`` (PAE), so neither white space nor the
order of keys is ever interpreted before a signature was verified. An envelope in any other form than the canonical one
(RFC 8785) is refused: equal statements by equal keys are equal bytes, and no byte of a file is without meaning.

Source: DSSE v1.0.2, protocol.md and envelope.md; in-toto attestation framework, Statement v1.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from whorl.attest.keys import Ed25519PrivateKey, PublicKey, key_id, signature_fits
from whorl.errors import InvalidFile, UsageError
from whorl.storage import MAX_JSON_BYTES, canonical_json, one_line

__all__ = ["PAYLOAD_TYPE", "Statement", "decoded", "encoded", "open_envelope", "pre_authentication", "seal"]
__all__ += ["unverified"]

PAYLOAD_TYPE: Final = "application/vnd.in-toto+json"
STATEMENT: Final = "https://in-toto.io/Statement/v1"

Text = Annotated[str, Field(min_length=1, max_length=4096)]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


@dataclass(frozen=True)
class Statement:
    """What is said of which things: ``subjects`` are SHA-256 in hexadecimal by name, ``predicate`` is JSON."""

    subjects: Mapping[str, str]
    predicate_type: str
    predicate: Mapping[str, Any]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class _Signature(_Strict):
    keyid: Digest
    sig: Text


class _Envelope(_Strict):
    payload: Annotated[str, Field(min_length=1)]
    payloadType: Literal["application/vnd.in-toto+json"]
    signatures: Annotated[list[_Signature], Field(min_length=1, max_length=16)]


class _Hash(_Strict):
    sha256: Digest


class _Subject(_Strict):
    name: Text
    digest: _Hash


class _Statement(_Strict):
    type: Annotated[Literal["https://in-toto.io/Statement/v1"], Field(alias="_type")]
    subject: Annotated[list[_Subject], Field(min_length=1, max_length=1000)]
    predicateType: Text
    predicate: dict[str, Any]


def pre_authentication(payload_type: str, payload: bytes) -> bytes:
    """PAE, the bytes that are signed (DSSE protocol, *Signature Definition*); lengths are decimal and count bytes."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)


def encoded(statement: Statement) -> bytes:
    """The payload: the statement in canonical JSON, its subjects by name.

    Raises:
        UsageError: it breaks the bounds of the format, or holds what canonical JSON can't.
    """
    document = {
        "_type": STATEMENT,
        "subject": [{"name": name, "digest": {"sha256": of}} for name, of in sorted(statement.subjects.items())],
        "predicateType": statement.predicate_type,
        "predicate": statement.predicate,
    }
    payload = canonical_json(document)
    try:
        _statement(payload)
    except InvalidFile as error:
        raise UsageError(f"this statement can't be written: {error}") from None
    return payload


def seal(statement: Statement, keys: Sequence[Ed25519PrivateKey]) -> bytes:
    """The envelope, signed by each of the keys. Equal statements and keys give equal bytes (RFC 8032).

    Raises:
        UsageError: no key, a key twice, or a statement that can't be written.
    """
    payload = encoded(statement)
    message = pre_authentication(PAYLOAD_TYPE, payload)
    signed = {key_id(key.public_key()): key.sign(message) for key in keys}
    if not 0 < len(signed) == len(keys):
        raise UsageError("an envelope is signed by one key or more, each of them once; give others")
    data = canonical_json(
        {
            "payload": base64.b64encode(payload).decode(),
            "payloadType": PAYLOAD_TYPE,
            "signatures": [{"keyid": name, "sig": base64.b64encode(signed[name]).decode()} for name in sorted(signed)],
        }
    )
    if len(data) > MAX_JSON_BYTES:
        raise UsageError(f"this envelope holds {len(data):,} bytes; at most {MAX_JSON_BYTES:,} are read")
    return data


def open_envelope(data: bytes, keys: Sequence[PublicKey]) -> tuple[Statement, tuple[str, ...]]:
    """The statement of an envelope, and the ids of those of ``keys`` that signed it: one at least.

    Signatures by keys that were not given say nothing and are passed over; of the keys given, every signature must fit.

    Raises:
        InvalidFile: not an envelope in canonical form, or a signature that does not fit, or none by these keys.
    """
    if len(data) > MAX_JSON_BYTES:
        raise InvalidFile(f"this envelope holds {len(data):,} bytes; at most {MAX_JSON_BYTES:,} are read")
    envelope = _parsed(data, _Envelope, "envelope")
    payload = decoded(envelope.payload, "payload of this envelope")
    message = pre_authentication(envelope.payloadType, payload)
    names = [each.keyid for each in envelope.signatures]
    if names != sorted(set(names)):
        raise InvalidFile("the signatures of this envelope are not in the order of their keys, each once")
    known = {key_id(key): key for key in keys}
    signers = tuple(name for name in names if name in known)
    for each in envelope.signatures:
        signature = decoded(each.sig, "signature of this envelope")
        if each.keyid in known and not signature_fits(known[each.keyid], signature, message):
            raise InvalidFile(f"the signature of the key {each.keyid[:16]} does not fit: the envelope was changed")
    if not signers:
        raise InvalidFile(
            f"this envelope is signed by {', '.join(name[:16] for name in names)}, and by none of the keys given; "
            "give the signer's public key"
        )
    return _statement(payload), signers


def unverified(data: bytes) -> Statement:
    """What an envelope says, with no look at who signed it. Raises `InvalidFile` as `open_envelope` does."""
    if len(data) > MAX_JSON_BYTES:
        raise InvalidFile(f"this envelope holds {len(data):,} bytes; at most {MAX_JSON_BYTES:,} are read")
    return _statement(decoded(_parsed(data, _Envelope, "envelope").payload, "payload of this envelope"))


def decoded(text: str, what: str) -> bytes:
    """The bytes of standard base64 (RFC 4648, section 4) with its padding, in the one text that it has for them."""
    try:
        found = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        found = b""
    if base64.b64encode(found).decode() != text:
        raise InvalidFile(f"the {what} is not in standard base64")
    return found


def _statement(payload: bytes) -> Statement:
    found = _parsed(payload, _Statement, "statement")
    subjects = {subject.name: subject.digest.sha256 for subject in found.subject}
    if list(subjects) != sorted(subjects) or len(subjects) < len(found.subject):
        raise InvalidFile("the subjects of this statement are not in the order of their names, each once")
    return Statement(subjects, found.predicateType, found.predicate)


Found = TypeVar("Found", bound=_Strict)


def _parsed(data: bytes, kind: type[Found], what: str) -> Found:
    try:
        document = json.loads(data.decode(), object_pairs_hook=_once)
        if canonical_json(document) != data:
            raise InvalidFile(f"this {what} is not in canonical form (RFC 8785)")
        return kind.model_validate(document)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise InvalidFile(f"this is no {what}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    except (ValueError, RecursionError) as error:
        raise InvalidFile(f"this is no {what}: {one_line(error)}") from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("it names a key twice")
    return found
