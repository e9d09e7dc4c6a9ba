"""What Chen et al. claim of DeepJudge (S&P 2022), over two victims with three extractions."""

from __future__ import annotations

import numpy as np
import pytest
from thieves import COPIES, EXTRACTED, FILTERS, QUANTISED

from whorl.errors import UsageError
from whorl.schemes import SCHEMES
from whorl.schemes.deepjudge import BLACK_BOX, vote
from whorl.types import Access

pytestmark = pytest.mark.published

BLACK = "deepjudge"
WHITE = "deepjudge-white-box(iterations=150, patience=20)"
TUNED = COPIES | QUANTISED


@pytest.fixture(scope="module")
def judged(small_zoo):
    """(scheme, victim, seed) to group to the representations of its models, by label."""

    def group(scheme, victim, seed, recipes):
        made, found = SCHEMES.make(scheme), {}
        fingerprint = small_zoo.fingerprint(victim, scheme, seed, 50 if scheme is BLACK else 24)
        for label, recipe in recipes.items():
            oracle = small_zoo.oracle(recipe)
            if oracle.access < made.needs_suspect:
                continue
            try:
                found[label] = made.represent(oracle, fingerprint.queries)
            except UsageError:
                assert scheme is WHITE, "only the white box is particular about architectures"
        return found

    def groups(scheme, victim, seed):
        own = small_zoo.victim(victim)
        recipes = {
            name: {label: own.then(removal) for label, removal in removals.items()}
            for name, removals in (("tuned", TUNED), ("filters", FILTERS), ("extracted", EXTRACTED))
        }
        recipes["independent"] = {str(recipe): recipe for recipe in small_zoo.independents}
        return {name: group(scheme, victim, seed, each) for name, each in recipes.items()}

    return {
        (scheme, victim, seed): groups(scheme, victim, seed)
        for scheme in (BLACK, WHITE)
        for victim in small_zoo.victims
        for seed in small_zoo.seeds
    }


def distances(group):
    """``[models, metrics]``"""
    return np.stack([each.values.numpy() for each in group.values()])


def of(judged, scheme):
    return [groups for (each, _, _), groups in judged.items() if each is scheme]


def test_every_black_box_metric_is_smaller_for_copies_than_for_every_independent_model(judged):
    for groups in of(judged, BLACK):
        independent = distances(groups["independent"]).min(0)
        assert len(groups["independent"]) == 9
        for name in ("tuned", "filters"):
            assert (distances(groups[name]).max(0) < independent).all()


def test_every_white_box_metric_is_smaller_for_tuned_copies_than_for_every_independent_model(judged):
    for groups in of(judged, WHITE):
        assert len(groups["independent"]) == 4, "those of the victim's architecture"
        assert (distances(groups["tuned"]).max(0) < distances(groups["independent"]).min(0)).all()


def test_filter_pruning_moves_only_the_activation_of_single_neurons_that_far(judged):
    """NAD flips where a neuron that the tests were made for falls behind the others of its layer."""
    for groups in of(judged, WHITE):
        closer = distances(groups["filters"]).max(0) < distances(groups["independent"]).min(0)
        assert closer[[0, 2, 3]].all(), "NOD, LOD, LAD"


@pytest.mark.parametrize(("scheme", "alpha"), [(BLACK, 0.9), (WHITE, 0.6)])
def test_the_vote_is_right_for_tuned_and_pruned_copies(judged, scheme, alpha):
    votes = [vote(e, alpha) for g in of(judged, scheme) for n in ("tuned", "filters") for e in g[n].values()]
    assert np.mean(np.array(votes) > 0.5) >= 0.95


def test_the_vote_rarely_accuses_independent_models(judged):
    """Its bounds are of a mean, not of a model, so that nothing holds its error; the white box has room."""
    votes = [vote(each, 0.9) > 0.5 for groups in of(judged, BLACK) for each in groups["independent"].values()]
    assert np.mean(votes) <= 0.05
    for groups in of(judged, WHITE):
        assert all(vote(each, 0.6) <= 0.5 for each in groups["independent"].values())


def test_robustness_sees_extraction_and_the_white_box_does_not(judged):
    robustness = BLACK_BOX.index("RobD")
    for groups in of(judged, BLACK):
        extracted, independent = (distances(groups[name])[:, robustness] for name in ("extracted", "independent"))
        assert extracted.max() < independent.min()
        assert extracted.min() > distances(groups["tuned"])[:, robustness].mean()
    for groups in of(judged, WHITE):
        assert len(groups["extracted"]) == 2, "two thieves chose the victim's architecture"
        assert all(vote(each, 0.6) == 0 for each in groups["extracted"].values())


def test_labels_alone_show_the_same(small_zoo):
    for victim in small_zoo.victims:
        for seed in small_zoo.seeds:
            copies = small_zoo.copies(victim, "deepjudge-robd", seed=seed, removals=TUNED | FILTERS | EXTRACTED)
            assert min(copies.values()) > max(small_zoo.strangers(victim, "deepjudge-robd", seed=seed))


def test_the_label_variant_needs_no_more_than_labels():
    assert SCHEMES.make("deepjudge-robd").needs_suspect is Access.LABELS
