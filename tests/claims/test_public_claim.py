"""A public claim: everything is published, for integrity, and never for origin."""

from __future__ import annotations

import json
import shutil

import pytest
from disputes import DATA, drawn

from whorl.claims.documents import Claim, read_signed, write_signed
from whorl.claims.making import make_claim, read_secrets
from whorl.claims.opening import open_claim, read_opening
from whorl.claims.public import check_public
from whorl.errors import InvalidFile, UsageError
from whorl.fingerprints.files import read_fingerprint, write_fingerprint
from whorl.oracles.keyed import KeyedSwitch
from whorl.oracles.wrappers import digests_of

SCHEMES = ["random", "sensitive-samples-labels(candidates=60, iterations=10)"]


@pytest.fixture(scope="module")
def public(case, tmp_path_factory):
    folder = tmp_path_factory.mktemp("public")
    make_claim(
        case.victim,
        data=DATA,
        schemes=SCHEMES,
        key=case.key,
        path=folder / "mine.claim",
        folder=folder / "published",
        size=50,
        mode="public",
    )
    return read_signed(folder / "mine.claim", Claim, [case.key.public_key()]), folder / "published"


def test_it_answers_changed_or_no_change_shown(case, public):
    claim, folder = public
    found = check_public(claim, folder, case.victim)
    assert (found.decision, found.changed, found.asked) == ("no change shown", 0, 100)
    assert (found.drawn, found.drawn_changed) == (50, 0), "made queries are drawn from nothing"
    assert found.upper == pytest.approx(1 - 0.05 ** (1 / 50))
    assert any("nothing is said of origin" in each for each in found.caveats)
    assert not hasattr(found, "relation")
    for other in (case.stranger, case.copy):
        changed = check_public(claim, folder, other)
        assert changed.decision == "changed"
        assert 0 < changed.changed <= changed.asked
    switch = KeyedSwitch(case.victim, case.stranger, bytes(range(32)))
    assert check_public(claim, folder, switch).decision == "no change shown"


def test_it_never_serves_as_evidence_of_origin(case, public, tmp_path):
    claim, folder = public
    digest = digests_of(case.copy)[0]
    draw = drawn(claim.digest, digest)
    with pytest.raises(UsageError, match="shows nothing of origin"):
        open_claim(claim, read_secrets(folder), draw, digest, key=case.key, folder=tmp_path / "o")
    with pytest.raises(UsageError, match="shows nothing of origin"):
        read_opening(tmp_path / "o", claim, [case.key.public_key()])
    with pytest.raises(UsageError, match="this claim is sealed"):
        check_public(case.claim, case.folder / "secrets", case.victim)


def test_nothing_that_was_published_can_be_exchanged(case, public, tmp_path):
    claim, folder = public
    for name in ("random", "sensitive-samples-labels"):
        changed = tmp_path / name
        shutil.copytree(folder, changed)
        part = read_fingerprint(changed / f"{name}.fp")
        part.reference.values[0] = (part.reference.values[0] + 1) % 10
        write_fingerprint(part, changed / f"{name}.fp")
        with pytest.raises(InvalidFile, match="not the family"):
            check_public(claim, changed, case.victim)
    fewer = claim.body.model_copy(update={"families": {"random": claim.body.families["random"]}})
    other = write_signed(fewer, claim.victim, case.key, tmp_path / "fewer")
    with pytest.raises(InvalidFile, match="other families"):
        check_public(other, folder, case.victim)


def test_a_claim_of_a_hundred_thousand_families_is_refused_at_once(case, tmp_path):
    family = {"scheme": "akh", "size": 4, "root": "0" * 64, "facts": "0" * 64}
    body = case.claim.body.model_dump() | {"families": {f"a{number}": family for number in range(100_000)}}
    path = tmp_path / "many"
    # Nobody signs for so long: that it is too large is said before anything is parsed.
    path.write_bytes(json.dumps({"payload": body}).encode())
    with pytest.raises(InvalidFile, match="at most 1,048,576 are read"):
        read_signed(path, Claim, [case.key.public_key()])


def test_what_makes_no_claim_is_refused(case, tmp_path):
    options = {"data": DATA, "key": case.key, "path": tmp_path / "c", "folder": tmp_path / "s", "size": 4, "opened": 2}
    with pytest.raises(UsageError, match="no use for a recipe"):
        make_claim(case.victim, schemes=["random"], mode="public", recipe="train(mlp, digits)", seed=1, **options)
    with pytest.raises(UsageError, match="one scheme at least"):
        make_claim(case.victim, schemes=[], mode="public", **options)
    with pytest.raises(UsageError, match="50 families at most; these are 100,000"):
        make_claim(case.victim, schemes=["akh"] * 100_000, **options)
    sealed = case.claim.body.model_copy(update={"families": {"akh": case.claim.body.families["akh"]}})
    with pytest.raises(InvalidFile, match="3 families or more"):
        write_signed(sealed, case.claim.victim, case.key, tmp_path / "one")
