"""Signatures are compared after their classes are matched, whatever their number, order and scale."""

from __future__ import annotations

from itertools import permutations

import pytest
import torch

from whorl.detection.unlearning import Forgetting
from whorl.errors import UsageError
from whorl.nets.training import build
from whorl.oracles.torch import TorchOracle
from whorl.schemes.zest import Signatures, Zest, align, verify_unlearning
from whorl.testing import tiny_data, tiny_victim
from whorl.types import Access, Representation

DISTANCES = ["cosine", "l1", "l2"]


def signature(classes, seed=0):
    return torch.randn(5, 4, classes, generator=torch.Generator().manual_seed(seed))


def compare(first, second, **settings):
    return Signatures(**settings).similarity(Representation(first), Representation(second)).similarity


@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("alignment", ["optimal", "greedy"])
def test_renamed_classes_are_found_again(distance, alignment):
    values = signature(6)
    order = torch.randperm(6, generator=torch.Generator().manual_seed(1))
    assert compare(values, values[..., order], distance=distance, alignment=alignment) == pytest.approx(1)
    assert compare(values, values[..., order], distance=distance, alignment="fixed") < 0.9


@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize(("classes", "others"), [(4, 4), (3, 5), (5, 3)])
def test_optimal_alignment_against_all(distance, classes, others):
    first, second = (signature(count, seed).flatten(0, 1).double() for seed, count in enumerate((classes, others)))

    def cost(rows, columns):
        pairs = zip(first.mT[rows], second.mT[columns], strict=True)
        if distance == "cosine":
            return sum(float(1 - torch.cosine_similarity(*pair, dim=0)) for pair in pairs)
        return sum(float(torch.linalg.vector_norm(one - other, ord=int(distance[1]))) for one, other in pairs)

    rows, columns = align(first, second, "optimal", distance)
    small, large = sorted((classes, others))
    ways = [(torch.arange(small), torch.tensor(way)) for way in permutations(range(large), small)]
    best = min(cost(*(way if classes <= others else way[::-1])) for way in ways)
    assert cost(rows, columns) == pytest.approx(best)
    assert cost(*align(first, second, "greedy", distance)) >= best - 1e-9
    assert len(set(rows.tolist())) == len(set(columns.tolist())) == small


def test_greedy_takes_the_nearest_pair_first_and_pays_for_it():
    """0 and 2 against 1.2 and 3: greedy takes (2, 1.2) and is left with (0, 3), 3.8 in all; the best is 2.2."""
    first, second = torch.tensor([[0.0, 2.0]]), torch.tensor([[1.2, 3.0]])
    greedy, optimal = (torch.stack(align(first, second, way, "l1")).mT.tolist() for way in ("greedy", "optimal"))
    assert greedy == [[1, 0], [0, 1]]
    assert optimal == [[0, 0], [1, 1]]


@pytest.mark.parametrize("distance", DISTANCES)
def test_scale_is_forgotten_where_asked(distance):
    values, other = signature(4), signature(4, 1)
    assert compare(values, 10 * other, distance=distance) == pytest.approx(compare(values, other, distance=distance))
    if distance != "cosine":
        raw = {"distance": distance, "standardise": False}
        assert compare(values, 10 * values, **raw) < compare(values, values, **raw) == 1


def test_distances_against_definitions():
    first, second = signature(3), signature(3, 1)
    raw = {"alignment": "fixed", "standardise": False}
    assert 1 - compare(first, second, distance="l1", **raw) == pytest.approx(float((first - second).abs().mean()))
    assert 1 - compare(first, second, distance="l2", **raw) == pytest.approx(
        float((first - second).square().mean().sqrt())
    )
    assert compare(first, second, distance="cosine", **raw) == pytest.approx(
        float(torch.cosine_similarity(first.flatten(), second.flatten(), dim=0))
    )


@pytest.mark.parametrize("settings", [{"alignment": "best"}, {"distance": "l3"}])
def test_unknown_settings_are_refused(settings):
    with pytest.raises(UsageError):
        compare(signature(3), signature(3, 1), **settings)


def test_other_classes_need_an_alignment():
    with pytest.raises(UsageError, match="3 and 4 classes"):
        compare(signature(3), signature(4), alignment="fixed")


@pytest.mark.parametrize("classes", [2, 10, 13])
def test_a_suspect_of_any_number_of_classes_is_compared(classes):
    scheme = Zest(masks=20)
    fingerprint = scheme.extract(tiny_victim(), tiny_data("victim"), budget=5)
    module = build("mlp", (1, 8, 8), classes, torch.Generator().manual_seed(7)).eval()
    suspect = TorchOracle(module, input_shape=(1, 8, 8), classes=classes, access=Access.PROBABILITIES)
    assert -1 <= scheme.observe(fingerprint, suspect).similarity < 0.9
    assert suspect.queries_spent == 100


def test_unlearning_is_ranked_among_retrains():
    scheme = Zest(masks=20)
    fingerprint = scheme.extract(tiny_victim(), tiny_data("victim"), budget=5)
    retrains = {f"{seed}": tiny_victim(seed=seed) for seed in (1, 2, 3)}
    found = verify_unlearning(scheme, fingerprint, tiny_victim(), retrains, alpha=0.25)
    assert isinstance(found, Forgetting)
    assert (found.decision, found.p_value, found.retrains) == ("retained", 0.25, 3)
