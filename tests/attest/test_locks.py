"""Locked files: read back by who may, by hand too, and refused in one line where anything was cut, moved or changed."""

from __future__ import annotations

import hashlib
import json
import secrets
import tracemalloc

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from whorl.attest import locks
from whorl.attest.locks import FRAME, TAG, X25519PrivateKey, X25519PublicKey, lock, read_header, unlock
from whorl.errors import InvalidFile, UsageError
from whorl.storage import canonical_json

ONE, OTHER, THIRD = (X25519PrivateKey.from_private_bytes(bytes([n]) * 32) for n in (1, 2, 3))


def locked(folder, size=2 * FRAME + 5, licence="L-1", name="plain"):
    plain = folder / name
    plain.write_bytes(secrets.token_bytes(size))
    lock(plain, folder / f"{name}.locked", [ONE.public_key(), OTHER.public_key()], licence=licence)
    return plain, folder / f"{name}.locked"


def parts(path):
    """Header, and frames as they lie in the file."""
    data = path.read_bytes()
    start = len(locks.MAGIC) + 4
    end = start + int.from_bytes(data[start - 4 : start], "big")
    body = data[end:]
    return json.loads(data[start:end]), [body[at : at + FRAME + TAG] for at in range(0, len(body), FRAME + TAG)]


def joined(path, header, frames):
    text = canonical_json(header)
    path.write_bytes(locks.MAGIC + len(text).to_bytes(4, "big") + text + b"".join(frames))


