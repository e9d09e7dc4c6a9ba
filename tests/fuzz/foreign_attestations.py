"""Envelopes, draws, checkpoints, logs and stamps that strangers made; what a key seals is sealed after the change."""

from __future__ import annotations

import base64
import hashlib
import json
import random
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from foreign_cases import Case, in_file
from mutated_inputs import changed_bytes, changed_json, changed_value

from whorl.attest.checkpoint import Checkpoint, cosign, read_checkpoint, sign_checkpoint
from whorl.attest.draw import Draw, commitment
from whorl.attest.envelope import PAYLOAD_TYPE, Statement, open_envelope, pre_authentication, seal
from whorl.attest.keys import key_id
from whorl.attest.log import Log
from whorl.attest.stamp import check_stamp, read_roots
from whorl.storage import canonical_json, read_json

GOLDEN = Path(__file__).parents[1] / "golden" / "attest"
KEY, WITNESS = (Ed25519PrivateKey.from_private_bytes(bytes([n]) * 32) for n in (1, 2))
STATEMENT = Statement({"net": "ab" * 32}, "urn:whorl:claim:v1", {"families": [{"n": 200, "root": "cd" * 32}], "k": 0})


def canonical(document: object) -> bytes:
    """Canonical where that is possible: a stranger writes what he likes."""
    try:
        return canonical_json(document)
    except ValueError:
        return repr(document).encode()


def envelope(_: Path) -> Case:
    def change(data: bytes, chance: random.Random) -> bytes:
        document = json.loads(data)
        if chance.random() < 0.3:
            return canonical(changed_value(document, chance))
        payload = canonical(changed_value(json.loads(base64.b64decode(document["payload"])), chance))
        signature = base64.b64encode(KEY.sign(pre_authentication(PAYLOAD_TYPE, payload))).decode()
        signatures = [{"keyid": key_id(KEY.public_key()), "sig": signature}]
        return canonical({**document, "payload": base64.b64encode(payload).decode(), "signatures": signatures})

    return Case([seal(STATEMENT, [KEY])], change, lambda data: open_envelope(data, [KEY.public_key()]), 3)


def draw(folder: Path) -> Case:
    claim, nonces = "ab" * 32, {role: hashlib.sha256(role.encode()).digest() for role in ("judge", "owner", "suspect")}
    events = [[role, "commits", commitment(role, claim, nonces[role])] for role in nonces]
    events += [[role, "reveals", nonces[role].hex()] for role in ("suspect", "owner", "judge")]
    document = {"claim": claim, "events": events}
    return Case([document], changed_json, in_file(folder, "draw.json", lambda path: Draw.read(read_json(path))), 3)


def checkpoint(_: Path) -> Case:
    made = Checkpoint("example.org/log", 7, hashlib.sha256(b"root").digest())
    note = (sign_checkpoint(made, KEY) + cosign(made, "witness", WITNESS, 1_790_000_000)).encode()

    def change(data: bytes, chance: random.Random) -> bytes:
        if chance.random() < 0.5:
            return changed_bytes(data, chance)
        text = changed_bytes(made.text.encode(), chance)  # signed as it is
        blob = base64.b64decode(data.split(b"\n\n")[1].split()[2])[:4] + KEY.sign(text)
        return text + "\n— example.org/log ".encode() + base64.b64encode(blob) + b"\n"

    witnesses = {"witness": WITNESS.public_key()}
    return Case([note], change, lambda data: read_checkpoint(data, KEY.public_key(), witnesses), 3)


def log(folder: Path) -> Case:
    made = Log.create(folder / "made.sqlite", "example.org/log", KEY)
    for number in range(3):
        made.append(b"entry %d" % number, KEY)
    made.close()
    data = (folder / "made.sqlite").read_bytes()

    def read(path: Path) -> None:
        Log(path, KEY.public_key()).close()

    return Case([data], changed_bytes, in_file(folder, "log.sqlite", read), 0.5)


def stamp(_: Path) -> Case:
    data, digest = (GOLDEN / "stamp.tsr").read_bytes(), hashlib.sha256(b"a claim").digest()
    roots = read_roots(GOLDEN / "root.pem")

    def read(changed: bytes) -> None:
        check_stamp(changed, digest, roots)
        assert changed == data, "a changed stamp verified"

    return Case([data], changed_bytes, read, 3)
