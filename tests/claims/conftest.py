"""A claim and independent models, made once."""

from __future__ import annotations

import pytest
from disputes import OTHER, RECIPE, begin

from whorl.zoo.recipe import parse_recipe


@pytest.fixture(scope="session")
def case(tmp_path_factory):
    return begin(tmp_path_factory.mktemp("claim"))


@pytest.fixture(scope="session")
def strata(case):
    """Independent models of two kinds, which every judge here shares."""
    return {
        recipe: {f"{recipe} {seed}": case.net(str(parse_recipe(recipe).with_seed(seed))) for seed in range(900, 907)}
        for recipe in (RECIPE, OTHER)
    }
