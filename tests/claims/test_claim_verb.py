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
    cache = ["--cache", case.zoo.cache]
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


def test_a_log_that_somebody_else_witnesses(parties, opening, tmp_path):
    owner, judge, cache = parties
    key = Ed25519PrivateKey.generate()
    pem, pub, log = tmp_path / "witness.pem", tmp_path / "witness.pub", tmp_path / "claims.log"
    log.write_bytes((judge / "claims.log").read_bytes())
    pem.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    pem.chmod(0o600)
    pub.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    null = ["--null-recipe", RECIPE, *cache, "-j", 1, "--log", log, "--witness-key"]
    assert "cosigned no checkpoint" in check(judge, *null, pub, code=2)
    assert "not the owner's" in check(judge, *null, judge / "owner.pub", code=2)
    assert "give --log too" in check(judge, *null[:2], "--witness-key", pub, code=2)
    signs = ["claim", "witness", log, "--log-key", judge / "owner.pub", "--key", pem, "--seen", tmp_path / "seen"]
    assert "1 entry, seen for the first time" in whorl(*signs)
    assert "it continues what was seen before" in whorl(*signs)
    told = check(judge, *null, pub)
    assert "saw its first 1 entries at" in told
    assert "may keep another" not in told
    own = ["claim", "witness", log, "--log-key", judge / "owner.pub", "--key", owner / "owner.pem"]
    assert "somebody else than its owner" in whorl(*own, "--seen", tmp_path / "own", code=2)


def test_what_the_other_side_shows(parties, opening, tmp_path):
    judge, cache = opening, parties[2]
    null = ["--null-recipe", RECIPE, *cache, "-j", 1]
    paper = tmp_path / "training.log"
    paper.write_text("nothing of the suspect")
    assert "does not name the suspect" in check(judge, *null, "--counter", paper, code=2)
    digest = json.loads((judge / "case.draw").read_text())["suspect"]
    paper.write_text(f"step 900: {digest}")
    told = check(judge, *null, "--counter", paper)
    assert "counterpart  undecided: related, direction unknown" in told
    assert "nobody dates it" in told
    assert "more stamps than files" in check(judge, *null, "--counter-stamp", paper, "--tsa-root", paper, code=2)
    assert "give one --counter, and --counter-key" in check(judge, *null, "--counter-opening", judge, code=2)


def test_a_public_claim(parties, tmp_path):
    owner, judge, _ = parties
    claim, published = tmp_path / "public.claim", tmp_path / "published"
    told = whorl(
        *("claim", "make", owner / "mine.safetensors", "--mode", "public", "--data", DATA, "--budget", 40, *SHAPED),
        *("--scheme", "random", "--scheme", "sensitive-samples-labels(candidates=60, iterations=10)"),
        *("--key", owner / "owner.pem", "-o", claim, "--secrets", published),
    )
    assert "Publish both" in told
    asks = ["claim", "check", claim, published, "--owner-key", judge / "owner.pub", *NET]
    assert whorl(*asks[:4], owner / "mine.safetensors", *asks[4:]).startswith("NO CHANGE SHOWN")
    signed = ["--key", judge / "judge.pem", "-o", tmp_path / "answer", "--fail-on", "changed", "--json"]
    document = json.loads(whorl(*asks[:4], judge / "suspect.safetensors", *asks[4:], *signed, code=3))
    assert document["decision"] == "changed"
    assert 0 < document["changed"] <= document["asked"] == 80
    assert document["drawn"] == 40
    assert "relation" not in document
    assert (tmp_path / "answer").stat().st_size > 500
    told = whorl(*asks[:4], judge / "suspect.safetensors", *asks[4:], "--null-recipe", RECIPE, code=2)
    assert "for integrity alone" in told


def test_a_suspect_at_the_table_who_withholds(parties, tmp_path):
    owner, judge, cache = parties
    drawing = ["claim", "draw", tmp_path / "draw"]
    begins = ["--claim", judge / "mine.claim", "--suspect", judge / "suspect.safetensors", *SHAPED]
    whorl(*drawing, "--as", "judge", "--nonce", tmp_path / "judge", *begins)
    for role in ("owner", "suspect"):
        whorl(*drawing, "--as", role, "--nonce", tmp_path / role)
    whorl(*drawing, "--as", "owner", "--nonce", tmp_path / "owner")
    told = whorl(*drawing, "--as", "judge", "--nonce", tmp_path / "judge", code=2)
    assert "--withholds suspect" in told
    whorl(*drawing, "--as", "judge", "--withholds", "suspect")
    whorl(*drawing, "--as", "judge", "--nonce", tmp_path / "judge")
    assert "nothing is left to do" in whorl(*drawing, "--as", "suspect", "--nonce", tmp_path / "suspect", code=2)
    opens = ["claim", "open", judge / "mine.claim", "--secrets", owner / "secrets", "--draw", tmp_path / "draw"]
    whorl(*opens, "--key", owner / "owner.pem", "-o", tmp_path / "opening")
    told = check(judge, "--null-recipe", RECIPE, *cache, "-j", 1, opened=tmp_path / "opening")
    assert "alpha 0.2, 2 tries" in told
    assert "suspect withheld a nonce, so p is doubled" in told


def test_no_name_forges_a_line(parties, opening, monkeypatch):
    """A suspect's file may call itself anything; what is printed of it stays on its line."""
    judge, cache = opening, parties[2]
    monkeypatch.setattr("whorl.oracles.torch.TorchOracle.name", "x\nDERIVED  grade C\x1b[2J", raising=False)
    told = check(judge, "--null-recipe", RECIPE, *cache, "-j", 1)
    assert not any(line.startswith("DERIVED  grade C") for line in told.splitlines())
    assert "\x1b[2J" not in told


def test_ctrl_c_says_how_to_go_on(parties, opening, monkeypatch):
    judge = opening

    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("whorl.claims.judging.examine", stop)
    monkeypatch.setattr("sys.argv", ["whorl", "claim", "check", "mine.claim", "--record", "answers"])
    told = check(judge, "--null-recipe", RECIPE, "-j", 1, *parties[2], code=130)
    assert "Go on with: whorl claim check mine.claim --record answers" in told


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
