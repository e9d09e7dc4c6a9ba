"""Keys, canonical JSON and envelopes: published vectors, and that nothing changed is opened."""

from __future__ import annotations

import base64
import json
import os

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from hypothesis import given, settings
from hypothesis import strategies as st

from whorl.attest.envelope import PAYLOAD_TYPE, Statement, encoded, open_envelope, pre_authentication, seal
from whorl.attest.keys import key_id, read_private_key, read_public_key, signature_fits
from whorl.errors import InvalidFile, UsageError
from whorl.storage import canonical_json

KEYS = [Ed25519PrivateKey.from_private_bytes(bytes([n]) * 32) for n in range(3)]
PUBLIC = [key.public_key() for key in KEYS]
STATEMENT = Statement({"net": "ab" * 32, "file": "cd" * 32}, "urn:whorl:claim:v1", {"n": 3, "words": ["ä", None, 0.5]})
ON_CURVE = ec.derive_private_key(7, ec.SECP256R1())


def test_the_vector_of_rfc_8785():
    """Section 3.2.2 to 3.2.4."""
    text = (
        '{"numbers": [333333333.33333329, 1E30, 4.50, 2e-3, 0.000000000000000000000000001],'
        r'"string": "\u20ac$\u000F\u000aA' + "'" + r'\u0042\u0022\u005c\\\"\/", "literals": [null, true, false]}'
    )
    expected = (
        '{"literals":[null,true,false],"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27],'
        r'"string":"€$\u000f\nA' + "'" + r'B\"\\\\\"/"}'
    )
    assert canonical_json(json.loads(text)) == expected.encode()
    order = ["\r", "1", "\x80", "ö", "€", "\U0001f600", "\ufb33"]  # by UTF-16, section 3.2.3
    assert list(json.loads(canonical_json(dict.fromkeys(sorted(order), 0)))) == order


def test_the_vector_of_dsse():
    """*Test Vectors* of the DSSE protocol: PAE, and an ECDSA signature on P-256."""
    message = pre_authentication("http://example.com/HelloWorld", b"hello world")
    assert message == b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    assert pre_authentication("ä", b"") == b"DSSEv1 2 \xc3\xa4 0 "
    public = ec.EllipticCurvePublicNumbers(
        46950820868899156662930047687818585632848591499744589407958293238635476079160,
        5640078356564379163099075877009565129882514886557779369047442380624545832820,
        ec.SECP256R1(),
    ).public_key()
    raw = "A3JqsQGtVsJ2O2xqrI5IcnXip5GToJ3F+FnZ+O88SjtR6rDAajabZKciJTfUiHqJPcIAriEGAHTVeCUjW2JIZA=="
    r, s = (int.from_bytes(base64.b64decode(raw)[at : at + 32], "big") for at in (0, 32))
    assert signature_fits(public, encode_dss_signature(r, s), message)
    assert not signature_fits(public, encode_dss_signature(r, s), message + b"!")


def test_an_envelope_opens():
    data = seal(STATEMENT, KEYS[:1])
    assert open_envelope(data, PUBLIC) == (STATEMENT, (key_id(PUBLIC[0]),))
    assert seal(STATEMENT, KEYS[:1]) == data
    several = seal(STATEMENT, KEYS)
    assert seal(STATEMENT, KEYS[::-1]) == several
    assert open_envelope(several, PUBLIC)[1] == tuple(sorted(map(key_id, PUBLIC)))
    assert open_envelope(several, PUBLIC[1:2])[1] == (key_id(PUBLIC[1]),)
    document = json.loads(data)
    assert json.loads(base64.b64decode(document["payload"])) == {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [
            {"name": "file", "digest": {"sha256": "cd" * 32}},
            {"name": "net", "digest": {"sha256": "ab" * 32}},
        ],
        "predicateType": "urn:whorl:claim:v1",
        "predicate": STATEMENT.predicate,
    }


def enveloped(payload: bytes, *signers, kind=PAYLOAD_TYPE) -> bytes:
    message = pre_authentication(kind, payload)
    signatures = []
    for key in signers:
        made = (
            key.sign(message, ec.ECDSA(SHA256())) if isinstance(key, ec.EllipticCurvePrivateKey) else key.sign(message)
        )
        signatures.append({"keyid": key_id(key.public_key()), "sig": base64.b64encode(made).decode()})
    signatures.sort(key=lambda each: each["keyid"])
    document = {"payload": base64.b64encode(payload).decode(), "payloadType": kind, "signatures": signatures}
    return canonical_json(document)


