"""Every mark: what is fixed before the draw, what is drawn, and that a model without it matches by chance alone."""

from __future__ import annotations

import dataclasses
import hashlib

import pytest
import torch

from whorl.attest.draw import Draw, commitment
from whorl.errors import AccessRefused, InvalidFile, UsageError
from whorl.fingerprints.files import write_fingerprint
from whorl.marks import MARKS
from whorl.marks.base import commitment_of
from whorl.marks.making import embed, prepare
from whorl.nets.training import accuracy
from whorl.oracles.torch import TorchOracle
from whorl.schemes import SCHEMES
from whorl.schemes.opening import read_fingerprint
from whorl.testing import tiny_data, tiny_net
from whorl.types import Access, Grade

MLP = "mlp(width=64)"
DATA = "digits(size=8)"
DRAWN = [name for name in MARKS if getattr(MARKS[name], "null", "") == "design" and name != "dawn"]  # it is served


def oracle(net):
    return TorchOracle(net, input_shape=(1, 8, 8), classes=10)


@pytest.fixture(scope="module")
def victim():
    return oracle(tiny_net(seed=0, architecture=MLP))


@pytest.fixture(scope="module")
def strangers():
    return [oracle(tiny_net(seed=seed, architecture=MLP)) for seed in (7, 8, 9)]


@pytest.fixture(scope="module")
def made(victim):
    """By kind: what was prepared, the draw, the marked net and its fingerprint."""
    found = {}
    for name in DRAWN:
        prepared = prepare(victim, name, DATA, count=40, seed=3)
        draw = drawn_for(commitment_of(prepared))
        found[name] = (prepared, draw, *embed(prepared, victim, draw=draw))
    return found


def drawn_for(purpose, number=1):
    """A draw of owner and judge whose numbers are fixed here."""
    owner, judge = (hashlib.sha256(f"{role} {number}".encode()).digest() for role in ("owner", "judge"))
    return Draw(
        purpose,
        (
            ("judge", "commits", commitment("judge", purpose, judge)),
            ("owner", "commits", commitment("owner", purpose, owner)),
            ("owner", "reveals", owner.hex()),
            ("judge", "reveals", judge.hex()),
        ),
    )


def verified(fingerprint, suspect, **options):
    return SCHEMES.make(fingerprint.scheme).verify(fingerprint, suspect, alpha=1e-6, **options)


@pytest.mark.parametrize("name", DRAWN)
def test_the_marked_model_shows_it_and_others_do_not(made, victim, strangers, name):
    _, draw, net, fingerprint = made[name]
    verdict = verified(fingerprint, oracle(net), nonce=draw.events[-1][2])
    assert (verdict.decision, verdict.grade) == ("derived", Grade.B)
    assert verdict.null["design"]["exact"]
    assert accuracy(net, tiny_data("test")) >= accuracy(victim.module, tiny_data("test")) - 0.1
    for other in (victim, *strangers):
        assert verified(fingerprint, other).decision == "inconclusive"


@pytest.mark.parametrize("name", DRAWN)
def test_a_file_keeps_it(made, tmp_path, name):
    fingerprint = made[name][3]
    write_fingerprint(fingerprint, tmp_path / "m.fp")
    known = read_fingerprint(tmp_path / "m.fp")
    assert commitment_of(known) == commitment_of(fingerprint)
    assert SCHEMES.make(known.scheme).design(known) == SCHEMES.make(known.scheme).design(fingerprint)


@pytest.mark.parametrize("name", DRAWN)
def test_what_was_prepared_is_fixed_by_its_commitment(made, victim, name):
    prepared = made[name][0]
    assert commitment_of(prepare(victim, name, DATA, count=40, seed=3)) == commitment_of(prepared)
    assert commitment_of(prepare(victim, name, DATA, count=40, seed=4)) != commitment_of(prepared)


def test_a_draw_for_another_mark_is_refused(made, victim):
    prepared, _, _, _ = made["uchida"]
    with pytest.raises(UsageError, match="draw for this one"):
        embed(prepared, victim, draw=drawn_for("ab" * 32))


