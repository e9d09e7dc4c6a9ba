"""The exit codes that help states: each can be had, and no verb returns another.

That no verb returns another is asserted by the fixture ``whorl`` in every test of this folder.
"""

from __future__ import annotations

import re
import shutil
from contextlib import ExitStack
from pathlib import Path

import pytest
import torch
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from disputes import RECIPE as OF_CLAIM
from disputes import begin
from model_server import ModelServer
from safetensors.torch import save_file
from test_zoo_verb import RECIPE

from whorl import ownership
from whorl.bench.result import read_result, write_result
from whorl.cli.app import app
from whorl.cli.exits import VERBS, codes_of
from whorl.errors import WhorlError
from whorl.fingerprints.files import write_fingerprint
from whorl.marks.code_files import write_codes
from whorl.marks.user_codes import draw_codes, prepare_codes
from whorl.nets.files import read_model, write_model
from whorl.oracles.opening import open_oracle
from whorl.suites.suite import SUITES, Derived, Suite
from whorl.zoo.cache import Zoo
from whorl.zoo.logged import log_training
from whorl.zoo.recipe import parse_recipe

REFUSED = f"{RECIPE} -> smooth(votes=2) -> prune_weights(1/2)"
RESULT = Path(__file__).parents[2] / "benchmarks" / "results" / "ipguard-digits.json"
DIGITS = ("--data", "digits(size=8)")
NET = "mlp(width=32)"


def refused():
    """A suite with a row that a model which only answers cannot be put through."""
    made = parse_recipe(RECIPE)
    row = Derived("refused", "smooth(votes=2) -> prune_weights(1/2)")
    strangers = tuple(made.with_seed(seed) for seed in (5, 6, 7, 8, 9))
    return Suite(
        name="tests/refused",
        about="a row that is refused",
        data="digits(size=8)",
        victims=(made,),
        derived=(row,),
        independents={"same": strangers[:1]},
        null=strangers[1:],
        schemes={"random": "random"},
        budget=5,
        alpha=0.25,
    )