def test_a_key_on_p_256_verifies():
    data = enveloped(encoded(STATEMENT), ON_CURVE)
    assert open_envelope(data, [ON_CURVE.public_key()]) == (STATEMENT, (key_id(ON_CURVE.public_key()),))
    with pytest.raises(InvalidFile, match="none of the keys given"):
        open_envelope(data, PUBLIC)


@pytest.mark.parametrize("keys", [KEYS[:1], KEYS[:2]])
def test_every_single_bit_of_an_envelope(keys):
    """Refused, or a signature of another key than before, which says nothing, and the statement has a signer less."""
    data = seal(STATEMENT, keys)
    known = [key.public_key() for key in keys]
    _, signers = open_envelope(data, known)
    fewer = 0
    for bit in range(8 * len(data)):
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        try:
            statement, left = open_envelope(bytes(changed), known)
        except InvalidFile:
            continue
        assert statement == STATEMENT
        assert set(left) < set(signers)
        fewer += 1
    assert bool(fewer) == (len(keys) > 1)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.binary(max_size=300))
def test_no_bytes_end_in_a_crash(data):
    for each in (data, enveloped(data, KEYS[0])):
        with pytest.raises(InvalidFile):
            open_envelope(each, PUBLIC)


WHOLE = json.loads(encoded(STATEMENT))


@pytest.mark.parametrize(
    ("payload", "why"),
    [
        (encoded(STATEMENT).replace(b'"n":3', b'"n":3,"n":3'), "names a key twice"),
        (encoded(STATEMENT).replace(b'"n":3', b'"n": 3'), "canonical form"),
        (encoded(STATEMENT).replace(b'"n":3', b'"n":NaN'), "canonical"),
        (encoded(STATEMENT).replace(b'"n":3', b'"n":3e400'), "canonical"),
        (encoded(STATEMENT).replace(b'"n":3', b'"n":99999999999999999'), "canonical"),
        (b'{"n":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "."),
        (canonical_json(WHOLE | {"more": 1}), "more"),
        (canonical_json(WHOLE | {"_type": "https://in-toto.io/Statement/v0.1"}), "_type"),
        (canonical_json(WHOLE | {"subject": []}), "subject"),
        (canonical_json(WHOLE | {"subject": WHOLE["subject"][::-1]}), "order of their names"),
        (canonical_json(WHOLE | {"subject": WHOLE["subject"][:1] * 2}), "each once"),
        (canonical_json(WHOLE | {"subject": [{"name": "a", "digest": {"sha256": "AB" * 32}}]}), "sha256"),
        (canonical_json(WHOLE | {"subject": [{"name": "a", "digest": {"sha256": "ab" * 32 + "\n"}}]}), "sha256"),
        (canonical_json(WHOLE | {"predicate": [1]}), "predicate"),
        (canonical_json(WHOLE | {"predicateType": 1}), "predicateType"),
        (b"[]", "no statement"),
        (b"\xff", "no statement"),
        (b"", "no envelope: payload"),
    ],
)
def test_a_signed_payload_must_be_a_statement(payload, why):
    with pytest.raises(InvalidFile, match=why):
        open_envelope(enveloped(payload, KEYS[0]), PUBLIC)


def test_an_envelope_must_be_one():
    document = json.loads(seal(STATEMENT, KEYS[:2]))
    first, second = document["signatures"]
    unpadded = {**first, "sig": first["sig"].rstrip("=")}
    spaced = {**first, "sig": first["sig"][:4] + "\n" + first["sig"][4:]}
    for changed, why in (
        ({"signatures": []}, "signatures"),
        ({"signatures": [second, first]}, "order of their keys"),
        ({"signatures": [first, first]}, "each once"),
        ({"signatures": [first] * 17}, "signatures"),
        ({"signatures": [unpadded]}, "standard base64"),
        ({"signatures": [spaced]}, "standard base64"),
        ({"signatures": [{**first, "sig": second["sig"]}]}, "does not fit"),
        ({"signatures": [{**first, "keyid": first["keyid"].upper()}]}, "keyid"),
        ({"payloadType": "text/plain"}, "payloadType"),
        ({"payload": document["payload"].replace("=", "") + "===="}, "standard base64"),
        ({"more": 1}, "more"),
    ):
        with pytest.raises(InvalidFile, match=why):
            open_envelope(canonical_json(document | changed), PUBLIC)
    with pytest.raises(InvalidFile, match="canonical form"):
        open_envelope(json.dumps(document).encode(), PUBLIC)
    with pytest.raises(InvalidFile, match="at most"):
        open_envelope(bytes((64 << 20) + 1), PUBLIC)
    with pytest.raises(InvalidFile, match="none of the keys given"):
        open_envelope(seal(STATEMENT, KEYS), [])


def test_one_signature_of_a_known_key_that_does_not_fit_is_enough():
    """That another key's fits does not save it; were that key unknown, it would."""
    document = json.loads(seal(STATEMENT, KEYS[:2]))
    bad = next(each for each in document["signatures"] if each["keyid"] == key_id(PUBLIC[0]))
    bad["sig"] = base64.b64encode(bytes(64)).decode()
    with pytest.raises(InvalidFile, match="does not fit"):
        open_envelope(canonical_json(document), PUBLIC[:2])
    assert open_envelope(canonical_json(document), PUBLIC[1:2])[1] == (key_id(PUBLIC[1]),)


def test_what_cannot_be_sealed_is_refused():
    for statement in (
        Statement({}, "urn:a", {}),
        Statement({"net": "abc"}, "urn:a", {}),
        Statement({"net": "ab" * 32}, "", {}),
        Statement({"net": "ab" * 32}, "urn:a", {"n": float("nan")}),
    ):
        with pytest.raises(UsageError):
            seal(statement, KEYS)
    for keys in ([], [KEYS[0], KEYS[0]]):
        with pytest.raises(UsageError, match="one key or more"):
            seal(STATEMENT, keys)


def pem(key, password=None):
    form = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, form)


