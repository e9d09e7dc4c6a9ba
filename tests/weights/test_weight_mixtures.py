"""Coefficients, nulls and overlaps against brute force on whole vectors, and merges that a folder should show."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from scipy.stats import kstest

from whorl.checkpoints.opening import open_checkpoint
from whorl.errors import UsageError
from whorl.weights.family.evenness import spread_of, unevenness
from whorl.weights.family.merges import merges_of
from whorl.weights.family.mixtures import document, fit, mixture, own_parts
from whorl.weights.family.products import Matrices, products

SHAPES = {"a": (40, 30), "b": (20, 50), "gain": (30,)}


def drawn(seed, scale=1.0, shapes=SHAPES):
    generator = torch.Generator().manual_seed(seed)
    return {name: scale * torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def added(*terms):
    """The sum of (factor, tensors)."""
    return {name: sum(factor * each[name] for factor, each in terms) for name in terms[0][1]}


def flat(tensors):
    return torch.cat([value.reshape(-1) for value in tensors.values() if value.ndim > 1]).double().numpy()


@pytest.fixture
def keep(tmp_path):
    """``keep(name, tensors)``: the file that holds them."""

    def save(name, tensors):
        save_file({key: value.contiguous() for key, value in tensors.items()}, tmp_path / f"{name}.safetensors")
        return tmp_path / f"{name}.safetensors"

    return save


@pytest.fixture
def family(keep):
    """An ancestor, two nets tuned from it in matrices of unlike size, and their files."""
    start, one, two = drawn(0), drawn(1, 0.1), drawn(2, 0.1)
    two["b"] *= 3
    two = added((1, two), (0.4, one))
    nets = {"start": start, "one": added((1, start), (1, one)), "two": added((1, start), (1, two))}
    return nets, {name: keep(name, tensors) for name, tensors in nets.items()}


def test_coefficients_of_task_vectors_are_least_squares(family, keep):
    nets, files = family
    child = added((1, nets["start"]), (0.6, nets["one"]), (-0.2, nets["two"]), (1, drawn(3, 0.05)))
    start = flat(nets["start"])
    changes = np.stack([flat(nets[name]) - start for name in ("one", "two")] + [start], 1)
    wanted, left, *_ = np.linalg.lstsq(changes, flat(child) - start, rcond=None)
    found = mixture(keep("child", child), [files["one"], files["two"]], ancestor=files["start"], rows=0)
    assert [each.value for each in found.coefficients] == pytest.approx(wanted[:2].tolist(), abs=1e-6)
    assert found.explained == pytest.approx(1 - left[0] / np.square(flat(child) - start).sum(), abs=1e-6)
    assert found.numbers == 2200


def test_without_an_ancestor_weights_sum_to_one(family, keep):
    nets, files = family
    child = added((0.7, nets["one"]), (0.5, nets["two"]), (1, drawn(3, 0.05)))
    step, way = flat(nets["one"]) - flat(nets["two"]), flat(child) - flat(nets["two"])
    found = mixture(keep("child", child), [files["one"], files["two"]], rows=0)
    first, second = (each.value for each in found.coefficients)
    assert first == pytest.approx(step @ way / (step @ step), abs=1e-6)
    assert first + second == pytest.approx(1, abs=1e-9)
    assert found.ancestor is None
    assert not found.overlaps


def test_an_exact_merge_is_explained_and_growth_of_the_ancestor_is_no_share(family, keep):
    nets, files = family
    child = keep("child", added((0.52, nets["one"]), (0.5, nets["two"])))
    found = mixture(child, [files["one"], files["two"]], ancestor=files["start"])
    assert [each.value for each in found.coefficients] == pytest.approx([0.52, 0.5], abs=1e-6)
    assert found.explained == pytest.approx(1, abs=1e-9)
    assert document(found)["unexplained"] == pytest.approx(0, abs=1e-9)


def test_the_null_is_the_spread_of_drawn_orders_and_signs(family, keep):
    nets, files = family
    child = added((1, nets["one"]), (0.3, nets["two"]), (1, drawn(3, 0.2)), (-0.3, nets["start"]))
    files["child"] = keep("child", child)
    found = products([Matrices(open_checkpoint(files[name])) for name in ("child", "one", "two", "start")], rows=0)
    points = [1, 2, 3, found.origin]
    own, rest = own_parts(found.total, 0, points)
    whole = np.stack([flat({"child": child, **nets}[name]) for name in ("child", "one", "two", "start")])
    whole = np.concatenate([whole, 0 * whole[:1]])
    generator = np.random.default_rng(0)
    for place in (0, 1):
        ours, theirs = own[place] @ whole, rest[place] @ whole
        halves = [slice(0, 1200), slice(1200, None)]
        coefficients = [
            sum((generator.permutation(ours[h]) * generator.choice([-1, 1], ours[h].size)) @ theirs[h] for h in halves)
            / (ours @ ours)
            for _ in range(4000)
        ]
        assert np.mean(coefficients) == pytest.approx(0, abs=4 * np.std(coefficients) / np.sqrt(4000))
        assert fit(found, 0, points).null[place] == pytest.approx(np.std(coefficients), rel=0.05)


def test_a_candidate_that_owes_nothing_strays_as_the_null_says(keep):
    start = keep("start", drawn(0))
    child = keep("child", added((1, drawn(0)), (1, drawn(1, 0.3))))
    strangers = [keep(f"stranger-{seed}", drawn(seed, 0.5)) for seed in range(10, 310)]
    scores = []
    for place in range(0, 300, 10):  # ten at a time: each is beside nine others
        found = mixture(child, strangers[place : place + 10], ancestor=start, rows=0)
        scores += [each.value / each.null for each in found.coefficients]
    assert kstest(scores, "norm").pvalue > 0.01


def test_overlaps_are_cosines_and_shares_of_equal_signs(family, keep):
    nets, files = family
    child = keep("child", nets["one"] | {"gain": nets["one"]["gain"] + 1})
    found = mixture(child, [files["two"]], ancestor=files["start"], rows=0)
    (told,) = found.overlaps
    one, two = (added((1, nets[name]), (-1, nets["start"])) for name in ("one", "two"))
    cosine = flat(one) @ flat(two) / np.linalg.norm(flat(one)) / np.linalg.norm(flat(two))
    assert told.cosine == pytest.approx(cosine, abs=1e-6)
    equal = large = 0
    for name in ("a", "b"):
        sizes = [
            each[name].abs() >= each[name].abs().flatten().topk(each[name].numel() // 5).values[-1]
            for each in (one, two)
        ]
        both = sizes[0] & sizes[1]
        large += int(both.sum())
        equal += int((both & (one[name].sign() == two[name].sign())).sum())
    assert told.compared == large
    assert told.equal_signs == pytest.approx(equal / large)
    assert told.equal_signs_null == pytest.approx(0.5 / np.sqrt(large))
    shuffled = [np.random.default_rng(seed).permutation(flat(one)[:1200]) @ flat(two)[:1200] for seed in range(2000)]
    others = [np.random.default_rng(seed).permutation(flat(one)[1200:]) @ flat(two)[1200:] for seed in range(2000)]
    spread = np.std(np.add(shuffled, others)) / np.linalg.norm(flat(one)) / np.linalg.norm(flat(two))
    assert told.cosine_null == pytest.approx(spread, rel=0.08)


def test_tall_matrices_are_read_in_blocks(keep):
    shapes = {"w": (2500, 6)}
    one, two = drawn(1, shapes=shapes), drawn(2, shapes=shapes)
    child = keep("child", added((0.25, one), (0.75, two)))
    files = [keep("one", one), keep("two", two)]
    whole, some = mixture(child, files, rows=0), mixture(child, files)
    assert (whole.numbers, some.numbers) == (15000, 64 * 6)
    for found in (whole, some):
        assert [each.value for each in found.coefficients] == pytest.approx([0.25, 0.75], abs=1e-6)


@pytest.mark.parametrize("kind", ["gpt2", "mixtral", "vit"])
def test_nets_with_roles(saved, tmp_path, kind):
    """Turned matrices, experts, and norms that are not mixed like the rest."""
    held = [load_file(saved(kind, seed) / "model.safetensors") for seed in (0, 1)]
    mean = {name: 0.3 * value + 0.7 * held[1][name] for name, value in held[0].items()}
    save_file(mean, tmp_path / "model.safetensors", {"format": "pt"})
    (tmp_path / "config.json").write_text((saved(kind, 0) / "config.json").read_text())
    found = mixture(tmp_path, [saved(kind, 0), saved(kind, 1)])
    assert [each.value for each in found.coefficients] == pytest.approx([0.3, 0.7], abs=1e-5)


def test_what_cannot_be_mixed_is_refused_in_one_line(family, keep):
    _, files = family
    one, two, start = (files[name] for name in ("one", "two", "start"))
    tall = keep("tall", {**drawn(1), "a": torch.zeros(41, 30)})
    fewer = keep("fewer", {"a": torch.zeros(40, 30)})
    flat_one = keep("flat", {"gain": torch.zeros(30)})
    for wrong, says in ((tall, r"\[40, 30\] in one and \[41, 30\]"), (fewer, "only one has b")):
        with pytest.raises(UsageError, match=says):
            mixture(one, [two, wrong])
    with pytest.raises(UsageError, match="no matrix"):
        mixture(flat_one, [flat_one, flat_one])
    with pytest.raises(UsageError, match="at least two parents"):
        mixture(one, [two])
    for copies in ([two, two], [two, start]):
        with pytest.raises(UsageError, match="copy or a combination"):
            mixture(one, copies, ancestor=start)


def test_a_copy_of_the_ancestor_leaves_nothing_to_explain(family):
    _, files = family
    found = mixture(files["start"], [files["one"], files["two"]], ancestor=files["start"])
    assert found.explained == 1
    assert [each.value for each in found.coefficients] == pytest.approx([0, 0], abs=1e-9)


def thinned(change, generator, density=0.5):
    return {
        name: value * (torch.rand(value.shape, generator=generator) < density) / density
        for name, value in change.items()
    }


@pytest.fixture
def merged(keep):
    """An ancestor, three tunes, a DARE of two of them and a net that learned what the first two learned.

    What they learn is of rank 1, the same in all but for chance.
    """
    generator = torch.Generator().manual_seed(5)
    shapes = dict.fromkeys("abcdef", (64, 48))
    start, lessons = drawn(0, shapes=shapes), [drawn(seed, shapes=shapes) for seed in (1, 2, 3)]
    ranked = [{name: torch.outer(each[name][:, 0], each[name][0]) / 3 for name in shapes} for each in lessons]
    tunes = [added((1, each), (0.3, drawn(10 + place, shapes=shapes))) for place, each in enumerate(ranked)]
    both = added(*[(0.5, thinned(tune, generator)) for tune in tunes[:2]])
    alike = added((0.5, ranked[0]), (0.5, ranked[1]), (0.3, drawn(20, shapes=shapes)))
    changes = dict(zip(("s", "t", "u", "dare", "alike"), [*tunes, both, alike], strict=True))
    files = {"start": keep("start", start)} | {
        name: keep(name, added((1, start), (1, each))) for name, each in changes.items()
    }
    return {name: open_checkpoint(path) for name, path in files.items()}


def test_a_thinned_merge_needs_an_ancestor_that_is_told(merged):
    names = ["start", "s", "t", "u", "dare"]
    nets = [merged[name] for name in names]
    told = merges_of(nets, [(0, place) for place in range(1, 5)])
    assert list(told) == [4]
    assert told[4].shares == pytest.approx({1: 0.5, 2: 0.5}, abs=0.03)
    assert told[4].unexplained == pytest.approx(0.5, abs=0.1)
    assert told[4].ancestor == 0
    assert merges_of(nets) == {}
    assert merges_of(nets, [(0, 1), (0, 2), (0, 3), (0, 4), (4, 1)]) == {}, "what was made from it is no parent"


def test_having_learned_alike_is_no_merge(merged):
    names = ["start", "s", "t", "u", "alike"]
    nets = [merged[name] for name in names]
    found = mixture(nets[4], [nets[1], nets[2]], ancestor=nets[0])
    assert all(each.value > 0.2 and each.value > 5 * each.null for each in found.coefficients)
    assert merges_of(nets, [(0, place) for place in range(1, 5)]) == {}


def test_unevenness_is_nothing_for_a_merge_and_large_where_a_part_was_taken(merged, keep):
    taken = {name: merged["s" if name < "d" else "start"].read(name) for name in "abcdef"}
    linear = {name: (merged["s"].read(name) + merged["t"].read(name)) / 2 for name in "abcdef"}
    for name, tensors, low, high in (("linear", linear, 0, 1e-3), ("taken", taken, 0.5, 2)):
        files = [open_checkpoint(keep(name, tensors)), merged["s"], merged["t"], merged["start"]]
        nets = [Matrices(net) for net in files]
        assert low <= unevenness(nets, products(nets), 0, [1, 2] if name == "linear" else [1], 3) <= high


def test_spread_beyond_chance():
    assert spread_of([(0.5, 0.01), (0.5, 0.02)]) == 0
    assert spread_of([(0.4, 0.0), (0.6, 0.0)]) == pytest.approx(0.2)
    assert spread_of([(0.4, 0.01), (0.6, 0.01)]) == 0, "chance alone gives as much"


def test_nets_of_other_shapes_are_no_parents(merged, keep):
    other = open_checkpoint(keep("other", drawn(7)))
    nets = [other, *(merged[name] for name in ("start", "s", "t", "dare"))]
    assert list(merges_of(nets, [(1, 2), (1, 3), (1, 4)])) == [4]


@pytest.mark.parametrize("place", range(3))
def test_a_merge_is_found_wherever_it_stands_among_its_parents(place, keep):
    one, two = drawn(1), drawn(2)
    nets = [keep("one", one), keep("two", two)]
    nets.insert(place, keep("merge", added((0.3, one), (0.7, two))))
    (merge,) = (found := merges_of([open_checkpoint(net) for net in nets])).values()
    assert list(found) == [place]
    parents = [other for other in range(3) if other != place]
    assert merge.shares == pytest.approx(dict(zip(parents, (0.3, 0.7), strict=True)), abs=1e-6)