@pytest.fixture(scope="module")
def situations(case, tmp_path_factory):
    """(verb, code) to what is typed, for every code beside those that any verb can return."""
    folder = tmp_path_factory.mktemp("situations")
    torn, broken, text = folder / "torn.fp", folder / "broken.safetensors", folder / "no-result.json"
    torn.write_bytes(case.calibrated.read_bytes()[:-100])
    broken.write_bytes(b"\x00" * 100)
    text.write_text('{"suite": 1}')
    labels = folder / "labels"
    labels.mkdir()
    (labels / "model.toml").write_text(f'kind = "torch"\npath = "{case.victim}"\naccess = "labels"\n')
    damaged, store = folder / "damaged", folder / "store"
    Zoo(damaged).build([parse_recipe(RECIPE)], workers=1)
    Zoo(damaged).card_path(parse_recipe(RECIPE)).write_text("[]")
    store.mkdir()
    for name in ("results", "lineage"):
        (store / f"{name}.sqlite").write_bytes(b"no store" * 100)
    (folder / "nets").mkdir()
    (folder / "shelf").mkdir()
    (folder / "shelf" / "victim.safetensors").write_bytes(case.victim.read_bytes())
    users, known_codes = folder / "users.txt", folder / "known.codes"
    users.write_text("a\nb\n")
    made = prepare_codes(case.victim, ["a", "b"], DIGITS[1], plan="block")
    write_codes(draw_codes(made), known_codes)
    asks = folder / "asks.fp"
    scheme = ownership.extract(case.victim, data=DIGITS[1], scheme="sac-normal", budget=4)
    write_fingerprint(scheme, asks)
    for seed, name in enumerate(("one", "other")):
        chance = torch.Generator().manual_seed(seed)
        save_file({"w": torch.randn(8, 8, generator=chance)}, folder / f"{name}.safetensors")
    one, other = folder / "one.safetensors", folder / "other.safetensors"
    model, header = read_model(case.stolen)
    run = ("-j", 1, "--limit", 1)
    strong = strong_row(folder, case.victim)
    cleaned = ("--statistic", "weights_only", "--clean", case.independents)
    judged = ("verify", case.calibrated, case.stolen, "--alpha", 0.05)
    SUITES._targets["tests/refused"] = f"{__name__}:refused"
    with ExitStack() as stack:
        server = stack.enter_context(ModelServer(model, header.input_shape))
        stack.callback(SUITES._targets.pop, "tests/refused")
        paid = (server.url, "--set", "model=m", "--set", "output=logits", "--set", "budget=3", "--set", "batch=1")
        asked = (*paid, "--classes", 10, "--shape", "1,8,8")
        served, elsewhere = folder / "served.fp", server.url.replace("127.0.0.1", "localhost")
        known = {"model": "m", "output": "logits", "classes": 10, "input_shape": [1, 8, 8]}
        write_fingerprint(ownership.extract(server.url, data=DIGITS[1], scheme="random", budget=2, **known), served)
        yield (
            disputed(folder, server.url, broken)
            | logged(folder)
            | {
                ("audit", 5): ["audit", served, *paid[:-4], "--set", "budget=1", "--set", "batch=1", *asked[-4:]],
                ("audit", 6): ["audit", case.raw, labels],
                ("audit", 7): ["audit", torn, case.victim],
                ("demo", 7): ["demo", "--cache", store, "-o", folder / "demo.json", "-j", 1],
                ("extract", 5): ["extract", *asked, *DIGITS, "--scheme", "random", "-o", folder / "x.fp"],
                ("extract", 6): ["extract", labels, *DIGITS, "-o", folder / "x.fp"],
                ("extract", 7): ["extract", broken, *DIGITS, "-o", folder / "x.fp"],
                ("calibrate", 5): ["calibrate", case.raw, "--independent", *paid, "-o", folder / "x.fp"],
                ("calibrate", 6): [
                    *("calibrate", case.raw, "--independent", case.stranger, "--victim", labels, *DIGITS),
                    *("--removal", "prune_weights(1/2)", "-o", folder / "x.fp"),
                ],
                ("calibrate", 7): ["calibrate", torn, "--independent", case.stranger],
                ("twins", 5): ["twins", served, "--victim", *asked, "--twin", elsewhere, "--alpha", 0.5],
                ("twins", 6): [
                    *("twins", case.raw, "--victim", labels, "--twin", case.stranger, "--alpha", 0.5),
                    *("--removal", "prune_weights(1/2)", "-o", folder / "x.fp"),
                ],
                ("twins", 7): ["twins", torn, "--victim", case.victim, "--twin", case.stranger],
                ("mark", 6): ["mark", labels, *DIGITS, "--kind", "backdoor", "-o", folder / "m.safetensors"],
                ("mark", 7): ["mark", broken, *DIGITS, "--kind", "backdoor", "-o", folder / "m.safetensors"],
                ("codes make", 6): ["codes", "make", labels, *DIGITS, "--users", users, "-o", folder / "c.codes"],
                ("codes make", 7): ["codes", "make", broken, *DIGITS, "--users", users, "-o", folder / "c.codes"],
                ("codes draw", 7): ["codes", "draw", broken, "--draw", text],
                ("codes copy", 6): [
                    "codes",
                    "copy",
                    known_codes,
                    labels,
                    "--user",
                    "a",
                    "-o",
                    folder / "a.safetensors",
                ],
                ("codes copy", 7): ["codes", "copy", torn, case.victim, "--user", "a", "-o", folder / "a.safetensors"],
                ("trace", 6): ["trace", labels, "--codes", known_codes],
                ("trace", 7): ["trace", case.victim, "--codes", torn],
                ("verify", 3): [*judged, "--fail-on", "derived"],
                ("verify", 4): ["verify", case.raw, case.stolen, "--fail-on", "inconclusive"],
                ("verify", 5): ["verify", case.calibrated, *paid, "--record", folder / "answers.sqlite"],
                ("verify", 6): ["verify", asks, case.stolen, "--access", "labels"],
                ("verify", 7): ["verify", torn, case.stolen],
                ("compare", 3): ["compare", case.victim, case.victim, "--fail-on", "related"],
                ("compare", 4): ["compare", one, other, "--fail-on", "inconclusive"],
                ("compare", 7): ["compare", broken, one],
                ("lineage", 3): ["lineage", folder / "shelf", "--suspect", case.victim, "--fail-on", "related"],
                ("lineage", 4): ["lineage", folder / "shelf", "--suspect", one, "--fail-on", "inconclusive"],
                ("lineage", 7): ["lineage", folder / "nets", "--cache", store],
                ("explain", 5): ["explain", server.url, *asked, *DIGITS],
                ("explain", 7): ["explain", broken, case.stolen, *DIGITS],
                ("inspect", 3): ["inspect", strong, *DIGITS, *cleaned, "--fail-on", "trojaned"],
                ("inspect", 4): ["inspect", case.victim, *DIGITS, *cleaned, "--fail-on", "inconclusive"],
                ("inspect", 6): ["inspect", labels, *DIGITS],
                ("inspect", 7): ["inspect", broken, *DIGITS],
                ("align", 6): ["align", case.victim, labels],
                ("align", 7): ["align", broken, case.stolen],
                ("sift", 6): ["sift", labels, *DIGITS],
                ("sift", 7): ["sift", broken, *DIGITS],
                ("disagree", 5): ["disagree", server.url, *asked, *DIGITS],
                ("disagree", 7): ["disagree", broken, case.stolen, *DIGITS],
                ("zoo build", 6): ["zoo", "build", REFUSED, "-j", 1],
                ("zoo build", 7): ["zoo", "build", RECIPE, "--cache", damaged],
                ("zoo list", 7): ["zoo", "list", "--cache", damaged],
                ("zoo card", 7): ["zoo", "card", RECIPE, "--cache", damaged],
                ("zoo export", 7): ["zoo", "export", RECIPE, "--cache", damaged, "-o", folder / "x.safetensors"],
                ("bench run", 6): ["bench", "run", "tests/refused", *run],
                ("bench run", 7): ["bench", "run", "tests/refused", *run, "--cache", store],
                ("bench grid", 6): ["bench", "grid", "tests/refused", *run, "--schemes", "random+labels+hamming"],
                ("bench grid", 7): ["bench", "grid", "tests/refused", *run, "--cache", store],
                ("bench quality", 6): ["bench", "quality", "tests/refused", *run],
                ("bench quality", 7): ["bench", "quality", "tests/refused", *run, "--cache", store],
                ("bench show", 7): ["bench", "show", text],
                ("bench site", 7): ["bench", "site", text, "-o", folder / "site"],
                ("bench diff", 3): ["bench", "diff", RESULT, changed(folder), "--fail-on", "moved"],
                ("bench diff", 7): ["bench", "diff", RESULT, text],
                ("bench export", 7): ["bench", "export", text, "-o", folder / "x.csv"],
                ("guard", 6): ["guard", labels, *DIGITS],
                ("guard", 7): ["guard", broken, *DIGITS],
                ("lock", 7): ["lock", one, "--recipient", text, "-o", folder / "x.locked"],
                ("unlock", 7): ["unlock", broken, "--key", unlocking(folder), "-o", folder / "x"],
                ("report", 7): ["report", text, "-o", folder / "x.html"],
            }
        )


