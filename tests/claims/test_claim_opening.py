"""What an opening proves, and that nothing else does: changed bytes, other draws, other claims, one kind alone."""

from __future__ import annotations

import json
import random
import shutil
from dataclasses import replace

import pytest
import torch
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from disputes import drawn

from whorl.attest.draw import Draw
from whorl.attest.keys import raw_key
from whorl.claims.documents import Claim, Opening, Revocation, read_signed, write_signed
from whorl.claims.leaves import facts, part_of, row, tree
from whorl.claims.making import KINDS, kind_of, make_claim, read_secrets, revoke, seed_of
from whorl.claims.opening import dispute, families_to_open, open_claim, read_opening
from whorl.errors import InvalidFile, UsageError
from whorl.fingerprints.files import read_fingerprint, write_fingerprint
from whorl.oracles.wrappers import digests_of
from whorl.storage import digest_file


@pytest.fixture(scope="module")
def opened(case, tmp_path_factory):
    """An opening for the copy."""
    folder = tmp_path_factory.mktemp("opening") / "opening"
    case.opened(case.copy, folder)
    return folder


def keys(case):
    return [case.key.public_key()]


def test_what_is_opened_is_what_was_drawn_of_each_kind(case, opened):
    found = read_opening(opened, case.claim, keys(case))
    assert list(found.families) == ["akh", "igsm"]
    for name, part in found.families.items():
        whole = case.secrets.families[name]
        places = found.draw.indices(len(whole.queries), case.claim.body.opened, name)
        torch.testing.assert_close(part.queries.inputs, whole.queries.inputs[places])
        torch.testing.assert_close(part.reference.values, whole.reference.values[places])
        assert part.calibration is part.probes is part.candidates is None


def test_queries_that_are_not_opened_stay_secret(case, opened):
    """Neither their inputs nor anything from which they could be guessed is in the claim or the opening."""
    whole = case.secrets.families["multipoint"]
    data = b"".join(path.read_bytes() for path in [case.folder / "mine.claim", *opened.iterdir()])
    assert not any(each.numpy().tobytes() in data for each in whole.queries.inputs)
    assert not any(row(whole, place).hex().encode() in data for place in range(len(whole.queries)))
    assert case.secrets.secret.hex().encode() not in data


def test_equal_answers_have_unlike_leaves(case):
    """A label has few bits: without salts a leaf would tell it."""
    whole = case.secrets.families["akh"]
    one, other = tree(whole, bytes(31) + b"\x01", "akh"), tree(whole, bytes(31) + b"\x02", "akh")
    assert not set(one.leaves) & set(other.leaves)
    assert not set(one.leaves) & set(tree(whole, bytes(31) + b"\x01", "igsm").leaves)


