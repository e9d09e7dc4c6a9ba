"""Tiny language models that several files ask for, each built once a session."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from whorl.zoo.cache import Zoo
from whorl.zoo.causal import LanguageModel
from whorl.zoo.corpus import Corpus
from whorl.zoo.lineages import SMALL
from whorl.zoo.recipe import parse_recipe
from whorl.zoo.steps import LANGUAGE


@pytest.fixture(scope="session")
def base():
    """``base(architecture)``: the recipe of a small trained net."""
    return SMALL.__getitem__


@pytest.fixture(scope="session")
def languages(tmp_path_factory) -> Path:
    """The cache that holds them; the processes of one session share it."""
    place = tmp_path_factory.getbasetemp()
    return (place.parent if "PYTEST_XDIST_WORKER" in os.environ else place) / "languages"


@pytest.fixture(scope="session")
def made(languages):
    """``made(recipe)``: the model of a recipe."""

    def make(recipe):
        return LanguageModel.read(Zoo(languages).build([parse_recipe(recipe, kind=LANGUAGE)], workers=1)[0])

    return make


@pytest.fixture(scope="session")
def unseen():
    """Lines of the first corpus that nobody learned from: [16, 64]."""
    return Corpus().sample(16, torch.Generator().manual_seed(99))
