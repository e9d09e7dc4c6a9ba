"""Owner and judge, who share files alone, from claim to judgment on the command line."""

from __future__ import annotations

import json

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from disputes import DATA, RECIPE, SEED
from typer.testing import CliRunner

from whorl.cli.app import app
from whorl.zoo.recipe import parse_recipe

NET = ["--architecture", "mlp(width=48)"]
SHAPED = [*NET, "--shape", "1,8,8", "--classes", "10"]


def whorl(*given, code=0):
    found = CliRunner().invoke(app, [str(each) for each in given], env={"COLUMNS": "200"})
    assert found.exit_code == code, found.output
    return found.output


@pytest.fixture(scope="module")
def parties(case, tmp_path_factory):
    """Two folders: everything of the owner's, and what the judge was given."""
    folder = tmp_path_factory.mktemp("parties")
    owner, judge = folder / "owner", folder / "judge"
    owner.mkdir()
    judge.mkdir()
    for path in (owner / "owner.pem", judge / "judge.pem"):
        key = Ed25519PrivateKey.generate()
        path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        path.chmod(0o600)
        if path.parent == owner:
            public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
            (judge / "owner.pub").write_bytes(public)
    victim = str(parse_recipe(RECIPE).with_seed(SEED))
    case.net(f"{victim} -> fine_tune(all, epochs=3)")
    cache = ["--cache", case.zoo.folder.parent]
    whorl("zoo", "export", victim, "-o", owner / "mine.safetensors", *cache)
    whorl("zoo", "export", f"{victim} -> fine_tune(all, epochs=3)", "-o", judge / "suspect.safetensors", *cache)
    whorl(
        *("claim", "make", owner / "mine.safetensors", "--data", DATA, "--key", owner / "owner.pem"),
        *("-o", judge / "mine.claim", "--secrets", owner / "secrets", "--budget", 60, "--opened", 40),
        *("--alpha", 0.2, "--recipe", RECIPE, "--victim-seed", SEED, "--log", judge / "claims.log", *SHAPED),
    )
    return owner, judge, cache


@pytest.fixture(scope="module")
def opening(parties):
    owner, judge, _ = parties
    drawing = ["claim", "draw", judge / "case.draw"]
    begins = ["--claim", judge / "mine.claim", "--suspect", judge / "suspect.safetensors", *SHAPED]
    whorl(*drawing, "--as", "judge", "--nonce", judge / "nonce", *begins)
    whorl(*drawing, "--as", "owner", "--nonce", owner / "nonce")
    told = whorl(*drawing, "--as", "judge", "--nonce", judge / "nonce", code=2)
    assert "reveals last" in told
    opens = ["claim", "open", judge / "mine.claim", "--secrets", owner / "secrets", "--draw", judge / "case.draw"]
    told = whorl(*opens, "--key", owner / "owner.pem", "-o", judge / "opening", code=2)
    assert "has not ended: the owner reveals: whorl claim draw --as owner" in told
    whorl(*drawing, "--as", "owner", "--nonce", owner / "nonce")
    whorl(*drawing, "--as", "judge", "--nonce", judge / "nonce")
    opens = ["claim", "open", judge / "mine.claim", "--secrets", owner / "secrets", "--draw", judge / "case.draw"]
    whorl(*opens, "--key", owner / "owner.pem", "-o", judge / "opening")
    whorl(*opens, "--key", owner / "owner.pem", "-o", judge / "lineup", "--lineup")
    return judge


def check(judge, *given, code=0, opened="opening"):
    about = ["claim", "check", judge / "mine.claim", judge / opened, judge / "suspect.safetensors"]
    return whorl(*about, "--owner-key", judge / "owner.pub", *NET, *given, code=code)


def test_from_claim_to_judgment(parties, opening):
    judge, cache = opening, parties[2]
    page, signed = judge / "page.html", judge / "judgment.dsse"
    null = ["--null-recipe", RECIPE, "--log", judge / "claims.log", *cache, "-j", 1]
    assert check(judge, *null).startswith("DERIVED  grade D")
    null += ["--victim", parties[0] / "mine.safetensors"]
    assert check(judge, *null).startswith("DERIVED  grade D"), "nobody showed that the judge took part"
    null += ["--nonce", judge / "nonce"]
    assert "by another draw" in check(judge, *null[:-1], parties[0] / "nonce", code=7)
    told = check(judge, *null, "--report", page, "--key", judge / "judge.pem", "-o", signed)
    assert told.startswith("DERIVED  grade C")
    assert "priority     not shown" in told
    assert "made from the victim" not in told, "no stamp was shown"
    assert all(each in page.read_text() for each in ("Relation", "Priority", "Counterpart", "kind 1"))
    assert signed.stat().st_size > 1000
    document = json.loads(check(judge, *null, "--json"))
    assert document["relation"] == "derived"
    assert document["tries"] == 1
    check(judge, *null, "--fail-on", "derived", code=3)
    assert "train 14 or more" in check(judge, *null, "--count", 7, "--suspects", 3, code=2)


def test_what_was_changed_ends_in_7_and_one_line(parties, opening, tmp_path):
    judge = opening
    null = ["--null-recipe", RECIPE]
    (tmp_path / "other.claim").write_bytes((judge / "mine.claim").read_bytes().replace(b"A", b"B", 1))
    given = [judge / "opening", judge / "suspect.safetensors", "--owner-key", judge / "owner.pub", *null]
    lines = whorl("claim", "check", tmp_path / "other.claim", *given, code=7).strip().splitlines()
    assert len(lines) == 1
    told = check(judge, *null, "--log", judge / "mine.claim", code=7)
    assert "is no" in told
    token = tmp_path / "token"
    token.write_bytes(b"0\x03\x02\x01\x00")
    root = tmp_path / "root.pem"
    root.write_text("nothing")
    assert "holds no certificates" in check(judge, *null, "--stamp", token, "--tsa-root", root, code=7)


def test_what_is_missing_is_asked_for(opening):
    judge = opening
    assert "--null-recipe RECIPE, or --twins N" in check(judge, code=2)
    assert "--tsa-root" in check(judge, "--null-recipe", RECIPE, "--stamp", judge / "mine.claim", code=2)
    assert "--suspect-since" in check(judge, "--twins", 4, opened="lineup", code=2)
    assert "older than the suspect" in check(
        judge, "--twins", 4, "--suspect-since", "2026-01-01", opened="lineup", code=2
    )
    assert "is no date" in check(judge, "--null-recipe", RECIPE, "--suspect-since", "yesterday", code=2)
    assert "--key and --output together" in check(judge, "--null-recipe", RECIPE, "-o", judge / "x", code=2)


def test_revoked_families_stay_shut(parties, opening, tmp_path):
    owner, judge, _ = parties
    spent = tmp_path / "revocation"
    signed = ["--key", owner / "owner.pem", "-o"]
    whorl("claim", "revoke", judge / "mine.claim", "--family", "igsm", *signed, spent, "--log", judge / "claims.log")
    opens = ["claim", "open", judge / "mine.claim", "--secrets", owner / "secrets", "--draw", judge / "case.draw"]
    assert "akh, multipoint" in whorl(*opens, *signed, tmp_path / "again", "--revoked", spent)
    told = check(judge, "--null-recipe", RECIPE, "--log", judge / "claims.log", "-j", 1, *parties[2])
    assert "revoked, for they were opened in a dispute: igsm" in told


def test_audit_of_a_fingerprint(parties):
    owner = parties[0]
    told = whorl("audit", owner / "secrets" / "igsm.fp", owner / "mine.safetensors", *NET)
    assert "the same to the byte" in told
    assert "from the digest of the model" in told
