"""Draws: what is drawn, to the byte; that nobody chooses; what a transcript must be."""

from __future__ import annotations

import hashlib
import json
from itertools import permutations

import numpy as np
import pytest
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from whorl.attest.draw import Draw, commitment, leaf_salt, numbers_below
from whorl.errors import InvalidFile, UsageError

CLAIM = hashlib.sha256(b"claim").hexdigest()
NONCES = {role: hashlib.sha256(role.encode()).digest() for role in ("owner", "suspect", "judge")}
SEED = bytes(range(32))


def transcript(*roles, withhold=(), claim=CLAIM):
    commits = [(role, "commits", commitment(role, claim, NONCES[role])) for role in ("judge", *roles)]
    ends = [
        (role, "withholds", "") if role in withhold else (role, "reveals", NONCES[role].hex())
        for role in (*roles, "judge")
    ]
    return (*commits, *ends)


# The docstring of the module, written again without its code.
def stream(seed, purpose, name):
    counter = 0
    while True:
        block = hashlib.sha256(b"whorl/" + purpose + b"/v1" + seed + counter.to_bytes(8, "big") + name).digest()
        for at in (0, 8, 16, 24):
            yield int.from_bytes(block[at : at + 8], "big")
        counter += 1


def below(words, k):
    largest = (2**64 // k) * k
    while True:
        word = next(words)
        if word < largest:
            return word % k


def shuffled(seed, n, m, name):
    a, words = list(range(n)), stream(seed, b"indices", name)
    for i in range(m):
        r = below(words, n - i)
        a[i], a[i + r] = a[i + r], a[i]
    return a[:m]


def test_the_vectors():
    """These bytes are the format: where this test fails, drawn indices and labels of old claims are lost."""
    draw = Draw(CLAIM, transcript("owner", "suspect"))
    assert draw.seed.hex() == "8f8884850d78e28840734d26b5ddb4877a97ce588f22c5b9edb01216ed4102be"
    assert (
        Draw(CLAIM, transcript("owner")).seed.hex()
        == "d91cfed00f9200438dfa92b3de7f59186b66dfac7034bff449bbddf8110ef8f4"
    )
    assert (
        commitment("owner", CLAIM, NONCES["owner"])
        == "e52f77e54747da512d4de34eb47b0331c3b316b7239ffc6030d87a4060f5d72e"
    )
    assert draw.indices(200, 10, "akh") == [64, 129, 162, 67, 79, 94, 7, 65, 136, 54]
    assert draw.labels(12, 10, "triggers") == [7, 9, 6, 6, 2, 5, 0, 2, 5, 2, 4, 8]
    assert draw.bits(16, "triggers") == [1, 0, 1, 1, 1, 1, 0, 1, 0, 0, 0, 1, 1, 0, 0, 1]
    assert leaf_salt(SEED, "akh", 7).hex() == "3c90b1503f2c0a0d247d50f3cbf204285e46e802a049194b04d5f6fe6dc6f25f"


def test_the_seed_is_what_is_written():
    nonces = b"".join(sorted(NONCES.values()))
    written = hashlib.sha256(b"whorl/draw/v1" + bytes.fromhex(CLAIM) + nonces).digest()
    assert Draw(CLAIM, transcript("owner", "suspect")).seed == written
    assert Draw(CLAIM, transcript("suspect", "owner")).seed == written
    without = b"".join(sorted([NONCES["owner"], NONCES["judge"], bytes(32)]))
    missing = Draw(CLAIM, transcript("owner", "suspect", withhold=("suspect",)))
    assert missing.seed == hashlib.sha256(b"whorl/draw/v1" + bytes.fromhex(CLAIM) + without).digest()


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.binary(min_size=32, max_size=32), st.integers(0, 300), st.text(max_size=9), st.data())
def test_indices_are_those_of_the_definition(seed, size, name, data):
    wanted = data.draw(st.integers(0, size))
    draw = Draw(CLAIM, transcript("owner"))
    draw.__dict__["seed"] = seed
    found = draw.indices(size, wanted, name)
    assert found == shuffled(seed, size, wanted, name.encode())
    assert len(set(found)) == wanted
    assert set(found) <= set(range(size))


def test_indices_of_a_great_number_take_no_memory_for_it():
    draw = Draw(CLAIM, transcript("owner"))
    found = draw.indices((1 << 32) - 1, 100, "akh")
    assert len(set(found)) == 100
    assert max(found) > 1 << 31


def test_words_beyond_the_last_multiple_are_skipped():
    """For 3 * 2^62 a quarter of all words is: without that small numbers would come twice as often."""
    choices = 3 << 30
    words = stream(SEED, b"labels", b"m")
    assert numbers_below(SEED, "labels", "m", count=500, choices=choices) == [below(words, choices) for _ in range(500)]
    most = (1 << 63) + 1  # half of all words are skipped
    words, kept = stream(SEED, b"labels", b"m"), []
    while len(kept) < 50:
        word = next(words)
        kept += [word] if word < most else []
    from whorl.attest import draw as module

    limited = module._below(module._words(SEED, "labels", "m"), [most] * 50)
    assert list(limited) == kept


