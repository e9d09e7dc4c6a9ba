"""Schemes composed by name: each works or says why not, and is a scheme like any other."""

from __future__ import annotations

from functools import lru_cache

import pytest
import torch

from whorl.errors import UsageError
from whorl.oracles.pool import Pool
from whorl.queries import QUERIES
from whorl.queries.base import PooledSampler
from whorl.representations import REPRESENTATIONS, SIMILARITIES
from whorl.schemes import SCHEMES
from whorl.schemes.grid import combinations, compose
from whorl.testing import check_scheme, tiny_data, tiny_victim
from whorl.testing.nets import tiny_pool
from whorl.types import Access

# Settings for queries whose default is slow.
CHEAP = {"boundary": "(iterations=50)", "negative-subsample": "(masks=8)", "random-subsample": "(masks=8)"}
GRID = list(combinations())
WORKING = [combination.name for combination in GRID if combination.refusal is None]
# Together every name of the three catalogs, and the other split.
COVER = [
    "adversarial+ddv+cosine",
    "test-adversarial+hard-ddv+hamming",
    "boundary+scores+l2",
    "common-errors+hard-sac+hamming",
    "train-mixtures+sac+l1",
    "negative+labels+hamming",
    "negative-adversarial+hard-ddv+mutual-information",
    "negative-augment+scores+cosine",
    "negative-subsample+lime+cosine",
    "train-random+labels+mutual-information",
    "random-subsample+labels+hamming",
]


def cheap(name):
    return name + next((settings for plain, settings in CHEAP.items() if plain in name.split("+")[0]), "")


@lru_cache
def pool():
    return tiny_pool()


@lru_cache
def asked(queries):
    """What that sampler asks of the tiny victim, through the first combination that has it."""
    made = SCHEMES.make(cheap(next(name for name in WORKING if name.split("+")[0] == queries)))
    settings = {"budget": 6, "generator": torch.Generator().manual_seed(0)}
    victim, data = tiny_victim(), tiny_data(made.part)
    if isinstance(made, PooledSampler):
        return made.sample_with(victim, data, pool(), **settings)
    return made.sample(victim, data, **settings)


def refused(queries):
    """Why that sampler cannot ask the tiny victim, or None."""
    try:
        asked(queries)
    except UsageError as error:
        return str(error)
    return None


def test_the_grid_is_as_large_as_the_papers():
    assert len(WORKING) >= 96
    assert len({combination.name for combination in GRID}) == len(GRID)
    assert {name.split("+")[1] for name in WORKING} == set(REPRESENTATIONS)
    assert {name.split("+")[2] for name in WORKING} == set(SIMILARITIES)
    assert len({name.split("+")[0] for name in WORKING}) == 2 * len(QUERIES), "both splits"


@pytest.mark.parametrize("queries", sorted({name.split("+")[0] for name in WORKING}))
def test_every_combination_works_or_says_why(queries):
    """An own fingerprint is as alike as can be, a stranger no more; the victim's access is what is declared."""
    if reason := refused(queries):
        assert queries == "train-negative-augment", "the tiny net hardly errs on the pictures that trained it"
        assert "errors on 629 pictures and mixing takes two" in reason
        return
    for name in (name for name in WORKING if name.split("+")[0] == queries):
        scheme = SCHEMES.make(cheap(name))
        models = tiny_victim(scheme.needs_suspect), tiny_victim(scheme.needs_suspect, seed=1)
        reference, other = (scheme.represent(model, asked(queries)) for model in models)
        own, stranger = scheme.similarity(reference, reference), scheme.similarity(reference, other)
        assert own.similarity == pytest.approx(1), name
        assert 0 <= stranger.similarity <= own.similarity, name
        assert (own.per_query is None) == (not scheme.per_query), name
        if scheme.per_query:
            assert own.per_query.shape == (6,), name


@pytest.mark.parametrize("name", COVER)
def test_a_composed_scheme_keeps_the_contract(name):
    check_scheme(SCHEMES.make(cheap(name)), budget=6)


def test_the_cover_covers():
    parts = [set(column) for column in zip(*(name.split("+") for name in COVER), strict=True)]
    assert set(QUERIES) <= {name.removeprefix("train-").removeprefix("test-") for name in parts[0]}
    assert parts[1:] == [set(REPRESENTATIONS), set(SIMILARITIES)]


def test_parts_of_our_own_say_what_they_hold_and_compare():
    asked = {QUERIES[name].asks for name in QUERIES}
    held = {REPRESENTATIONS[name].holds for name in REPRESENTATIONS}
    compared = {kind for name in SIMILARITIES for kind in SIMILARITIES[name].compares}
    assert held == compared == {"classes", "numbers", "shares"}
    assert {REPRESENTATIONS[name].takes for name in REPRESENTATIONS} - {None} < asked
    assert all(SIMILARITIES[name].compares for name in SIMILARITIES)


