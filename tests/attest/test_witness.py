"""A log that somebody else witnesses, and draws from it."""

from __future__ import annotations

import hashlib

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from whorl.attest.log import Log
from whorl.attest.logged_draw import LoggedDraw, logged_draw
from whorl.attest.witness import witness, witness_name
from whorl.detection.design import Design
from whorl.errors import InvalidFile, UsageError

OWNER, FOREIGN = (Ed25519PrivateKey.from_private_bytes(bytes(31) + each) for each in (b"O", b"W"))
PUBLIC = FOREIGN.public_key()


@pytest.fixture
def log(tmp_path):
    made = Log.create(tmp_path / "log", "example.org/log", OWNER)
    made.append(b"first", OWNER)
    return made


def cosigned(log, time=1000, seen="seen", **options):
    options = {"key": FOREIGN, "log_key": OWNER.public_key(), **options}
    return witness(log.path, options.pop("log_key"), options.pop("key"), log.path.parent / seen, time=time, **options)


def again(log):
    return Log(log.path, OWNER.public_key())


def test_a_witness_signs_a_log_that_only_grows(log):
    assert cosigned(log).size == 1
    log.append(b"second", OWNER)
    assert cosigned(log, 2000).size == 2
    assert sorted(again(log).cosigned(PUBLIC)) == [1, 2]
    assert witness_name(PUBLIC).encode() in again(log).note()
    assert again(log).cosigned(OWNER.public_key()) == {}


def test_each_size_is_signed_once(log):
    """Or the owner would ask until a draw suits him; a line that he lost he gets back, and no other."""
    cosigned(log)
    (line,) = again(log).cosigned(PUBLIC)[1]
    cosigned(log, 5000)
    assert again(log).cosigned(PUBLIC) == {1: [line]}
    other = Log.create(log.path.parent / "copy", "example.org/log", OWNER)
    other.append(b"first", OWNER)
    cosigned(other, 7000)
    assert again(other).cosigned(PUBLIC) == {1: [line]}


def test_a_rewritten_log_is_found(log):
    log.append(b"second", OWNER)
    cosigned(log)
    for entries in ([b"first"], [b"first", b"another"], [b"first", b"another", b"third"]):
        other = Log.create(log.path.parent / f"{len(entries)}{entries[-1].decode()}", "example.org/log", OWNER)
        for entry in entries:
            other.append(entry, OWNER)
        with pytest.raises(InvalidFile, match="does not continue"):
            cosigned(other)
        assert again(other).cosigned(PUBLIC) == {}
    (log.path.parent / "seen").write_bytes(b"nothing")
    with pytest.raises(InvalidFile, match="no checkpoint"):
        cosigned(log)


def test_nobody_witnesses_his_own_log(log):
    with pytest.raises(UsageError, match="somebody else than its owner"):
        cosigned(log, key=OWNER)


def test_a_draw_rests_on_the_first_witnessed_checkpoint(log):
    for_first = log.entry(0)
    with pytest.raises(UsageError, match="whorl claim witness"):
        logged_draw(log, 0, PUBLIC)
    cosigned(log)
    drawn = logged_draw(again(log), 0, PUBLIC)
    assert drawn.claim == hashlib.sha256(for_first).hexdigest()
    assert drawn.seed == hashlib.sha256(again(log).note(1)).digest(), "both signatures are included"
    assert (drawn.tries, drawn.withheld) == (1, ())
    log.append(b"second", OWNER)
    cosigned(log, 2000)
    assert logged_draw(again(log), 0, PUBLIC).seed == drawn.seed, "a later checkpoint changes nothing"
    assert logged_draw(again(log), 1, PUBLIC).seed != drawn.seed


def test_who_has_another_checkpoint_signed_pays_for_it(log):
    for entry in (b"second", b"third"):
        log.append(entry, OWNER)
    cosigned(log)
    assert logged_draw(again(log), 0, PUBLIC).tries == 3
    assert logged_draw(again(log), 2, PUBLIC).tries == 1


def test_labels_of_a_mark_come_from_a_witnessed_log(log):
    cosigned(log)
    drawn = logged_draw(again(log), 0, PUBLIC)
    labels = tuple(drawn.labels(50, 10, "triggers"))
    mark = Design(labels, choices=10, draws=1, proof=drawn, claim=drawn.claim, name="triggers")
    assert mark.test([*labels[:18], *[-1] * 32]).exact
    chosen = Design((0,) * 50, choices=10, draws=1, proof=drawn, claim=drawn.claim, name="triggers")
    assert not chosen.test([0] * 50).exact
    other = Design(labels, choices=10, draws=1, proof=drawn, claim="0" * 64, name="triggers")
    assert "another claim" in other.why


def test_a_log_without_a_foreign_witness_is_no_draw(log):
    cosigned(log)
    sound = logged_draw(again(log), 0, PUBLIC)
    kept = vars(sound)
    fields = {name: kept[name] for name in LoggedDraw.__dataclass_fields__}
    alone = b"".join(sound.note.splitlines(keepends=True)[:5])
    for change, says in (
        ({"note": alone}, "two signatures"),
        ({"note": sound.note + sound.note.splitlines(keepends=True)[-1]}, "does not fit"),
        ({"witness_key": OWNER.public_key()}, "nobody but its owner"),
        ({"witness": "another"}, "two signatures"),
        ({"entry": b"another"}, "another entry"),
        ({"index": 1}, "."),
    ):
        with pytest.raises(InvalidFile, match=says):
            LoggedDraw(**fields | change)
    changed = sound.note.replace(b"\n1\n", b"\n2\n")
    with pytest.raises(InvalidFile, match="changed after it was signed"):
        LoggedDraw(**fields | {"note": changed})
