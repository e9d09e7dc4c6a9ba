"""``whorl lock`` and ``whorl unlock``."""

from __future__ import annotations

import hashlib
import json

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    PublicFormat,
)


@pytest.fixture
def keys(tmp_path, monkeypatch):
    monkeypatch.setenv("WHORL_KEY_PASSWORD", "a word")
    key = X25519PrivateKey.generate()
    encrypted = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"a word"))
    (tmp_path / "user.pem").write_bytes(encrypted)
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (tmp_path / "user.pub").write_bytes(public)
    return tmp_path


def test_a_file_goes_to_its_recipient(whorl, keys):
    plain = keys / "mine"
    plain.write_bytes(b"weights" * 1000)
    digest = hashlib.sha256(plain.read_bytes()).hexdigest()
    done = whorl("lock", plain, "--recipient", keys / "user.pub", "--licence", "17", "-o", keys / "locked", "--json")
    told = json.loads(done.stdout)
    assert (told["sha256"], told["licence"], told["frames"], len(told["recipients"])) == (digest, "17", 1, 1)
    done = whorl("unlock", keys / "locked", "--key", keys / "user.pem", "-o", keys / "back")
    assert done.exit_code == 0
    assert f"{digest}  licence 17" in done.stdout
    assert (keys / "back").read_bytes() == plain.read_bytes()
    cut = keys / "cut"
    cut.write_bytes((keys / "locked").read_bytes()[:-1])
    done = whorl("unlock", cut, "--key", keys / "user.pem", "-o", keys / "none")
    assert done.exit_code == 7
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (keys / "none").exists()


def test_a_locked_file_is_not_written_over_and_a_missing_key_is_no_damaged_one(whorl, keys):
    plain, locked = keys / "mine", keys / "locked"
    plain.write_bytes(b"weights")
    assert whorl("lock", plain, "--recipient", keys / "user.pub", "-o", locked).exit_code == 0
    kept = locked.read_bytes()
    done = whorl("unlock", locked, "--key", keys / "user.pem", "-o", locked)
    assert (done.exit_code, "read and written over" in done.stderr) == (2, True)
    assert locked.read_bytes() == kept
    done = whorl("lock", plain, "--recipient", keys / "nobody.pub", "-o", keys / "other")
    assert (done.exit_code, done.stderr) == (2, f"error: no such file: {keys / 'nobody.pub'}\n")
    done = whorl("lock", plain, "--recipient", keys / "user.pem", "-o", keys / "other")
    assert (done.exit_code, "no public key of X25519" in done.stderr) == (7, True)