def disputed(folder, url, broken):
    """What is typed for the codes of ``whorl claim``."""
    of = begin(folder / "claim")
    suspects = folder / "suspects"
    suspects.mkdir()
    endpoint = open_oracle(url, model="m", output="logits", classes=10, input_shape=[1, 8, 8])
    for name, suspect in (("copy", of.copy), ("stranger", of.stranger), ("endpoint", endpoint)):
        of.opened(suspect, folder / f"opening-{name}")
        if suspect is not endpoint:
            write_model(
                suspect.module, suspects / f"{name}.safetensors", architecture="mlp(width=48)", input_shape=(1, 8, 8)
            )
    hidden = suspects / "hidden"
    hidden.mkdir()
    write_model(of.victim.module, hidden / "v.safetensors", architecture="mlp(width=48)", input_shape=(1, 8, 8))
    (hidden / "model.toml").write_text(f'kind = "torch"\npath = "{hidden}/v.safetensors"\naccess = "labels"\n')
    key, public = folder / "owner.pem", folder / "owner.pub"
    key.write_bytes(of.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    key.chmod(0o600)
    other = folder / "witness.pem"
    other.write_bytes(Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    other.chmod(0o600)
    public.write_bytes(of.key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    claim, text = of.folder / "mine.claim", folder / "text"
    text.write_text("nothing")
    signs, null = ("--key", key, "-o", folder / "x"), ("--owner-key", public, "--null-recipe", OF_CLAIM, "-j", 1)

    def check(name, suspect, *more):
        return ["claim", "check", claim, folder / f"opening-{name}", suspect, *null, *more]

    described = ("--set", "model=m", "--set", "output=logits", "--classes", 10, "--shape", "1,8,8")
    return {
        ("claim make", 7): ["claim", "make", broken, *DIGITS, *signs, "--secrets", folder / "secrets"],
        ("claim stamp", 7): ["claim", "stamp", claim, "--token", text, "--tsa-root", text],
        ("claim draw", 7): ["claim", "draw", text, "--as", "owner", "--nonce", folder / "nonce"],
        ("claim open", 7): ["claim", "open", text, "--secrets", folder, "--draw", text, *signs],
        ("claim revoke", 7): ["claim", "revoke", text, "--family", "akh", *signs],
        ("claim check", 3): check("copy", suspects / "copy.safetensors", "--fail-on", "derived"),
        ("claim check", 4): check("stranger", suspects / "stranger.safetensors", "--fail-on", "inconclusive"),
        ("claim check", 5): check(
            *("endpoint", url, *described, "--set", "budget=3", "--record", folder / "claim.sqlite")
        ),
        ("claim check", 6): check("copy", suspects / "copy.safetensors", "--victim", hidden),
        ("claim check", 7): ["claim", "check", text, folder, broken, *null],
        ("claim witness", 7): [
            "claim",
            "witness",
            text,
            "--log-key",
            public,
            "--key",
            other,
            "--seen",
            folder / "seen",
        ],
    }


def logged(folder):
    """A log that is held against another recipe, and one that is torn."""
    log, torn = folder / "training.log", folder / "torn.log"
    log_training(parse_recipe(RECIPE), log, every=3)
    shutil.copytree(log, torn)
    (torn / "log.jsonl").write_bytes((log / "log.jsonl").read_bytes()[:-9])
    check = ("--rho", 0.01, "--recipe", f"{RECIPE[:-1]}, seed=7)", "--fail-on", "inconsistent")
    return {
        ("log verify", 3): ["log", "verify", log, *check],
        ("log verify", 7): ["log", "verify", torn, *check],
    }


def strong_row(folder, path):
    """The model with one row of its head far longer than the others."""
    model, header = read_model(path)
    with torch.no_grad():
        model.head.weight[0] *= 9
    write_model(model, folder / "strong.safetensors", architecture=NET, input_shape=header.input_shape)
    return folder / "strong.safetensors"


def unlocking(folder):
    """A private key of X25519."""
    key = folder / "unlocking.pem"
    key.write_bytes(X25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    key.chmod(0o600)
    return key


def changed(folder):
    """The result with every copy as unlike as can be."""
    result = read_result(RESULT)
    cells = [cell.model_copy(update={"similarity": 0.0}) if cell.kind == "derived" else cell for cell in result.cells]
    write_result(result.model_copy(update={"cells": cells}), folder / "changed.json")
    return folder / "changed.json"


def registered(of, group=""):
    for command in of.registered_commands:
        yield f"{group} {command.name or command.callback.__name__}".lstrip()
    for below in of.registered_groups:
        yield from registered(below.typer_instance, below.name)


WITNESSED = [(verb, code) for verb in VERBS for code in VERBS[verb]]


def test_every_verb_states_its_codes_and_help_shows_them(whorl):
    assert set(registered(app)) == set(VERBS)
    assert {code for codes in VERBS.values() for code in codes} == {
        error.exit_code for error in WhorlError.__subclasses__() if error.exit_code > 2
    } | {3, 4}
    for verb in VERBS:
        shown = " ".join(whorl(*verb.split(), "--help").stdout.split())
        stated = shown.partition("Exit codes: ")[2]
        assert tuple(int(code) for code in re.findall(r"(?:^|; )(\d+) ", stated)) == codes_of(verb), verb
        assert ("--fail-on" in stated) == ("--fail-on" in shown.partition("Exit codes: ")[0])


@pytest.mark.parametrize(("verb", "code"), WITNESSED, ids=[f"{verb} {code}" for verb, code in WITNESSED])
def test_each_stated_code_can_be_had(whorl, situations, verb, code):
    done = whorl(*situations[verb, code])
    assert done.exit_code == code, done.output
    if code > 4:
        assert done.stderr.splitlines()[-1].startswith("error: ")
