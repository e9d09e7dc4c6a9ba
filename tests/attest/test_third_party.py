"""whorl's files, checked by one who read docs/claims-formats.md alone: no line of the verifier knows whorl."""

from __future__ import annotations

import hashlib
import json
import random
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import sixty_lines as theirs
from cryptography.exceptions import InvalidSignature


@pytest.fixture(scope="module")
def ours(tmp_path_factory):
    """What an owner, a judge and a log publish: files alone."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    from whorl.attest.checkpoint import cosign
    from whorl.attest.draw import Draw, commitment
    from whorl.attest.envelope import Statement, seal
    from whorl.attest.log import Log

    folder = tmp_path_factory.mktemp("published")
    key, witness = (Ed25519PrivateKey.from_private_bytes(bytes([n]) * 32) for n in (1, 2))
    pem = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    chance = random.Random(0)
    envelopes, draws = [], []
    log = Log.create(folder / "log.sqlite", "example.org/log", key)
    for number in range(11):
        predicate = {"n": 200, "words": ["ä\u2028", None, 1e-7, True], "k": number}
        envelopes.append(seal(Statement({"net": chance.randbytes(32).hex()}, "urn:whorl:claim:v1", predicate), [key]))
        log.append(envelopes[-1], key)
        claim, roles = hashlib.sha256(envelopes[-1]).hexdigest(), ["owner", "suspect"][: 1 + number % 2]
        nonces = {role: chance.randbytes(32) for role in (*roles, "judge")}
        commits = [(role, "commits", commitment(role, claim, nonces[role])) for role in ("judge", *roles)]
        ends = [(role, "reveals", nonces[role].hex()) for role in (*roles, "judge")]
        ends = [(role, "withholds", "") if role == "suspect" and number % 4 == 1 else (role, *e) for role, *e in ends]
        draws.append(Draw(claim, (*commits, *ends)))
    log.keep(cosign(log.checkpoint(), "witness", witness, 1_790_000_000), 11, witness.public_key())
    return pem, envelopes, draws, log


def test_the_verifier_is_short_and_knows_no_whorl():
    source = Path(theirs.__file__).read_text(encoding="utf-8")
    body = source.partition("\n\n")[2]
    assert len([line for line in body.splitlines() if line.strip()]) <= 60
    used = {name.partition(".")[0] for name in re.findall(r"^(?:import|from) ([\w.]+)", body, re.MULTILINE)}
    assert used == {"base64", "hashlib", "json", "cryptography"}


def test_envelopes(ours):
    pem, envelopes, *_ = ours
    for number, data in enumerate(envelopes):
        assert theirs.envelope(data, pem)["predicate"]["k"] == number
    changed = json.loads(envelopes[0])
    changed["payload"] = json.loads(envelopes[1])["payload"]
    with pytest.raises(InvalidSignature):
        theirs.envelope(json.dumps(changed), pem)


def test_draws(ours):
    for draw in ours[2]:
        seed = theirs.draw(json.loads(json.dumps(draw.document())))
        assert seed == draw.seed
        assert theirs.indices(seed, 200, 30, "akh") == draw.indices(200, 30, "akh")
        for choices in (3, 10, 1000):
            stream = theirs.words(seed, b"labels", b"m")
            assert [theirs.below(stream, choices) for _ in range(100)] == draw.labels(100, choices, "m")


def test_logs(ours):
    pem, envelopes, _, log = ours
    for size in range(1, 12):
        n, root = theirs.checkpoint(log.note(size), pem)
        assert n == size
        for i in range(n):
            theirs.included(envelopes[i], i, n, log.inclusion(i, n), root)
            with pytest.raises(AssertionError):
                theirs.included(envelopes[i] + b" ", i, n, log.inclusion(i, n), root)


def test_openssl_agrees_on_a_time_stamp():
    # The command is the second opinion; whorl's own on the same file is `test_a_kept_stamp_stays_good`, everywhere.
    if shutil.which("openssl") is None:
        pytest.skip("the openssl command is missing, which is the other verifier")
    golden = Path(__file__).parents[1] / "golden" / "attest"
    for data, agreed in ((b"a claim", True), (b"another claim", False)):
        digest = hashlib.sha256(data).hexdigest()
        command = ["ts", "-verify", "-digest", digest, "-in", "stamp.tsr", "-CAfile", "root.pem"]
        done = subprocess.run(["openssl", *command], cwd=golden, capture_output=True, timeout=60)
        assert (done.returncode == 0) == agreed, done.stderr


def test_the_page_says_what_the_verifier_does():
    """Every string that is hashed or signed stands on the page, as it stands here."""
    page = (Path(__file__).parents[2] / "docs" / "claims-formats.md").read_text(encoding="utf-8")
    for text in ("DSSEv1", "whorl/commit/v1/", "whorl/draw/v1", '"whorl/"', '"/v1"', "floor(2^64 / k)", "0x0A ‖ 0x01"):
        assert text in page
