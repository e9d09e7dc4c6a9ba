"""Time-stamps by an authority that openssl plays: what verifies, and that nothing changed does."""

from __future__ import annotations

import hashlib
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from authority import STAMPING, Authority
from cryptography.x509.oid import ExtendedKeyUsageOID

from whorl.attest.stamp import check_stamp, new_nonce, query, read_roots
from whorl.errors import InvalidFile, UsageError

DIGEST = hashlib.sha256(b"a claim").digest()
NONCE = 0x1234567890ABCDEF


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("tsa") / "one")


@pytest.fixture(scope="module")
def answer(authority):
    return authority.answer(query(DIGEST, NONCE))


def test_a_query_is_what_openssl_reads(authority, tmp_path):
    for nonce in (0, 127, 128, NONCE, (1 << 63) - 1, new_nonce()):
        (tmp_path / "q.tsq").write_bytes(query(DIGEST, nonce))
        command = ["openssl", "ts", "-query", "-in", str(tmp_path / "q.tsq"), "-text"]
        told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        assert "Hash Algorithm: sha256" in told
        assert "Certificate required: yes" in told
        assert f"Nonce: 0x{nonce:0{len(f'{nonce:x}') + len(f'{nonce:x}') % 2}X}" in told or nonce == 0
    assert len({new_nonce() for _ in range(100)}) == 100


def test_a_stamp_verifies(authority, answer):
    roots = read_roots(authority.root)
    stamp = check_stamp(answer, DIGEST, roots, nonce=NONCE, policy="1.2.3.4.1")
    assert abs(stamp.time - datetime.now(UTC)) < timedelta(minutes=10)
    assert stamp.accuracy == timedelta(seconds=1, milliseconds=500, microseconds=250)
    assert (stamp.policy, stamp.authority) == ("1.2.3.4.1", "CN=tsa")
    token = authority.answer(query(DIGEST, NONCE), "-token_out")
    assert check_stamp(token, DIGEST, roots).authority == stamp.authority


@pytest.mark.parametrize(("kind", "hash_of"), [("RSA", "sha256"), ("EC", "sha1"), ("EC", "sha512")])
def test_authorities_of_other_kinds(tmp_path, kind, hash_of):
    other = Authority(tmp_path / "other", kind=kind, hash_of_certificate=hash_of)
    assert check_stamp(other.answer(query(DIGEST, 1)), DIGEST, read_roots(other.root)).policy == "1.2.3.4.1"


def refuse(why, data, *more, **options):
    with pytest.raises(InvalidFile, match=why) as refused:
        check_stamp(data, *more, **options)
    assert refused.value.exit_code == 7
    assert "\n" not in str(refused.value)


def test_what_is_not_asked_for_is_refused(authority, answer):
    roots = read_roots(authority.root)
    refuse("does not verify: it is over other bytes", answer, hashlib.sha256(b"another claim").digest(), roots)
    refuse("does not verify: Nonce", answer, DIGEST, roots, nonce=NONCE + 1)
    refuse("policy 1.2.3.4.1, not 1.2.3.4.2", answer, DIGEST, roots, policy="1.2.3.4.2")
    refuse(
        "not over a SHA-256", authority.answer(query_of_sha512(b"a claim")), hashlib.sha512(b"a claim").digest(), roots
    )
    with pytest.raises(UsageError, match="--tsa-root"):
        check_stamp(answer, DIGEST, [])


def query_of_sha512(data):
    from rfc3161_client import HashAlgorithm, TimestampRequestBuilder

    return TimestampRequestBuilder().data(data).hash_algorithm(HashAlgorithm.SHA512).build().as_bytes()


def test_who_is_no_authority_of_the_user_is_refused(authority, answer, tmp_path):
    same_names = Authority(tmp_path / "same names")
    refuse("does not verify", answer, DIGEST, read_roots(same_names.root))
    assert check_stamp(answer, DIGEST, [*read_roots(same_names.root), *read_roots(authority.root)])
    not_asked = query(DIGEST, 1)
    not_asked = not_asked[:1] + bytes([not_asked[1] - 3]) + not_asked[2:-3]  # without certReq
    refuse("does not verify", same_names.answer(not_asked), DIGEST, read_roots(same_names.root))