def test_what_is_drawn_is_uniform():
    draw = Draw(CLAIM, transcript("owner", "suspect"))
    for choices in (2, 3, 10, 100):
        counts = np.bincount(draw.labels(20_000, choices, f"mark {choices}"), minlength=choices)
        assert chisquare(counts).pvalue > 1e-3
    orders = dict.fromkeys(permutations(range(4)), 0)
    for number in range(2400):
        orders[tuple(draw.indices(4, 4, str(number)))] += 1
    assert chisquare(list(orders.values())).pvalue > 1e-3
    assert chisquare(np.bincount(draw.bits(20_000, "b"))).pvalue > 1e-3


def test_purposes_and_names_are_apart():
    draw = Draw(CLAIM, transcript("owner"))
    assert draw.labels(64, 2, "a") != draw.bits(64, "a") != draw.bits(64, "b")
    assert draw.labels(64, 10, "a")[:9] == draw.labels(9, 10, "a")
    assert Draw(CLAIM, transcript("owner", "suspect")).seed != draw.seed


def test_one_who_withholds_is_named_and_counted():
    whole = Draw(CLAIM, transcript("owner", "suspect"))
    assert (whole.withheld, whole.tries) == ((), 1)
    one = Draw(CLAIM, transcript("owner", "suspect", withhold=("suspect",)))
    assert (one.withheld, one.tries) == (("suspect",), 2)
    two = Draw(CLAIM, transcript("owner", "suspect", withhold=("owner", "suspect")))
    assert (two.withheld, two.tries) == (("owner", "suspect"), 4)
    assert len({whole.seed, one.seed, two.seed}) == 3


def test_a_draw_is_a_document():
    for draw in (
        Draw(CLAIM, transcript("owner")),
        Draw(CLAIM, transcript("owner", "suspect", withhold=("suspect",))),
    ):
        assert Draw.read(json.loads(json.dumps(draw.document()))) == draw


def late(events):
    """Somebody commits after the first has revealed."""
    return (*events[:2], events[3], events[2], *events[4:])


@pytest.mark.parametrize(
    ("events", "why"),
    [
        (transcript("suspect"), "needs an owner and a judge"),
        (transcript("owner")[1:3], "needs an owner and a judge"),
        (transcript("owner", "owner"), "each commit once"),
        (late(transcript("owner", "suspect")), "before all had committed"),
        ((*transcript("owner")[:3], transcript("owner")[2]), "not everyone who committed"),
        ((*transcript("owner")[:2], *transcript("owner")[:1:-1]), "reveals last"),
        ((*transcript("owner")[1::-1], *transcript("owner")[2:]), "commits first"),
        (transcript("owner", withhold=("judge",)), "owner alone chose"),
        (transcript("owner", "suspect", withhold=("judge", "suspect")), "owner alone chose"),
        (transcript("owner", claim=CLAIM[::-1]), "does not open"),
        ((*transcript("owner")[:3], ("judge", "withholds", "00")), "that the draw holds"),
        ((*transcript("owner")[:3], ("judge", "reveals", "00" * 32)), "one who withholds"),
        ((*transcript("owner")[:3], ("judge", "reveals", NONCES["judge"].hex().upper())), "lower-case"),
        (transcript("owner")[:3], "before all had committed"),
        ((), "needs an owner"),
    ],
)
def test_no_draw(events, why):
    with pytest.raises(InvalidFile, match=why) as refused:
        Draw(CLAIM, events)
    assert refused.value.exit_code == 7


@pytest.mark.parametrize(
    "document",
    [
        None,
        [],
        {"claim": CLAIM},
        {"claim": CLAIM, "events": [], "more": 1},
        {"claim": CLAIM, "events": [[1, "commits", ""]] * 4},
        {"claim": CLAIM, "events": [["judge", "steals", ""]] * 4},
        {"claim": 3, "events": []},
    ],
)
def test_no_document_of_a_draw(document):
    with pytest.raises(InvalidFile):
        Draw.read(document)


def test_every_single_bit_of_a_transcript():
    """A changed nonce, commitment or claim is refused; a changed role or deed is none."""
    whole = json.dumps(Draw(CLAIM, transcript("owner", "suspect")).document()).encode()
    for bit in range(8 * len(whole)):
        changed = bytearray(whole)
        changed[bit // 8] ^= 1 << bit % 8
        try:
            found = Draw.read(json.loads(bytes(changed)))
        except (InvalidFile, ValueError):  # a file is read by `read_json`, which calls what is no JSON invalid
            continue
        assert found.document() == json.loads(whole), bytes(changed)


def test_a_nonce_that_anybody_could_guess_is_refused():
    for nonce in (bytes(32), b"short"):
        with pytest.raises(UsageError):
            commitment("owner", CLAIM, nonce)


def test_salts_are_hkdf():
    for family, index in (("akh", 0), ("igsm", 199), ("ü" * 50, 1 << 40)):
        info = b"leaf" + index.to_bytes(8, "big") + family.encode()
        assert leaf_salt(SEED, family, index) == HKDF(SHA256(), 32, None, info).derive(SEED)
    assert leaf_salt(SEED, "akh", 1) != leaf_salt(SEED, "akh", 2)
    with pytest.raises(UsageError):
        leaf_salt(b"short", "akh", 1)
