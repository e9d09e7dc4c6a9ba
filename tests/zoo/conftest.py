"""Tiny language models that several files ask for, each built once a session."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from whorl.zoo.causal import Model
from whorl.zoo.corpus import Corpus
from whorl.zoo.language import build

ARCHITECTURES = ("llama", "gpt2", "neox", "mixtral")


@pytest.fixture(scope="session")
def base():
    """``base(architecture)``: the recipe of a small trained net."""
    return lambda architecture: f"pretrain({architecture}, steps=150)"


@pytest.fixture(scope="session")
def languages(tmp_path_factory) -> Path:
    """Where they lie."""
    return tmp_path_factory.mktemp("languages")


@pytest.fixture(scope="session")
def made(languages):
    """``made(recipe)``: the model of a recipe."""
    return lambda recipe: Model.read(build(recipe, languages))


@pytest.fixture(scope="session")
def unseen():
    """Lines of the first corpus that nobody learned from: [16, 64]."""
    return Corpus().sample(16, torch.Generator().manual_seed(99))
