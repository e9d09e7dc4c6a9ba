"""The lists of a benchmark name what can be built, and nothing that is related where it should not be."""

from __future__ import annotations

import pytest

from whorl.errors import UsageError
from whorl.expressions import parse_chain
from whorl.zoo.lineages import (
    DERIVATIVES,
    LARGE,
    PARTIAL,
    SMALL,
    UNFINDABLE,
    bases,
    derived,
    independent_pairs,
    siblings,
)
from whorl.zoo.steps import CHANGES


@pytest.mark.parametrize("family", SMALL)
def test_every_architecture_has_enough_derivatives(family):
    base = bases(SMALL[family], 1)[0]
    recipes = derived(base)
    assert len(recipes) >= 20
    assert len({recipe.digest for recipe in recipes.values()}) == len(recipes)
    assert all(recipe.chain.steps[0] == base.chain.steps[0] for recipe in recipes.values())
    assert derived(base, PARTIAL).keys() == PARTIAL.keys()
    assert derived(base, UNFINDABLE).keys() == UNFINDABLE.keys()


@pytest.mark.parametrize("family", SMALL)
def test_what_is_left_out_is_what_the_architecture_refuses(made, base, family):
    """Steps that train are taken at their word; of the others each is tried."""
    model = made(base(family))
    kept = derived(bases(SMALL[family], 1)[0])
    for name, text in DERIVATIVES.items():
        quick = [step for step in parse_chain(text).steps if step.name not in ("tune", "lora", "merge")]
        try:
            changed = model
            for step in quick:
                changed = CHANGES.make(step, model=changed)
        except UsageError:
            assert name not in kept, name
        else:
            assert name in kept, name


def test_bases_differ_in_their_seed_and_siblings_in_their_order():
    for first in (*SMALL.values(), *LARGE.values()):
        differing = [dict(recipe.chain.steps[0].kwargs) for recipe in bases(first, 3)]
        assert [each.pop("seed") for each in differing] == [0, 1, 2]
        assert differing[0] == differing[1] == differing[2]
    one, other = (dict(recipe.chain.steps[0].kwargs) for recipe in siblings(SMALL["llama"]))
    assert one.pop("order") != other.pop("order")
    assert one == other


def test_no_pair_of_strangers_shares_a_seed():
    pairs = independent_pairs(bases(SMALL["llama"], 8))
    assert len(pairs) >= 50
    for one, other in pairs:
        assert dict(one.chain.steps[0].kwargs)["seed"] != dict(other.chain.steps[0].kwargs)["seed"]