def test_private_keys_are_kept_close(tmp_path):
    path = tmp_path / "key.pem"
    path.write_bytes(pem(KEYS[0]))
    path.chmod(0o600)
    assert key_id(read_private_key(path).public_key()) == key_id(PUBLIC[0])
    if os.name == "posix":
        for mode in (0o640, 0o604, 0o644, 0o620):
            path.chmod(mode)
            with pytest.raises(UsageError, match=f"chmod 600 {path}"):
                read_private_key(path)
    path.write_bytes(pem(KEYS[0], b"secret"))
    assert key_id(read_private_key(path, b"secret").public_key()) == key_id(PUBLIC[0])
    for password, why in ((None, "give its password"), (b"other", "does not open")):
        with pytest.raises(UsageError, match=why):
            read_private_key(path, password)


def test_keys_of_other_kinds_are_refused(tmp_path):
    path = tmp_path / "key.pem"
    spki = (serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    for key in (rsa.generate_private_key(65537, 2048), ec.derive_private_key(7, ec.SECP384R1())):
        path.write_bytes(pem(key))
        path.chmod(0o600)
        with pytest.raises(InvalidFile, match="not of Ed25519"):
            read_private_key(path)
        path.write_bytes(key.public_key().public_bytes(*spki))
        with pytest.raises(InvalidFile, match="neither of Ed25519"):
            read_public_key(path)
    for key in (KEYS[0], ON_CURVE):
        path.write_bytes(key.public_key().public_bytes(*spki))
        assert key_id(read_public_key(path)) == key_id(key.public_key())
    path.write_bytes(pem(ON_CURVE))
    with pytest.raises(InvalidFile, match="genpkey -algorithm ed25519"):
        read_private_key(path)
    for data in (b"", b"none", pem(KEYS[0]).replace(b"M", b"N")):
        path.write_bytes(data)
        for read in (read_private_key, read_public_key):
            with pytest.raises(InvalidFile):
                read(path)
    path.write_bytes(bytes(1 << 20))
    with pytest.raises(InvalidFile, match="at most"):
        read_public_key(path)
    for read in (read_private_key, read_public_key):
        with pytest.raises(UsageError, match="no such file"):
            read(tmp_path / "nowhere.pem")