def test_parts_of_a_plug_in_say_it_themselves(monkeypatch):
    """A class of another's says what it takes; no table of ours needs its name."""

    class Silent(REPRESENTATIONS["labels"]):
        holds = None

    class Masked(REPRESENTATIONS["labels"]):
        takes = "masks"

    made = {"silent": Silent, "masked": Masked}
    original = type(REPRESENTATIONS).__getitem__
    monkeypatch.setattr(type(REPRESENTATIONS), "__getitem__", lambda self, name: made.get(name) or original(self, name))
    assert compose("random+silent+cosine").takes is None
    with pytest.raises(UsageError, match="masked needs masks and random asks single pictures; use negative-subsample"):
        compose("random+masked+hamming")


def test_every_refusal_names_what_would_work():
    refused = [combination for combination in GRID if combination.refusal is not None]
    assert refused
    for name, reason in ((combination.name, combination.refusal) for combination in refused):
        assert reason.startswith(f"{name} has no meaning: ")
        assert "; use " in reason
        assert "\n" not in reason
        assert name not in SCHEMES


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("negative+labels+cosine", "cosine compares numbers and shares, labels holds classes; use hamming or"),
        ("random+hard-ddv+hamming", "hard-ddv needs pairs and random asks single pictures; use adversarial or"),
        ("negativ+labels+hamming", "among the queries: 'negativ'. Did you mean negative"),
        ("negative+label+hamming", "among the representations: 'label'. Did you mean labels"),
        ("negative+labels+haming", "among the similarities: 'haming'. Did you mean hamming"),
        ("train-negativ+labels+hamming", "Did you mean negative"),
        ("test-random+labels+hamming", "random takes test pictures anyway: type random for test-random"),
        ("negative+labels", "'negative.labels' has 2 parts"),
        ("negative+labels+hamming(augmnt=false)", "no parameter 'augmnt'. Did you mean augment"),
    ],
)
def test_mistakes(name, says):
    with pytest.raises(UsageError, match=says):
        SCHEMES.make(name)
    assert name not in SCHEMES


def test_a_composed_name_is_an_expression():
    text = "negative+labels+hamming(augment=false, tries=200)"
    scheme = SCHEMES.make("negative+labels+hamming(augment=false)")
    assert str(scheme) == text == str(SCHEMES.bind(text))
    assert SCHEMES.make(text) == scheme
    assert SCHEMES["negative+labels+hamming"] is type(scheme)
    assert SCHEMES.parameters("negative+labels+hamming") == {"augment": True, "tries": 200}
    assert "negative+labels+hamming" in SCHEMES
    assert 3 not in SCHEMES


def test_listing_shows_published_names_only():
    assert not [name for name in SCHEMES if "+" in name]


@pytest.mark.parametrize(
    ("name", "published"),
    [("negative+labels+hamming", "akh"), ("mixtures+sac+l1", "sac-m"), ("random+sac+l1", "sac-normal")],
)
def test_published_schemes_are_points_of_the_grid(name, published):
    settings = {"budget": 8, "seed": 3}
    composed, known = (
        SCHEMES.make(each).extract(tiny_victim(), tiny_data("queries"), **settings) for each in (name, published)
    )
    assert torch.equal(composed.queries.inputs, known.queries.inputs)
    assert torch.equal(composed.reference.values, known.reference.values)


def test_the_split_is_where_the_pictures_come_from():
    parts = {"random": "queries", "train-random": "victim", "boundary": "victim", "test-boundary": "queries"}
    assert {queries: SCHEMES[f"{queries}+labels+hamming"].part for queries in parts} == parts


def test_access_and_classes_follow_from_the_parts():
    soft, hard = SCHEMES["boundary+sac+l1"], SCHEMES["random+labels+mutual-information"]
    assert (soft.needs_victim, soft.needs_suspect, soft.any_classes) == (Access.GRADIENTS, Access.PROBABILITIES, True)
    assert (hard.needs_victim, hard.needs_suspect, hard.any_classes) == (Access.LABELS, Access.LABELS, True)
    assert not SCHEMES["random+labels+hamming"].any_classes


def test_a_pooled_sampler_asks_for_its_pool():
    scheme = SCHEMES.make("common-errors+labels+hamming")
    assert scheme.needs_pool
    with pytest.raises(UsageError, match="shadow models"):
        scheme.extract(tiny_victim(), tiny_data("queries"), budget=5)
    with pytest.raises(UsageError, match="copies of the victim"):
        scheme.extract(tiny_victim(), tiny_data("queries"), budget=5, pool=Pool({}, []))
