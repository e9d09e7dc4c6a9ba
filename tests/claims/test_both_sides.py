"""A dispute of two sides by the command: stamped claims of both, openings that void one, and a lineup of twins."""

from __future__ import annotations

import re
import stat
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from authority import Authority
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from disputes import ALPHA, DATA, JUDGE, RECIPE, SEED, drawn
from typer.testing import CliRunner

from whorl.attest.stamp import new_nonce, query
from whorl.claims.case import MADE_FROM
from whorl.claims.documents import Claim, read_signed, write_signed
from whorl.claims.making import family_of, make_claim, read_secrets
from whorl.claims.opening import open_claim
from whorl.cli.app import app
from whorl.oracles.wrappers import digests_of
from whorl.storage import digest_file, write_json
from whorl.types import Representation
from whorl.zoo.recipe import parse_recipe


def whorl(*given, code=0):
    found = CliRunner().invoke(app, [str(each) for each in given], env={"COLUMNS": "200"})
    assert found.exit_code == code, found.output
    return found.output


def write_public(key, path):
    path.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))


@dataclass(frozen=True)
class Table:
    """What lies before the judge; the authority says of any file that it existed in any month of 2026."""

    folder: Path
    cache: Path
    authority: Authority

    def stamped(self, path, month):
        token = self.authority.answer(query(bytes.fromhex(digest_file(path)), new_nonce()), "-token_out")
        content, count = re.subn(rb"\d{14}Z", b"2026%02d01000000Z" % month, self.authority.content(token))
        assert count == 1
        written = self.folder / f"{path.name}-{month}.tsr"
        written.write_bytes(self.authority.sign(content, "-cades"))
        return written

    def check(self, opened, *given, code=0):
        about = [
            "claim",
            "check",
            self.folder / "mine.claim",
            self.folder / opened,
            self.folder / "suspect.safetensors",
        ]
        about += ["--owner-key", self.folder / "owner.pub", "--nonce", self.folder / "judge.nonce"]
        about += ["--tsa-root", self.authority.root, "--stamp", self.stamped(self.folder / "mine.claim", 3)]
        return whorl(*about, "--suspect-since", "2026-06-01", "--cache", self.cache, "-j", 1, *given, code=code)

    def judged(self, *given, code=0):
        null = ["--null-recipe", RECIPE, "--victim", self.folder / "mine.safetensors"]
        return self.check("opening", *null, *given, code=code)


@pytest.fixture(scope="module")
def table(case, tmp_path_factory):
    folder = tmp_path_factory.mktemp("table")
    cache, victim = case.zoo.cache, str(parse_recipe(RECIPE).with_seed(SEED))
    digest = digests_of(case.copy)[0]
    for recipe, name in ((victim, "mine"), (f"{victim} -> fine_tune(all, epochs=3)", "suspect")):
        case.net(recipe)
        whorl("zoo", "export", recipe, "-o", folder / f"{name}.safetensors", "--cache", cache)
    (folder / "mine.claim").write_bytes(case.claim.data)
    write_public(case.key, folder / "owner.pub")
    write_json(folder / "judge.nonce", {"nonce": JUDGE.hex()})
    draw = drawn(case.claim.digest, digest)
    open_claim(case.claim, case.secrets, draw, digest, key=case.key, folder=folder / "opening")
    open_claim(case.claim, case.secrets, draw, digest, key=case.key, folder=folder / "lineup", lineup=True)
    return Table(folder, cache, Authority(folder / "tsa"))


@pytest.fixture(scope="module")
def theirs(case, table):
    """The suspect's holder claims the suspect, and opens that claim to the judge; and does so with invented answers."""
    folder, key = table.folder / "theirs", Ed25519PrivateKey.generate()
    folder.mkdir()
    write_public(key, folder / "key.pub")
    options = {"schemes": ["akh", "igsm", "multipoint"], "size": 20, "opened": 10, "alpha": ALPHA}
    make_claim(case.copy, data=DATA, key=key, path=folder / "claim", folder=folder / "secrets", **options)
    claim, known = read_signed(folder / "claim", Claim, [key.public_key()]), read_secrets(folder / "secrets")
    invented = {
        name: replace(made, reference=Representation((made.reference.values + 1) % 10))
        for name, made in known.families.items()
    }
    forged = replace(known, families=invented)
    body = claim.body.model_copy(update={"families": {name: family_of(forged, name) for name in invented}})
    void, digest = write_signed(body, claim.victim, key, folder / "void"), digests_of(case.victim)[0]
    open_claim(claim, known, drawn(claim.digest, digest), digest, key=key, folder=folder / "opening")
    open_claim(void, forged, drawn(void.digest, digest), digest, key=key, folder=folder / "void-opening")
    return folder