@pytest.mark.parametrize("size", [0, 1, FRAME - 1, FRAME, FRAME + 1, 3 * FRAME])
def test_each_recipient_reads_back_what_was_locked(tmp_path, size):
    plain, path = locked(tmp_path, size)
    for key in (ONE, OTHER):
        header = unlock(path, tmp_path / "back", key)
        assert (tmp_path / "back").read_bytes() == plain.read_bytes()
    assert header == read_header(path)
    assert header.digest == hashlib.sha256(plain.read_bytes()).hexdigest()
    assert (header.licence, header.frames) == ("L-1", max(1, -(-size // FRAME)))
    assert plain.read_bytes()[:64] not in path.read_bytes() or size < 64
    with pytest.raises(UsageError, match="locked for 2 other keys"):
        unlock(path, tmp_path / "none", THIRD)
    assert not (tmp_path / "none").exists()


def test_the_format_is_the_stated_one(tmp_path):
    """Unlocked by hand, as one would who has the page and not the code."""
    plain, path = locked(tmp_path)
    header, frames = parts(path)
    bound = bytes.fromhex(header["digest"]) + b"L-1" + (3).to_bytes(8, "big")
    ephemeral = bytes.fromhex(header["recipients"][1]["ephemeral"])
    shared = OTHER.exchange(X25519PublicKey.from_public_bytes(ephemeral))
    info = b"whorl/lock/v1" + ephemeral + OTHER.public_key().public_bytes_raw() + bound
    wrapping = AESGCM(HKDF(hashes.SHA256(), 32, None, info).derive(shared))
    key = wrapping.decrypt(bytes(12), bytes.fromhex(header["recipients"][1]["sealed"]), bound)
    found = [AESGCM(key).decrypt(n.to_bytes(12, "big"), frame, bound) for n, frame in enumerate(frames)]
    assert b"".join(found) == plain.read_bytes()


def test_what_was_cut_moved_mixed_or_changed_is_refused_and_leaves_nothing(tmp_path):
    _, path = locked(tmp_path, 3 * FRAME)
    _, another = locked(tmp_path, 3 * FRAME, name="another")
    header, frames = parts(path)
    other_header, others = parts(another)
    first = header["recipients"][0]
    flipped = bytes([frames[1][0] ^ 1]) + frames[1][1:]
    cases = {
        "a frame short": (header, frames[:2]),
        "short by a byte": (header, [*frames[:2], frames[2][:-1]]),
        "only a header": (header, []),
        "reordered": (header, [frames[1], frames[0], frames[2]]),
        "repeated": (header, [frames[0], frames[0], frames[2]]),
        "of another file": (header, [frames[0], others[1], frames[2]]),
        "a bit": (header, [frames[0], flipped, frames[2]]),
        "longer": (header, [*frames, b"\0"]),
        "one frame more": (header, [*frames, frames[2]]),
        "count": (header | {"frames": 2}, frames[:2]),
        "licence": (header | {"licence": "L-2"}, frames),
        "digest": (header | {"digest": other_header["digest"]}, frames),
        "another's sealed key": (header | {"recipients": other_header["recipients"]}, frames),
        "low order": (header | {"recipients": [first | {"ephemeral": "0" * 64}]}, frames),
        "no recipients": (header | {"recipients": []}, frames),
        "more fields": (header | {"more": 1}, frames),
        "no digest": (header | {"digest": "abc"}, frames),
        "too many frames": (header | {"frames": 1 << 40}, frames),
        "unprintable licence": (header | {"licence": "a\x1b[2J"}, frames),
    }
    for what, (changed, body) in cases.items():
        joined(path, changed, body)
        with pytest.raises(InvalidFile) as caught:
            unlock(path, tmp_path / "out", ONE)
        assert "\n" not in str(caught.value), what
        assert caught.value.exit_code == 7
    assert sorted(each.name for each in tmp_path.iterdir()) == ["another", "another.locked", "plain", "plain.locked"]


@pytest.mark.parametrize(
    "data", [b"", b"whorl-lock/v1\n", b"whorl-lock/v1\n\xff\xff\xff\xff", b"whorl-lock/v1\n\0\0\0\2{}", b"\0" * 100]
)
def test_what_is_no_locked_file_is_refused(tmp_path, data):
    path = tmp_path / "x"
    path.write_bytes(data)
    with pytest.raises(InvalidFile):
        unlock(path, tmp_path / "out", ONE)


def test_a_header_in_another_form_is_refused(tmp_path):
    _, path = locked(tmp_path, 10)
    header, frames = parts(path)
    text = json.dumps(header, indent=1).encode()
    path.write_bytes(locks.MAGIC + len(text).to_bytes(4, "big") + text + b"".join(frames))
    with pytest.raises(InvalidFile, match="header"):
        unlock(path, tmp_path / "out", ONE)


def test_memory_does_not_grow_with_the_file(tmp_path):
    plain = tmp_path / "plain"
    with plain.open("wb") as file:
        file.truncate(40 * FRAME)
    tracemalloc.start()
    lock(plain, tmp_path / "locked", [ONE.public_key()])
    unlock(tmp_path / "locked", tmp_path / "back", ONE)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8 * FRAME


def test_no_two_locked_files_share_a_key(tmp_path):
    plain, first = locked(tmp_path, 100)
    lock(plain, tmp_path / "again", [ONE.public_key()], licence="L-1")
    assert parts(first)[1] != parts(tmp_path / "again")[1]


def test_what_cannot_be_locked_is_refused(tmp_path):
    plain = tmp_path / "plain"
    plain.write_bytes(b"x")
    public = ONE.public_key()
    for keys, licence, target, message in (
        ([], "", "out", "1..64 recipients"),
        ([public, public], "", "out", "each given once"),
        ([public], "a\nb", "out", "printable"),
        ([public], "a" * 257, "out", "printable"),
        ([public], "", "plain", "write the locked one elsewhere"),
    ):
        with pytest.raises(UsageError, match=message):
            lock(plain, tmp_path / target, keys, licence=licence)
    with pytest.raises(UsageError, match="no such file"):
        lock(tmp_path / "absent", tmp_path / "out", [public])
    assert [each.name for each in tmp_path.iterdir()] == ["plain"]


def test_keys_are_of_x25519_and_private_ones_are_private(tmp_path):
    def write(name, data, mode=0o600):
        (tmp_path / name).write_bytes(data)
        (tmp_path / name).chmod(mode)
        return tmp_path / name

    def private(key, how):
        return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, how)

    def public(key):
        return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    signing = Ed25519PrivateKey.generate()
    known = locks.read_recipient(write("one.pub", public(ONE)))
    assert known.public_bytes_raw() == ONE.public_key().public_bytes_raw()
    for data in (public(signing), private(ONE, NoEncryption()), b"nothing"):
        with pytest.raises(InvalidFile, match="openssl genpkey -algorithm x25519"):
            locks.read_recipient(write("wrong", data))
    clear = write("one.pem", private(ONE, NoEncryption()))
    assert locks.read_unlocking_key(clear).private_bytes_raw() == ONE.private_bytes_raw()
    with pytest.raises(InvalidFile, match="the public half of a key; give the private one"):
        locks.read_unlocking_key(tmp_path / "one.pub")
    with pytest.raises(InvalidFile, match="not of X25519"):
        locks.read_unlocking_key(write("signing.pem", private(signing, NoEncryption())))
    with pytest.raises(UsageError, match="chmod 600"):
        locks.read_unlocking_key(write("open.pem", private(ONE, NoEncryption()), 0o644))
    kept = write("kept.pem", private(ONE, BestAvailableEncryption(b"word")))
    assert locks.read_unlocking_key(kept, b"word").private_bytes_raw() == ONE.private_bytes_raw()
    for password in (None, b"other"):
        with pytest.raises(UsageError, match="password"):
            locks.read_unlocking_key(kept, password)
