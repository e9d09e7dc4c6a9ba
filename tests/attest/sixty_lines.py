"""A verifier of what docs/claims-formats.md describes, by one who read that page and nothing else of whorl."""

import base64
import hashlib
import json

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key


def H(*parts):
    return hashlib.sha256(b"".join(parts)).digest()


def envelope(data, pem):
    key, e = load_pem_public_key(pem), json.loads(data)
    name = H(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hex()
    payload, kind = base64.b64decode(e["payload"]), e["payloadType"].encode()
    (signature,) = [each["sig"] for each in e["signatures"] if each["keyid"] == name]
    key.verify(base64.b64decode(signature), b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload))
    return json.loads(payload)


def words(seed, purpose, name):
    c = 0
    while True:
        block = H(b"whorl/", purpose, b"/v1", seed, c.to_bytes(8, "big"), name)
        yield from (int.from_bytes(block[i : i + 8], "big") for i in (0, 8, 16, 24))
        c += 1


def below(stream, k):
    return next(w for w in stream if w < k * (2**64 // k)) % k


def draw(transcript):
    claim, nonces, commits = bytes.fromhex(transcript["claim"]), [], {}
    for role, what, value in transcript["events"]:
        if what == "commits":
            commits[role] = value
        else:
            nonces.append(bytes.fromhex(value) or bytes(32))
            assert not value or commits[role] == H(b"whorl/commit/v1/", role.encode(), claim, nonces[-1]).hex()
    return H(b"whorl/draw/v1", claim, *sorted(nonces))


def indices(seed, n, m, name):
    a, stream = list(range(n)), words(seed, b"indices", name.encode())
    for i in range(m):
        r = below(stream, n - i)
        a[i], a[i + r] = a[i + r], a[i]
    return a[:m]


def checkpoint(note, pem):
    text, lines = note.decode().split("\n\n")
    origin, size, root = text.split("\n")
    raw = load_pem_public_key(pem).public_bytes(Encoding.Raw, PublicFormat.Raw)
    blob = base64.b64decode(lines.split("\n")[0].split(" ")[2])
    assert blob[:4] == H(origin.encode(), b"\n\x01", raw)[:4]
    load_pem_public_key(pem).verify(blob[4:], text.encode() + b"\n")
    return int(size), base64.b64decode(root)


def included(entry, i, n, proof, root):  # from the leaf up; the sizes of the halves say on which side
    def up(i, n, proof):
        if n == 1:
            return H(b"\0", entry) if not proof else None
        k = 1 << (n - 1).bit_length() - 1
        inner = up(i, k, proof[:-1]) if i < k else up(i - k, n - k, proof[:-1])
        return H(b"\1", inner, proof[-1]) if i < k else H(b"\1", proof[-1], inner)

    assert up(i, n, proof) == root
