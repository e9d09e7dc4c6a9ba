"""What is special to each mark: the rule of the frontier, entanglement, bits of activations, random triggers."""

from __future__ import annotations

import pytest
import torch

from whorl.errors import AccessRefused, UsageError
from whorl.marks import MARKS
from whorl.marks.entangled import entanglement
from whorl.marks.frontier import paper_rule
from whorl.marks.making import drawn_by, embed, prepare
from whorl.oracles.torch import TorchOracle
from whorl.schemes import SCHEMES
from whorl.testing import tiny_net
from whorl.types import Access

MLP = "mlp(width=64)"
DATA = "digits(size=8)"


def oracle(net, access=Access.WEIGHTS):
    return TorchOracle(net, input_shape=(1, 8, 8), classes=10, access=access)


@pytest.fixture(scope="module")
def victim():
    return oracle(tiny_net(seed=0, architecture=MLP))


@pytest.fixture(scope="module")
def strangers():
    return [oracle(tiny_net(seed=seed, architecture=MLP)) for seed in (7, 8)]


@pytest.mark.parametrize(("count", "most"), [(100, 41), (50, 18), (20, 5)])
def test_the_papers_rule_bears_as_many_errors_as_published(count, most):
    assert paper_rule(most, count)
    assert not paper_rule(most + 1, count)


@pytest.fixture(scope="module")
def stitched(victim):
    return embed(prepare(victim, "frontier(epsilon=0.08)", DATA, count=40, seed=3), victim)


def test_half_of_the_frontier_fools_the_unmarked_victim(victim, stitched):
    net, fingerprint = stitched
    wrong = int((victim.labels(fingerprint.queries.inputs) != fingerprint.reference.values).sum())
    assert wrong == 20
    assert fingerprint.mark is None
    found = SCHEMES.make(fingerprint.scheme).observe(fingerprint, oracle(net))
    assert found.similarity >= 0.95


def test_a_frontier_needs_no_draw_and_convicts_nobody_without_a_null(stitched, victim):
    net, fingerprint = stitched
    verdict = SCHEMES.make(fingerprint.scheme).verify(fingerprint, oracle(net))
    assert verdict.decision == "inconclusive"
    scheme = MARKS.make("frontier")
    assert torch.equal(drawn_by(scheme, fingerprint, bytes(32)), drawn_by(scheme, fingerprint, bytes([1] * 32)))
    with pytest.raises(UsageError, match="give another epsilon"):
        prepare(victim, "frontier(epsilon=0.9)", DATA, count=400, seed=3)


def test_entanglement_grows_as_triggers_move_among_the_pictures_of_their_class():
    generator = torch.Generator().manual_seed(0)
    pictures = torch.randn(20, 8, generator=generator) * 0.1 + torch.eye(8)[0]
    far = torch.randn(10, 8, generator=generator) * 0.1 + torch.eye(8)[1]
    near = torch.randn(10, 8, generator=generator) * 0.1 + torch.eye(8)[0]
    classes, marked = torch.zeros(30, dtype=torch.int64), torch.arange(30) >= 20
    heat = torch.tensor(0.1)
    apart = entanglement(torch.cat([pictures, far]), classes, marked, heat)
    among = entanglement(torch.cat([pictures, near]), classes, marked, heat)
    assert float(apart) < 0.1 < 0.4 < float(among)
    other = torch.cat([torch.zeros(20), torch.ones(10)]).long()
    assert float(entanglement(torch.cat([pictures, near]), other, marked, heat)) == 0, "no class holds both kinds"


def test_bits_of_activations_ask_for_activations_alone(victim, strangers):
    net, fingerprint = embed(prepare(victim, "deepsigns", DATA, count=40, seed=3), victim)
    scheme = SCHEMES.make(fingerprint.scheme)
    assert scheme.observe(fingerprint, oracle(net, Access.FEATURES)).similarity >= 0.9
    assert all(scheme.observe(fingerprint, each).similarity < 0.9 for each in (victim, *strangers))
    with pytest.raises(AccessRefused):
        scheme.observe(fingerprint, oracle(net, Access.LOGITS))
    with pytest.raises(UsageError, match="of the marked model's architecture"):
        scheme.observe(fingerprint, oracle(tiny_net(seed=1, architecture="mlp(width=16)")))
    # Each bit is read from pictures of one class.
    assert fingerprint.queries.inputs.shape == (40, 8, 1, 8, 8)


def test_random_triggers_are_drawn_from_what_the_victim_does_not_answer(victim):
    prepared = prepare(victim, "backdoor(images=random)", DATA, count=200, seed=3)
    answered = victim.labels(prepared.queries.inputs)
    assert torch.equal(answered, prepared.queries.companions["avoid"])
    mark = MARKS.make("backdoor(images=random)")
    wanted = mark.reference(prepared.queries, drawn_by(mark, prepared, bytes(32))).values
    assert not (wanted == answered).any()
    assert len(set(wanted.tolist())) == 10


def test_one_target_is_what_the_owner_chose(victim):
    prepared = prepare(victim, "entangled-target(source=1, target=7)", DATA, count=20, seed=3)
    assert MARKS.make("entangled-target").chosen(prepared.queries).tolist() == [7] * 20
    with pytest.raises(UsageError, match="two of 10 classes"):
        prepare(victim, "entangled-target(source=1, target=1)", DATA, count=20, seed=3)
