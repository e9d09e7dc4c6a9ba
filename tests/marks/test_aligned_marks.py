"""Bits in weights whose units were put back in the order of the unmarked model: copies are found, strangers are not."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch
from test_marks import drawn_for, oracle
from typer.testing import CliRunner

import whorl
from whorl.cli.app import app
from whorl.detection.design import Design
from whorl.errors import UsageError
from whorl.fingerprints.files import write_fingerprint
from whorl.marks.aligning import Aligned
from whorl.marks.base import UNMARKED, commitment_of
from whorl.marks.making import embed, prepare
from whorl.nets.files import write_model
from whorl.oracles.torch import TorchOracle
from whorl.schemes import SCHEMES
from whorl.several import verify_suspects
from whorl.symmetry.obfuscation import rescale, shuffle
from whorl.testing import tiny_data, tiny_net
from whorl.types import Access

KINDS = ("uchida", "deepsigns")
NET = "resnet8(width=8)"
DATA = "digits(size=8)"


def hidden(net, seed=1):
    """The same function, with other units in other places."""
    generator = torch.Generator().manual_seed(seed)
    return rescale(shuffle(net, generator=generator), generator=generator)


@pytest.fixture(scope="module", params=KINDS)
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def owners(kind):
    """Three: the unmarked model, the judge's number, the marked net and its fingerprint."""
    found = []
    for seed in (0, 1, 2):
        victim = oracle(tiny_net(seed=seed, architecture=NET))
        prepared = prepare(victim, kind, DATA, count=40, seed=3 + seed)
        draw = drawn_for(commitment_of(prepared), seed)
        found.append((victim, draw.events[-1][2], *embed(prepared, victim, draw=draw)))
    return found


def test_reordered_copies_are_found_by_the_model_that_was_there_before_the_draw(owners):
    for victim, number, net, fingerprint in owners:
        thief = oracle(hidden(net))
        assert whorl.verify(fingerprint, thief, nonce=number).decision == "inconclusive"
        verdict = whorl.verify(fingerprint, thief, nonce=number, align_to=victim)
        assert (verdict.decision, verdict.grade, verdict.null["design"]["exact"]) == ("derived", "B", True)
        assert verdict.record["rule"]["align_to"] == victim.digest
        assert verdict.record["suspect"] == thief.digest
        assert any("order of the unmarked model" in each for each in verdict.caveats)


def test_a_copy_that_kept_its_order_is_found_aligned_too(owners):
    victim, number, net, fingerprint = owners[0]
    assert whorl.verify(fingerprint, oracle(net), nonce=number, align_to=victim).decision == "derived"


def test_what_a_suspect_answers_stays_its_own(owners):
    victim, _, net, _ = owners[0]
    thief = oracle(hidden(net))
    aligned, pictures = Aligned.of(victim, thief), tiny_data("test").images
    assert torch.equal(aligned.logits(pictures), thief.logits(pictures))
    # Of the very model, units come back where they stood, and as long but for one factor of the layer.
    own = Aligned.of(victim, oracle(hidden(victim.net)))
    for layer in victim.layers:
        read, wanted = own.activations(pictures, layer), victim.activations(pictures, layer)
        assert torch.allclose(read / read.norm(), wanted / wanted.norm(), atol=1e-4), layer


def test_aligned_strangers_match_drawn_bits_by_chance(kind, owners):
    """Over draws p <= alpha is as rare as alpha, of strangers as of the unmarked model itself."""
    victim, _, _, fingerprint = owners[0]
    mark = SCHEMES.make(fingerprint.scheme)
    suspects = [*(oracle(tiny_net(seed=seed, architecture=NET)) for seed in (7, 8, 9)), oracle(hidden(victim.net))]
    read = [mark.represent(Aligned.of(victim, each), fingerprint.queries).values for each in suspects]
    generator, small, draws = torch.Generator().manual_seed(1), [0] * len(read), 1000
    for _ in range(draws):
        drawn = torch.randint(2, (40,), generator=generator)
        design = Design(tuple(drawn.tolist()), 2, 1, kind="bits")
        for place, bits in enumerate(read):
            small[place] += design.test(bits.numpy()).p <= 0.05
    assert all(0 < each <= draws * 0.05 + 3 * (draws * 0.05) ** 0.5 for each in small), small