def test_no_byte_can_be_changed(case, opened, tmp_path):
    """One bit, at random, of some hundred bytes of each file; `benchmarks/attest.py` changes all of them."""
    chance = random.Random(0)
    for file in ("mine.claim", *sorted(path.name for path in opened.iterdir())):
        folder = tmp_path / file
        shutil.copytree(opened, folder)
        path = folder / file
        whole = (case.folder / "mine.claim" if file == "mine.claim" else opened / file).read_bytes()
        step = max(1, len(whole) // 120)
        for at in range(chance.randrange(step), len(whole), step):
            changed = bytearray(whole)
            changed[at] ^= 1 << chance.randrange(8)
            path.write_bytes(changed)
            with pytest.raises(InvalidFile):
                read_both(case, path, folder)


def read_both(case, path, folder):
    claim = read_signed(path, Claim, keys(case)) if path.name == "mine.claim" else case.claim
    return read_opening(folder, claim, keys(case))


def signed_again(case, folder, change):
    """The opening with a predicate that its owner changed, and signed."""
    known = read_signed(folder / "opening.dsse", Opening, keys(case))
    body = json.loads(known.body.model_dump_json())
    change(body)
    write_signed(Opening.model_validate_json(json.dumps(body)), known.victim, case.key, folder / "opening.dsse")


def test_an_owner_cannot_open_other_queries_than_were_drawn(case, opened, tmp_path):
    folder = tmp_path / "opening"
    shutil.copytree(opened, folder)

    def swap(body):
        of = body["families"]["akh"]
        of["indices"][:2], of["salts"][:2], of["paths"][:2] = (
            of[name][:2][::-1] for name in ("indices", "salts", "paths")
        )

    signed_again(case, folder, swap)
    with pytest.raises(InvalidFile, match="other queries of akh than were drawn"):
        read_opening(folder, case.claim, keys(case))


def test_an_owner_cannot_change_a_query_after_the_claim(case, opened, tmp_path):
    folder = tmp_path / "opening"
    shutil.copytree(opened, folder)
    part = read_fingerprint(folder / "akh.fp")
    part.reference.values[0] = (part.reference.values[0] + 1) % 10
    write_fingerprint(part, folder / "akh.fp")
    with pytest.raises(InvalidFile, match="not the file that was signed"):
        read_opening(folder, case.claim, keys(case))
    signed_again(case, folder, lambda body: body["families"]["akh"].update(fingerprint=digest_file(folder / "akh.fp")))
    with pytest.raises(InvalidFile, match="none of those that were committed to"):
        read_opening(folder, case.claim, keys(case))


def test_what_queries_share_is_bound_too(case):
    part = part_of(case.secrets.families["igsm"], [0, 1])
    assert facts(part) == case.claim.body.families["igsm"].facts
    for changed in (replace(part, scheme="igsm(step=0.5)"), replace(part, nonce="00"), replace(part, seed=1)):
        assert facts(changed) != facts(part)


def test_an_opening_serves_one_suspect_and_one_claim(case, opened, tmp_path):
    suspect, other = digests_of(case.copy)[0], digests_of(case.stranger)[0]
    draw = read_opening(opened, case.claim, keys(case)).draw
    with pytest.raises(UsageError, match="another claim or another suspect"):
        open_claim(case.claim, case.secrets, draw, other, key=case.key, folder=tmp_path / "other")
    folder = tmp_path / "replayed"
    shutil.copytree(opened, folder)
    signed_again(case, folder, lambda body: body.update(suspect=other))
    with pytest.raises(InvalidFile, match="a replay"):
        read_opening(folder, case.claim, keys(case))
    again = replace(case.claim, digest="0" * 64)
    with pytest.raises(InvalidFile, match="opens another claim"):
        read_opening(opened, again, keys(case))
    assert dispute(case.claim.digest, suspect) != dispute(case.claim.digest, other)


def test_nobody_else_opens_a_claim(case, opened, tmp_path):
    other = Ed25519PrivateKey.generate()
    folder = tmp_path / "opening"
    shutil.copytree(opened, folder)
    known = read_signed(folder / "opening.dsse", Opening, keys(case))
    write_signed(known.body, known.victim, other, folder / "opening.dsse")
    with pytest.raises(InvalidFile, match="by none of the keys given"):
        read_opening(folder, case.claim, keys(case))
    with pytest.raises(InvalidFile, match="whoever signed the claim"):
        read_opening(folder, case.claim, [other.public_key(), case.key.public_key()])
    assert raw_key(other.public_key()) != raw_key(case.key.public_key())


def test_a_withheld_nonce_is_named_and_costs(case):
    full = read_events(case)
    withheld = Draw(full.claim, (*full.events[:2], ("owner", "withholds", ""), full.events[3]))
    assert withheld.withheld == ("owner",)
    assert withheld.tries == 2
    with pytest.raises(InvalidFile, match="reveals last"):
        Draw(full.claim, (*full.events[:2], full.events[3], full.events[2]))


def read_events(case):
    return drawn(case.claim.digest, digests_of(case.copy)[0])


def test_spent_families_stay_shut(case, tmp_path):
    path = tmp_path / "revocation"
    revoke(case.claim, ["igsm"], "opened", case.key, path)
    assert read_signed(path, Revocation, keys(case)).body.families == ["igsm"]
    assert families_to_open(case.claim.body, spent=["igsm"]) == ["akh", "multipoint"]
    with pytest.raises(UsageError, match="none left of the natural"):
        families_to_open(case.claim.body, spent=["akh"])
    with pytest.raises(UsageError, match="is revoked"):
        families_to_open(case.claim.body, ["akh", "igsm"], spent=["igsm"])
    with pytest.raises(UsageError, match="none left of the natural"):
        families_to_open(case.claim.body, ["igsm", "multipoint"])
    with pytest.raises(UsageError, match="no family 'afa'"):
        revoke(case.claim, ["afa"], "", case.key, path)


def test_natural_families_come_first(case):
    assert [kind_of(case.claim.body.families[name].scheme) for name in families_to_open(case.claim.body)] == list(KINDS)


def test_seeds_are_nobodys_choice(case):
    for name, family in case.claim.body.families.items():
        assert case.secrets.families[name].seed == seed_of(case.claim.victim, family.scheme)
    assert seed_of("0" * 64, "akh") != seed_of("1" + "0" * 63, "akh") != seed_of("0" * 64, "igsm")
    assert seed_of("0" * 64, "igsm") == seed_of("0" * 64, case.claim.body.families["igsm"].scheme)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"schemes": ["akh", "random"]}, "3 schemes or more, of natural and of made"),
        ({"schemes": ["akh", "random", "common-errors+labels+hamming"]}, "learns from shadow models"),
        ({"schemes": ["akh", "igsm", "modeldiff"]}, "needs more than labels"),
        ({"schemes": ["akh", "igsm", "uap"]}, "needs more than labels"),
        ({"opened": 61}, "61 of 60 queries can't be opened"),
        ({"alpha": float("nan")}, "alpha is a chance between 0 and 1"),
        ({"alpha": 0.0}, "alpha is a chance between 0 and 1"),
        ({"recipe": "", "seed": 3}, "--recipe and --victim-seed"),
    ],
)
def test_what_makes_no_claim_is_refused(case, tmp_path, options, message):
    given = {"schemes": ["akh", "igsm", "multipoint"], "size": 60, "opened": 20} | options
    with pytest.raises(UsageError, match=message):
        make_claim(
            case.victim, data="digits(size=8)", key=case.key, path=tmp_path / "c", folder=tmp_path / "s", **given
        )
    assert not (tmp_path / "c").exists()


def test_secrets_are_private_and_belong_to_one_claim(case, tmp_path):
    folder = case.folder / "secrets"
    assert folder.stat().st_mode & 0o077 == 0
    assert (folder / "secrets.json").stat().st_mode & 0o077 == 0
    other = tmp_path / "secrets"
    shutil.copytree(folder, other)
    document = json.loads((other / "secrets.json").read_text())
    (other / "secrets.json").write_text(json.dumps(document | {"secret": "0" * 63 + "1"}))
    draw = read_events(case)
    with pytest.raises(UsageError, match="do not open the family akh"):
        open_claim(case.claim, read_secrets(other), draw, digests_of(case.copy)[0], key=case.key, folder=tmp_path / "o")
    (other / "secrets.json").write_text("{}")
    with pytest.raises(InvalidFile, match="no secrets of a claim"):
        read_secrets(other)