def test_labels_that_were_not_drawn_are_not_called_exact(made):
    _, draw, net, fingerprint = made["backdoor"]
    changed = fingerprint.mark.drawn.clone()
    changed[0] = (changed[0] + 1) % 10
    forged = dataclasses.replace(
        fingerprint,
        mark=dataclasses.replace(fingerprint.mark, drawn=changed),
        reference=dataclasses.replace(fingerprint.reference, values=changed),
    )
    verdict = verified(forged, oracle(net), nonce=draw.events[-1][2])
    assert verdict.grade is Grade.D
    assert not verdict.null["design"]["exact"]
    assert "not those that were drawn" in verdict.caveats[1]


def test_who_took_no_part_in_the_draw_is_told_so(made):
    _, _, net, fingerprint = made["backdoor"]
    verdict = verified(fingerprint, oracle(net))
    assert verdict.grade is Grade.D
    assert "your own number is not in the draw" in verdict.caveats[1]
    assert verified(fingerprint, oracle(net), nonce="00" * 32).grade is Grade.D


def test_a_reference_that_is_not_what_was_drawn_is_refused(made):
    _, _, net, fingerprint = made["backdoor"]
    other = dataclasses.replace(fingerprint.reference, values=(fingerprint.reference.values + 1) % 10)
    with pytest.raises(InvalidFile, match="not those that its reference holds"):
        verified(dataclasses.replace(fingerprint, reference=other), oracle(net))


def test_each_draw_costs(made, victim):
    prepared, draw, net, fingerprint = made["backdoor"]
    more = dataclasses.replace(fingerprint.mark, draw={**fingerprint.mark.draw, "draws": 1000})
    # All are asked, so that the binomial tail decides in both.
    once, often = (
        SCHEMES.make(each.scheme).verify(each, oracle(net), alpha=1e-30)
        for each in (fingerprint, dataclasses.replace(fingerprint, mark=more))
    )
    assert often.p_value == pytest.approx(1000 * once.p_value)
    with pytest.raises(UsageError, match="at least once"):
        embed(prepared, victim, draw=draw, draws=0)


def test_a_mark_that_waits_for_its_draw_says_nothing(made, victim):
    with pytest.raises(UsageError, match="not drawn yet"):
        verified(made["backdoor"][0], victim)


def test_a_mark_is_not_extracted(victim):
    with pytest.raises(UsageError, match="whorl mark"):
        SCHEMES.make("backdoor").extract(victim, tiny_data("victim"))


def test_marks_are_no_schemes_of_the_list():
    assert not set(MARKS) & set(SCHEMES)
    assert "backdoor" in SCHEMES


def test_strangers_match_drawn_labels_by_chance(victim, strangers):
    """Over draws, p-values of one stranger are at most alpha as often as alpha: what its answers are plays no part."""
    prepared = prepare(victim, "backdoor", DATA, count=50, seed=5)
    scheme = SCHEMES.make("backdoor")
    answers = [stranger.labels(prepared.queries.inputs) for stranger in strangers]
    from whorl.detection.design import Design

    generator = torch.Generator().manual_seed(1)
    small = 0
    for _ in range(500):
        drawn = torch.randint(10, (50,), generator=generator)
        design = Design(tuple(drawn.tolist()), scheme.choices(prepared.queries, 10), 1)
        small += sum(design.test(each.numpy()).p <= 0.05 for each in answers)
    assert small <= 1500 * 0.05 + 3 * (1500 * 0.05) ** 0.5


def test_who_shows_too_little_is_told_what_to_give(victim):
    shown = TorchOracle(victim.module, input_shape=(1, 8, 8), classes=10, access=Access.LABELS)
    with pytest.raises(AccessRefused, match="give the file that holds them, and --architecture"):
        prepare(shown, "backdoor", DATA, count=8)
    _, made = embed(prepare(victim, "uchida(epochs=1)", DATA, count=8), victim)
    with pytest.raises(AccessRefused, match="which marks need labels alone: whorl marks"):
        SCHEMES.make(made.scheme).verify(made, shown)