def test_the_marked_copy_is_no_model_to_align_with(owners):
    """By it strangers would be put in the order that shows their bits best."""
    _, number, net, fingerprint = owners[0]
    for wrong in (oracle(net), owners[1][0]):
        with pytest.raises(UsageError, match="not the model that this mark was put into"):
            whorl.verify(fingerprint, oracle(net), nonce=number, align_to=wrong)


def test_the_unmarked_model_is_fixed_before_the_draw(owners):
    victim, number, net, fingerprint = owners[0]
    queries = fingerprint.queries
    other = dataclasses.replace(queries, notes={**queries.notes, UNMARKED: owners[1][0].digest})
    forged = dataclasses.replace(fingerprint, queries=other)
    assert commitment_of(forged) != commitment_of(fingerprint)
    verdict = whorl.verify(forged, oracle(net), nonce=number, align_to=owners[1][0])
    assert (verdict.grade, verdict.null["design"]["exact"]) == ("D", False)
    old = dataclasses.replace(queries, notes={"layer": queries.notes["layer"]})
    before = dataclasses.replace(fingerprint, queries=old)
    assert whorl.verify(before, oracle(net)).decision == "derived"
    with pytest.raises(UsageError, match="mark was made before marks fixed"):
        whorl.verify(before, oracle(net), align_to=victim)


def test_several_suspects_are_aligned_one_by_one(owners):
    victim, _, net, fingerprint = owners[0]
    stranger = oracle(tiny_net(seed=7, architecture=NET))
    wide = oracle(tiny_net(seed=7, architecture="resnet8(width=4)"))
    suspects = {"thief": oracle(hidden(net)), "stranger": stranger, "wide": wide}
    found = verify_suspects(fingerprint, suspects, align_to=victim)
    assert {each.suspect: each.decision for each in found.verdicts} == {"thief": "derived", "stranger": "inconclusive"}
    assert "not of the architecture" in found.refused["wide"]


def test_aligned_and_unaligned_are_two_looks(owners, tmp_path):
    victim, _, net, fingerprint = owners[0]
    path = tmp_path / "m.fp"
    write_fingerprint(fingerprint, path)
    assert whorl.verify(path, oracle(hidden(net)), cache=tmp_path).decision == "inconclusive"
    verdict = whorl.verify(path, oracle(hidden(net)), align_to=victim, cache=tmp_path)
    assert verdict.decision == "derived"
    assert any("by this fingerprint before this one: 1, of this suspect: 1" in each for each in verdict.caveats)
    (look,) = verdict.record["looks"]
    assert "align_to" not in look["rule"]


def test_what_cannot_be_aligned_is_refused_in_one_line(owners):
    victim, _, net, fingerprint = owners[0]
    spoiled = hidden(net)
    with torch.no_grad():
        next(spoiled.parameters()).view(-1)[0] = float("nan")
    with pytest.raises(UsageError, match="NaN or infinite"):
        whorl.verify(fingerprint, oracle(spoiled), align_to=victim)
    shown = TorchOracle(net, input_shape=(1, 8, 8), classes=10, access=Access.FEATURES)
    with pytest.raises(UsageError, match="units are put in order by weights"):
        whorl.verify(fingerprint, shown, align_to=victim)


def test_labels_have_no_order_of_units():
    victim = oracle(tiny_net(seed=0, architecture="mlp(width=64)"))
    prepared = prepare(victim, "backdoor", DATA, count=40, seed=3)
    with pytest.raises(UsageError, match="only bits in weights depend"):
        whorl.verify(prepared, victim, align_to=victim)


def test_the_command_line_aligns(owners, tmp_path):
    victim, _, net, fingerprint = owners[0]
    paths = {name: str(tmp_path / f"{name}.safetensors") for name in ("mine", "thief")}
    for each, path in ((victim.net, paths["mine"]), (hidden(net), paths["thief"])):
        write_model(each, path, architecture=NET, input_shape=(1, 8, 8))
    write_fingerprint(fingerprint, tmp_path / "m.fp")
    asked = ["verify", str(tmp_path / "m.fp"), paths["thief"], "--cache", str(tmp_path), "--json"]

    def invoke(*words):
        return CliRunner().invoke(app, list(words))

    decisions = [json.loads(invoke(*asked, *more).stdout)["decision"] for more in ((), ("--align-to", paths["mine"]))]
    assert decisions == ["inconclusive", "derived"]
    refused = invoke(*asked, "--align-to", paths["thief"])
    assert (refused.exit_code, "not the model that this mark was put into" in refused.stderr) == (2, True)