def test_a_signature_that_is_for_another_use_is_refused(authority, tmp_path):
    """Tokens that openssl signs as any message, with and without the hash of the certificate among what is signed."""
    content = authority.content(authority.answer(query(DIGEST, NONCE), "-token_out"))
    roots = read_roots(authority.root)
    assert check_stamp(authority.sign(content, "-cades"), DIGEST, roots, nonce=NONCE).authority == "CN=tsa"
    refuse("does not name its certificate", authority.sign(content), DIGEST, roots)
    for uses in ((*STAMPING, ExtendedKeyUsageOID.EMAIL_PROTECTION), (ExtendedKeyUsageOID.EMAIL_PROTECTION,)):
        other = Authority(tmp_path / str(len(uses)), uses=uses)
        refuse("does not verify", other.sign(content, "-cades"), DIGEST, read_roots(other.root))


def test_a_refusal_of_the_authority_is_no_stamp(authority):
    sha384 = bytes.fromhex("6086480165030402") + b"\x02"
    asked = query(DIGEST, 1).replace(bytes.fromhex("608648016503040201"), sha384)
    refuse("does not verify", authority.answer(asked), DIGEST, read_roots(authority.root))


def test_a_stamp_outlives_its_certificate_and_is_no_older(authority, tmp_path):
    """The token's own time counts, not the clock of whoever verifies."""
    expired = Authority(tmp_path / "expired", years=(2020, 2022))
    content = authority.content(authority.answer(query(DIGEST, NONCE), "-token_out"))
    at = content.index(b"\x18\x0f") + 2
    for year, valid in ((2019, False), (2021, True), (2023, False)):
        dated = content[:at] + b"%d0601120000Z" % year + content[at + 15 :]
        token = expired.sign(dated, "-cades")
        if valid:
            assert check_stamp(token, DIGEST, read_roots(expired.root)).time == datetime(year, 6, 1, 12, tzinfo=UTC)
        else:
            refuse("does not verify", token, DIGEST, read_roots(expired.root))


def test_a_kept_stamp_stays_good():
    """``tests/golden/attest`` holds one; no command is needed to verify it."""
    golden = Path(__file__).parents[1] / "golden" / "attest"
    data, roots = (golden / "stamp.tsr").read_bytes(), read_roots(golden / "root.pem")
    stamp = check_stamp(data, DIGEST, roots, nonce=7)
    assert (stamp.time.year, stamp.serial, stamp.policy) == (2026, 2, "1.2.3.4.1")
    refuse("does not verify", data, hashlib.sha256(b"another claim").digest(), roots)


def test_every_single_bit_of_a_stamp(authority, answer):
    roots = read_roots(authority.root)
    assert check_stamp(answer, DIGEST, roots)
    for bit in range(8 * len(answer)):
        changed = bytearray(answer)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(InvalidFile):
            check_stamp(bytes(changed), DIGEST, roots)


def test_what_is_no_stamp(authority, answer, tmp_path):
    roots = read_roots(authority.root)
    for data in (b"", b"\x30", b"\x30\x80", bytes(1000), answer[:-1], answer + b"\x00", b"\x30" * 5000, b"\x06\x00"):
        refuse("does not verify", data, DIGEST, roots)
    refuse("at most", bytes(1 << 20), DIGEST, roots)
    (tmp_path / "none.pem").write_bytes(b"none")
    with pytest.raises(InvalidFile, match="no certificates"):
        read_roots(tmp_path / "none.pem")
    for digest, nonce in ((b"short", 1), (DIGEST, 1 << 63), (DIGEST, -1)):
        with pytest.raises(UsageError):
            query(digest, nonce)