def test_without_a_counter_claim_all_three_statements_hold(table):
    told = table.judged()
    assert told.startswith("DERIVED  grade C")
    assert "priority     shown" in told
    assert MADE_FROM in told


@pytest.mark.parametrize(("month", "counterpart"), [(1, "earlier"), (3, "undecided"), (5, "none shown")])
def test_the_earlier_stamp_wins(table, theirs, month, counterpart):
    shown = ["--counter", theirs / "claim", "--counter-stamp", table.stamped(theirs / "claim", month)]
    shown += ["--counter-key", theirs / "key.pub", "--counter-opening", theirs / "opening"]
    told = table.judged(*shown)
    assert f"counterpart  {counterpart}" in told
    assert f"the other side shows claim, SHA-256 {digest_file(theirs / 'claim')}: dated 2026-0{month}-01" in told
    assert (MADE_FROM in told) is (counterpart == "none shown")


def test_a_void_claim_of_theirs_counts_for_nothing_though_it_is_older(table, theirs):
    shown = ["--counter", theirs / "void", "--counter-stamp", table.stamped(theirs / "void", 1)]
    told = table.judged(*shown)
    assert "counterpart  earlier" in told, "nobody opened it"
    told = table.judged(*shown, "--counter-key", theirs / "key.pub", "--counter-opening", theirs / "void-opening")
    assert "the other side's claim is void, and its date counts for nothing" in told
    assert "counterpart  none shown" in told
    assert MADE_FROM in told


def test_what_the_other_side_forges_ends_in_7(table, theirs):
    shown = ["--counter", theirs / "claim", "--counter-key", theirs / "key.pub"]
    of_another = table.stamped(table.folder / "mine.claim", 1)
    assert "over other bytes" in table.judged(*shown, "--counter-stamp", of_another, code=7)
    assert "opens another claim" in table.judged(*shown, "--counter-opening", theirs / "void-opening", code=7)
    assert "by none of the keys" in table.judged(*shown[:3], table.folder / "owner.pub", code=7)


def test_a_stamp_of_the_suspect_itself_is_an_artefact_too(table):
    suspect = table.folder / "suspect.safetensors"
    told = table.judged("--suspect-stamp", table.stamped(suspect, 1))
    assert "counterpart  earlier" in told
    assert MADE_FROM not in told


def test_a_lineup_whose_twins_the_judge_trains(table):
    told = table.check("lineup", "--twins", 4, "--alpha", 0.05, code=2)
    assert "your --alpha: train 19 or more" in told
    told = table.check("lineup", "--twins", 4)
    assert "grade C  suspect.safetensors" in told
    assert "p 0.2 (not below 0.2), alpha 0.2" in told
    assert "the judge repeated the victim's training, which gave the committed weights" in told


def test_an_opening_is_for_the_judge_alone(table):
    for folder in ("opening", "lineup"):
        assert stat.S_IMODE((table.folder / folder).stat().st_mode) == 0o700
    assert stat.S_IMODE((table.folder / "lineup" / "lineup.json").stat().st_mode) == 0o600


def test_a_wrong_victim_is_refused_before_anything_is_trained(table, monkeypatch):
    def train(*_, **__):
        raise AssertionError("models were trained")

    monkeypatch.setattr("whorl.claims.judging.strangers", train)
    null = ["--null-recipe", RECIPE, "--victim"]
    told = table.check("opening", *null, table.folder / "suspect.safetensors", code=2)
    assert "is not the victim of this claim" in told
    assert "no such file" in table.check("opening", *null, table.folder / "nothing.safetensors", code=2)
