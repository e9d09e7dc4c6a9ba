"""What an owner types wrong is refused before anything is extracted or written, and loses nothing."""

from __future__ import annotations

import json
import os
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from disputes import DATA, RECIPE, SEED, drawn
from typer.testing import CliRunner

from whorl.claims.making import make_claim
from whorl.claims.opening import open_claim
from whorl.cli.app import app
from whorl.errors import InvalidFile, UsageError
from whorl.oracles.wrappers import digests_of
from whorl.storage import read_json
from whorl.zoo.recipe import parse_recipe


def whorl(*given, code, **variables):
    found = CliRunner().invoke(app, [str(each) for each in given], env={"COLUMNS": "200", **variables})
    assert found.exit_code == code, found.output
    return found.output


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    """One key in the clear, the same encrypted, and another."""
    folder, key = tmp_path_factory.mktemp("keys"), Ed25519PrivateKey.generate()
    for name, of, how in (
        ("mine", key, NoEncryption()),
        ("encrypted", key, BestAvailableEncryption(b"a password")),
        ("other", Ed25519PrivateKey.generate(), NoEncryption()),
    ):
        (folder / name).write_bytes(of.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, how))
        (folder / name).chmod(0o600)
    return folder


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 10**9, "opened": 5}, "100,000 queries at most"),
        ({"recipe": RECIPE, "seed": 10**60}, r"from 0 to 2\^63 - 1"),
        ({"recipe": RECIPE, "seed": 1 << 63}, r"from 0 to 2\^63 - 1"),
    ],
)
def test_numbers_out_of_range_are_refused_before_anything_is_extracted(case, tmp_path, options, message):
    """A seed beyond what secrets may hold was written, and the folder could not be read again."""
    given = {"schemes": ["akh", "igsm", "multipoint"], "size": 20, "opened": 10, "alpha": 0.2} | options
    with pytest.raises(UsageError, match=message):
        make_claim(case.victim, data=DATA, key=case.key, path=tmp_path / "c", folder=tmp_path / "s", **given)
    assert not list(tmp_path.iterdir())


def test_a_log_that_can_not_hold_the_claim_is_found_before_it_is_made(case, keys, tmp_path):
    """A claim that is not in the log would be signed and never counted, and its folder could not be used again."""
    victim = str(parse_recipe(RECIPE).with_seed(SEED))
    case.net(victim)
    whorl("zoo", "export", victim, "-o", tmp_path / "m.safetensors", "--cache", case.zoo.cache, code=0)
    make = ["claim", "make", tmp_path / "m.safetensors", "--data", DATA, "--budget", 10, "--opened", 5]
    made = ["-o", tmp_path / "c", "--secrets", tmp_path / "s", "--log", tmp_path / "log"]
    (tmp_path / "log").write_text("no log")
    assert "no sound log" in whorl(*make, "--key", keys / "mine", *made, code=7)
    assert not (tmp_path / "c").exists()
    assert not (tmp_path / "s").exists()
    (tmp_path / "log").unlink()
    whorl(*make, "--key", keys / "mine", *made, code=0)
    elsewhere = ["-o", tmp_path / "c2", "--secrets", tmp_path / "s2", "--log", tmp_path / "log"]
    assert "not signed by the key" in whorl(*make, "--key", keys / "other", *elsewhere, code=7)
    assert not (tmp_path / "s2").exists()


def test_secrets_of_another_recipe_open_no_lineup(case, tmp_path):
    digest = digests_of(case.copy)[0]
    draw = drawn(case.claim.digest, digest)
    known = case.secrets
    for wrong in ({"seed": SEED + 1}, {"recipe": RECIPE}):
        changed = replace(known, **wrong)
        with pytest.raises(UsageError, match="another recipe or seed than this claim"):
            open_claim(case.claim, changed, draw, digest, key=case.key, folder=tmp_path / "o", lineup=True)
        assert not (tmp_path / "o").exists()


def test_a_password_is_read_by_every_verb_that_signs(case, keys, tmp_path):
    (tmp_path / "c").write_bytes(case.claim.data)
    asks = ["claim", "check", tmp_path / "c", tmp_path, "s", "--owner-key", keys / "nobody", "--key"]
    asks += [keys / "encrypted", "-o", tmp_path / "j"]
    assert "give its password in the variable WHORL_KEY_PASSWORD" in whorl(*asks, code=2)
    told = whorl(*asks, code=2, WHORL_KEY_PASSWORD="a password")
    assert f"no such file: {keys / 'nobody'}" in told, "the key was read, and the next thing is missing"


def test_what_a_public_claim_does_not_judge_is_refused_by_name(case, tmp_path):
    secrets, claim = tmp_path / "published", tmp_path / "public"
    key = Ed25519PrivateKey.generate()
    options = {"schemes": ["random"], "size": 10, "opened": 10, "mode": "public"}
    make_claim(case.victim, data=DATA, key=key, path=claim, folder=secrets, **options)
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (tmp_path / "key.pub").write_bytes(public)
    asks = ["claim", "check", claim, secrets, "s", "--owner-key", tmp_path / "key.pub"]
    for option in ("--log", "--counter", "--stamp", "--suspect-since", "--family", "--data"):
        assert f"leave out {option}" in whorl(*asks, option, "x", code=2)
    assert "leave out --alpha, --replay" in whorl(*asks, "--alpha", 0.1, "--replay", code=2)


def test_a_key_that_stands_twice_in_a_document_is_refused(tmp_path):
    """One reader would take the first value and another the last."""
    nonce, draw = tmp_path / "nonce", tmp_path / "draw"
    nonce.write_text(f'{{"nonce": "{"00" * 32}", "nonce": "{"11" * 32}"}}')
    with pytest.raises(InvalidFile, match="stands twice"):
        read_json(nonce)
    begun = {"format": 1, "claim": "ab" * 32, "suspect": None, "events": []}
    draw.write_text(json.dumps(begun).replace('"claim"', f'"claim": "{"cd" * 32}", "claim"'))
    told = whorl("claim", "draw", draw, "--as", "owner", "--nonce", tmp_path / "n", code=7)
    assert "stands twice" in told
    assert os.listdir(tmp_path).count("n") == 0
