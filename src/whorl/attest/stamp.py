"""Time-stamps of RFC 3161: a query for any authority, and its answer verified offline against given roots.

A token says that bytes of this SHA-256 existed at its time. It is verified as of that time, so that it outlives the
certificate of the authority. No root is taken from the system or from a list: whoever judges says whom he trusts. What
no signature covers is not told (words of the status, certificates beside the chain).

Source: RFC 3161, sections 2.4.1 and 2.4.2, updated by RFC 5816 (ESSCertIDv2); RFC 5652, section 5 (SignedData).
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

from whorl.errors import InvalidFile, MissingExtra, UsageError
from whorl.storage import check_size, one_line

try:
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding
    from cryptography.x509.oid import ExtendedKeyUsageOID
    from rfc3161_client import TimeStampResponse, VerificationError, VerifierBuilder, decode_timestamp_response
except ImportError:
    raise MissingExtra("verifying time-stamps", "claims") from None

__all__ = ["MOST_BYTES", "Stamp", "check_stamp", "new_nonce", "query", "read_roots"]

MOST_BYTES: Final = 256 << 10  # of a token with all the certificates that its authority likes to add
MOST_ROOTS: Final = 100
SHA256: Final = bytes.fromhex("300d06096086480165030402010500")  # AlgorithmIdentifier, with its NULL
SHA256_OID: Final = "2.16.840.1.101.3.4.2.1"
GRANTED: Final = bytes.fromhex("3003020100")  # PKIStatusInfo: granted
TOLD: Final = {
    "verifying certificates": "no authority under the given roots signed it, as it stands and at its time",
    "Mismatch between messages": "it is over other bytes than this file's",
}
"""What a verifier's own words mean."""
UNSORTED: Final = (
    "its certificates do not stand in the order that DER asks for, as openssl's own authority writes them where its "
    "configuration has a line certs=; ask an authority for one without"
)
CERT_V1: Final = bytes.fromhex("060b2a864886f70d010910020c")  # id-aa-signingCertificate
CERT_V2: Final = bytes.fromhex("060b2a864886f70d010910022f")  # id-aa-signingCertificateV2
ALGORITHMS: Final = {  # digest of a SignerInfo: what may sign by it (OIDs in DER, without tag and length)
    bytes.fromhex(digest): tuple(bytes.fromhex(each) for each in signs)
    for digest, signs in {
        "608648016503040201": ("2a8648ce3d040302", "2a864886f70d01010b", "2a864886f70d010101"),  # SHA-256
        "608648016503040202": ("2a8648ce3d040303", "2a864886f70d01010c", "2a864886f70d010101"),  # SHA-384
        "608648016503040203": ("2a8648ce3d040304", "2a864886f70d01010d", "2a864886f70d010101"),  # SHA-512
    }.items()
}


@dataclass(frozen=True)
class Stamp:
    """A verified time-stamp.

    ``time`` (UTC) may be wrong by ``accuracy``, None where the authority does not say; ``policy`` is its policy's OID,
    ``serial`` its number of the token, ``authority`` the subject of its certificate (RFC 4514).
    """

    time: datetime
    accuracy: timedelta | None
    policy: str
    serial: int
    authority: str


def new_nonce() -> int:
    """A number of 63 bits for one query, from the system's randomness; the answer has to repeat it."""
    return secrets.randbits(63)


