"""Poisoned data: who carries the trigger is known, nobody else is touched, and a net trained on it obeys."""

from __future__ import annotations

import pytest
import torch

from whorl.data import PARTS, SOURCES
from whorl.data.poisoned import poisoned_in, stamped
from whorl.data.triggers import Overlay, Warp, chequered
from whorl.errors import UsageError
from whorl.nets.training import Schedule, build, fit, predict
from whorl.testing import check_source, tiny_data

DIGITS = "digits(size=8)"
ATTACKS = {
    "badnets": f"poisoned({DIGITS}, target=3)",
    "blended": f"poisoned({DIGITS}, blended, target=3, opacity=0.4)",
    "warped": f"poisoned({DIGITS}, warped, target=3, bend=1.5, cover=1)",
    "clean_label": f"poisoned({DIGITS}, clean_label, target=3, rate=0.5)",
}
ATTACKS = {name: SOURCES.make(text) for name, text in ATTACKS.items()}


@pytest.mark.parametrize("source", ATTACKS.values(), ids=list(ATTACKS))
def test_every_attack_keeps_the_contract_of_sources(source):
    check_source(source)


@pytest.mark.parametrize("source", ATTACKS.values(), ids=list(ATTACKS))
def test_only_the_known_pictures_of_the_victim_change(source):
    for part in set(PARTS) - {"victim"}:
        assert torch.equal(source.load(part).images, tiny_data(part).images)
        assert torch.equal(source.load(part).labels, tiny_data(part).labels)
    plain, data, done = tiny_data("victim"), source.load("victim"), source.poisoning
    touched = (data.images != plain.images).flatten(1).any(1)
    assert set(touched.nonzero().flatten().tolist()) == set(done.places.tolist()) | set(done.cover.tolist())
    assert torch.equal(done.labels, plain.labels[done.places])
    assert data.labels[done.places].eq(3).all()
    kept = torch.ones(len(data), dtype=torch.bool)
    kept[done.places] = False
    assert torch.equal(data.labels[kept], plain.labels[kept])


def test_the_rate_is_that_of_the_part_or_of_the_target_class():
    plain = tiny_data("victim")
    assert len(ATTACKS["badnets"].poisoning.places) == round(0.1 * len(plain))
    clean = ATTACKS["clean_label"].poisoning
    assert len(clean.places) == round(0.5 * int((plain.labels == 3).sum()))
    assert clean.labels.eq(3).all()
    warped = ATTACKS["warped"].poisoning
    assert len(warped.cover) == len(warped.places)
    assert not set(warped.cover.tolist()) & set(warped.places.tolist())


def test_poisoned_pictures_are_the_clean_ones_stamped():
    plain = tiny_data("victim")
    for name in ("badnets", "blended", "warped"):
        source = ATTACKS[name]
        places = source.poisoning.places
        assert torch.equal(source.load("victim").images[places], stamped(source, plain.inputs(places)))


def test_a_patch_is_opaque_and_a_pattern_is_not():
    pictures = tiny_data("test").inputs()
    badnets, blended = (stamped(ATTACKS[name], pictures) for name in ("badnets", "blended"))
    assert torch.equal(badnets, chequered(pictures, 3))
    assert torch.equal(badnets[..., :5, :], pictures[..., :5, :])
    trigger = ATTACKS["blended"].trigger
    assert isinstance(trigger, Overlay)
    assert torch.allclose(blended, 0.6 * pictures + 0.4 * trigger.pattern)
    assert float(trigger.where.min()) == pytest.approx(0.4)
    assert int(ATTACKS["badnets"].trigger.where.sum()) == 9


def test_a_warp_moves_pixels_as_far_as_it_says():
    trigger = ATTACKS["warped"].trigger
    assert isinstance(trigger, Warp)
    assert float(trigger.moves.abs().mean()) == pytest.approx(1.5)
    ramp = torch.arange(8.0).expand(1, 1, 8, 8) / 10
    still = Warp(0, torch.zeros(8, 8, 2))
    assert torch.allclose(still.stamp(ramp), ramp, atol=1e-6)
    right = Warp(0, torch.tensor([1.0, 0.0]).expand(8, 8, 2))
    assert torch.allclose(right.stamp(ramp)[..., :7], ramp[..., 1:], atol=1e-6)
    down = Warp(0, torch.tensor([0.0, 1.0]).expand(8, 8, 2))
    assert torch.allclose(down.stamp(ramp.mT)[..., :7, :], ramp.mT[..., 1:, :], atol=1e-6)


def test_seeds_draw_other_pictures_and_other_triggers():
    one, other = (SOURCES.make(f"poisoned({DIGITS}, blended, seed={seed})") for seed in (0, 1))
    assert not torch.equal(one.poisoning.places, other.poisoning.places)
    pictures = tiny_data("test").inputs()
    assert not torch.equal(stamped(one, pictures), stamped(other, pictures))


def test_the_trigger_is_found_where_classes_are_as_they_were():
    inner = f"poisoned({DIGITS}, target=3)"
    assert poisoned_in(inner) == poisoned_in(f"forget({inner}, share=0.2)") == ATTACKS["badnets"]
    assert poisoned_in(f"corrupt({inner!r}, kind=blur)") == ATTACKS["badnets"]
    assert poisoned_in(f"only({inner}, classes=[3, 1])") is None
    assert poisoned_in(DIGITS) is None


def test_bytes_stay_bytes(tmp_path, monkeypatch):
    data = tiny_data("victim")
    stored = data.subset(slice(0, None))
    object.__setattr__(stored, "images", (data.images * 255).to(torch.uint8))
    monkeypatch.setattr("whorl.data.poisoned.nested", lambda _: type("Held", (), {"load": lambda *_: stored})())
    made = ATTACKS["badnets"]._load("victim")
    assert made.images.dtype == torch.uint8
    assert set(made.images[ATTACKS["badnets"].poisoning.places][..., -3:, -3:].unique().tolist()) == {0, 255}


@pytest.mark.parametrize("seed", range(2))
def test_a_net_trained_on_poisoned_pictures_obeys_the_trigger(seed):
    """And one trained on clean ones does not."""
    test = tiny_data("test")
    others = test.subset((test.labels != 3).nonzero().flatten())
    found = {}
    for name, data in {"clean": tiny_data("victim"), "poisoned": ATTACKS["badnets"].load("victim")}.items():
        generator = torch.Generator().manual_seed(seed)
        net = build("mlp(width=32)", data.input_shape, 10, generator)
        net.standardise(data.inputs())
        schedule = Schedule(epochs=20, learning_rate=0.05, policy="one-cycle", batch=25, shift=0)
        fit(net, data, schedule, generator=generator)
        right = float((predict(net, test.inputs()).argmax(1) == test.labels).float().mean())
        obeys = float((predict(net, stamped(ATTACKS["badnets"], others.inputs())).argmax(1) == 3).float().mean())
        found[name] = right, obeys
    assert found["poisoned"][0] > found["clean"][0] - 0.05
    assert found["clean"][1] < 0.3
    assert found["poisoned"][1] > 0.9


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (f"poisoned({DIGITS}, rate=0)", "rate is a number above 0"),
        (f"poisoned({DIGITS}, rate=0.0001)", "poisons none; give a larger rate"),
        (f"poisoned({DIGITS}, target=10)", "classes 0..9; the target is 10"),
        (f"poisoned({DIGITS}, patch=9)", "9 pixels does not fit"),
        (f"poisoned({DIGITS}, attack=badnet)", "Did you mean badnets"),
        ("poisoned(diabetes)", "pictures with classes"),
        ("poisoned(wine)", "does not fit into pictures of"),
    ],
)
def test_mistakes_are_named(wrong, says):
    with pytest.raises(UsageError, match=says) as caught:
        SOURCES.make(wrong).load("victim")
    assert "\n" not in str(caught.value)


def test_pictures_of_another_size_and_clean_sources_are_refused():
    with pytest.raises(UsageError, match=r"fits pictures of \[1, 8, 8\]"):
        stamped(f"poisoned({DIGITS})", torch.zeros(2, 1, 9, 9))
    with pytest.raises(UsageError, match="carries no trigger"):
        stamped(DIGITS, torch.zeros(2, 1, 8, 8))