def query(digest: bytes, nonce: int) -> bytes:
    """A TimeStampReq in DER (RFC 3161, 2.4.1), as for ``curl -H 'Content-Type: application/timestamp-query'``.

    Parameters:
        digest: SHA-256, 32 bytes. nonce: at least 0 and below 2^63.
    """
    if len(digest) != 32 or not 0 <= nonce < 1 << 63:
        raise UsageError("a time-stamp is asked for a SHA-256 of 32 bytes and a nonce below 2^63")
    imprint = _wrapped(0x30, SHA256 + _wrapped(0x04, digest))
    number = nonce.to_bytes(nonce.bit_length() // 8 + 1, "big")
    certificates_please = _wrapped(0x01, b"\xff")
    return _wrapped(0x30, _wrapped(0x02, b"\x01") + imprint + _wrapped(0x02, number) + certificates_please)


def read_roots(path: str | Path) -> list[x509.Certificate]:
    """The certificates of a PEM file. Raises `InvalidFile` where there are none, or more than 100."""
    check_size(path, MOST_BYTES)
    try:
        roots = x509.load_pem_x509_certificates(Path(path).read_bytes())
    except ValueError:
        roots = []
    if not 0 < len(roots) <= MOST_ROOTS:
        raise InvalidFile(f"{path} holds no certificates in PEM, or more than {MOST_ROOTS}; give the authority's root")
    return roots


def check_stamp(
    data: bytes,
    digest: bytes,
    roots: Sequence[x509.Certificate],
    *,
    nonce: int | None = None,
    policy: str | None = None,
) -> Stamp:
    """Verify an authority's answer (TimeStampResp), or the token alone, in DER.

    Parameters:
        digest: SHA-256 of what was stamped, 32 bytes.
        roots: certificates that the user trusts to name an authority.
        nonce: that of the query; None where it was not kept.
        policy: the OID of the one policy that is accepted, as in ``1.2.3.4.1``; None for any.

    Raises:
        InvalidFile: not a token, not granted, over other bytes, not signed by an authority under these roots, or not
            for this nonce or policy.
    """
    if not roots:
        raise UsageError("a time-stamp is verified against roots; give the authority's (--tsa-root root.pem)")
    if len(data) > MOST_BYTES:
        raise InvalidFile(f"this time-stamp holds {len(data):,} bytes; at most {MOST_BYTES:,} are read")
    try:
        # A token begins with its type, an answer with its status, which is a sequence.
        answer = _wrapped(0x30, GRANTED + data) if _parts(data)[0].startswith(b"\x06") else data
        response = decode_timestamp_response(answer)
        VerifierBuilder(roots=list(roots), nonce=nonce).build().verify(response, digest)
        return _checked(response, policy)
    except VerificationError as error:
        told = next((words for of, words in TOLD.items() if of in str(error)), one_line(error))
        raise InvalidFile(f"this time-stamp does not verify: {told}") from None
    except (ValueError, TypeError, IndexError, OverflowError, x509.ExtensionNotFound) as error:
        told = UNSORTED if "InvalidSetOrdering" in str(error) else one_line(error)
        raise InvalidFile(f"this time-stamp does not verify: {told}") from None


def _checked(response: TimeStampResponse, policy: str | None) -> Stamp:
    """What the verifier leaves open: the hash in use, versions, the certificate that the signature names, its use."""
    told, signed = response.tst_info, response.signed_data
    if told.message_imprint.hash_algorithm.dotted_string != SHA256_OID:
        raise ValueError("it is not over a SHA-256")
    if policy is not None and told.policy.dotted_string != policy:
        raise ValueError(f"it was given under the policy {told.policy.dotted_string}, not {policy}")
    (signer,) = signed.signer_infos
    if (signed.version, signer.version, told.version) != (3, 1, 1):
        raise ValueError("it is of another version than RFC 3161 has")
    certificates = [x509.load_der_x509_certificate(each) for each in signed.certificates]
    mine = [each for each in certificates if (each.issuer, each.serial_number) == (signer.issuer, signer.serial_number)]
    if len(mine) != 1:
        raise ValueError("it does not hold the one certificate of its signer; ask with certReq")
    use = mine[0].extensions.get_extension_for_class(x509.ExtendedKeyUsage)
    if not use.critical or list(use.value) != [ExtendedKeyUsageOID.TIME_STAMPING]:
        raise ValueError("its certificate is not one for time-stamping alone")
    _check_signer(response.time_stamp_token(), mine[0])
    accuracy: Any = told.accuracy  # which the authority may leave out, whatever its type says
    if accuracy is not None:
        seconds, millis, micros = (part or 0 for part in (accuracy.seconds, accuracy.millis, accuracy.micros))
        accuracy = timedelta(seconds=seconds, milliseconds=millis, microseconds=micros)
    return Stamp(
        told.gen_time, accuracy, told.policy.dotted_string, told.serial_number, mine[0].subject.rfc4514_string()
    )


def _check_signer(token: bytes, certificate: x509.Certificate) -> None:
    """Whether the signed attributes name the certificate by its hash (RFC 5816), and the algorithms fit each other."""
    (content,) = _parts(token)
    (signed,) = _parts(_parts(content)[1])
    (signer,) = _parts(_parts(signed)[-1])
    _version, _issuer, digest, attributes, algorithm, *_ = _parts(signer)
    der = certificate.public_bytes(Encoding.DER)
    hashed = [hashlib.new(name, der, usedforsecurity=False).digest() for name in ("sha1", "sha256", "sha384", "sha512")]
    if not any(
        oid in attributes and each in attributes for oid, each in zip((CERT_V1, *[CERT_V2] * 3), hashed, strict=True)
    ):
        raise ValueError("its signature does not name its certificate")
    if _parts(algorithm)[0] not in ALGORITHMS.get(_parts(digest)[0], ()):
        raise ValueError("its signature is made by algorithms that do not go together")


def _wrapped(tag: int, content: bytes) -> bytes:
    """One value of DER."""
    size = len(content)
    length = b"" if size < 128 else size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([tag, 128 + len(length)]) + length + content if length else bytes([tag, size]) + content


def _parts(values: bytes) -> list[bytes]:
    """The contents of the values of DER that follow each other."""
    found: list[bytes] = []
    at = 0
    while at < len(values):
        size, start = values[at + 1], at + 2
        if size >= 128:
            start += size - 128
            size = int.from_bytes(values[at + 2 : start], "big")
        if (at := start + size) > len(values):
            raise ValueError("it is cut off")
        found.append(values[start:at])
    return found
