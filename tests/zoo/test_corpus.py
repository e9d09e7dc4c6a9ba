"""The synthetic language follows the law that it states."""

from __future__ import annotations

import pytest
import torch

from whorl.errors import UsageError
from whorl.zoo.corpus import Corpus


def test_text_follows_the_chain_of_its_topics():
    """With one topic the frequencies of pairs are the transitions, within their sampling error."""
    corpus = Corpus(vocabulary=8, topics=1, branches=3, lines=20_000, length=16)
    before, after = corpus.text[:, :-1].flatten(), corpus.text[:, 1:].flatten()
    pairs = torch.zeros(8, 8, dtype=torch.float64)
    pairs.index_put_((before, after), torch.ones((), dtype=torch.float64), accumulate=True)
    seen = pairs.sum(1, keepdim=True)
    shares = torch.tensor([6, 3, 2], dtype=torch.float64) / 11  # Zipf's law over three branches
    follows = torch.zeros(8, 8, dtype=torch.float64).scatter_add(1, corpus.successors[0], shares.expand(8, 3))
    expected = (1 - corpus.chance) * follows + corpus.chance * corpus.frequencies
    error = ((pairs / seen - expected) / (expected * (1 - expected) / seen).sqrt()).abs()
    assert float(error.max()) < 5  # standard errors, of 64 cells
    assert torch.allclose(expected.sum(1), torch.ones(8, dtype=torch.float64))


def test_first_tokens_have_the_frequencies_of_zipf():
    corpus = Corpus(vocabulary=16, lines=50_000, length=2)
    shares = torch.bincount(corpus.text[:, 0], minlength=16) / 50_000
    assert torch.allclose(shares.double(), corpus.frequencies, atol=0.01)
    assert torch.allclose(corpus.frequencies[0] / corpus.frequencies[3], torch.tensor(4.0, dtype=torch.float64))


def test_a_line_keeps_its_topic():
    """Topics have different successors, and without chance every pair of a line is one of a single topic."""
    corpus = Corpus(vocabulary=64, topics=3, branches=2, chance=0.0, lines=200)
    line = corpus.text[:, :-1, None, None], corpus.text[:, 1:, None]
    followed = torch.stack(
        [(corpus.successors[topic][line[0][..., 0, 0]] == line[1]).any(-1).all(1) for topic in range(3)]
    )
    assert bool(followed.any(0).all())
    assert len(followed.int().argmax(0).unique()) == 3


def test_seeds_make_other_languages_and_equal_settings_equal_text():
    assert torch.equal(Corpus().text, Corpus().text)
    assert not torch.equal(Corpus().successors, Corpus(seed=1).successors)
    assert not torch.equal(Corpus().sample(8, torch.Generator().manual_seed(1)), Corpus().text[:8])
    assert Corpus().text.shape == (8192, 64)


@pytest.mark.parametrize(
    "settings", [{"topics": 0}, {"branches": 300}, {"chance": 1.5}, {"seed": -1}, {"length": 1}, {"lines": 2.5}]
)
def test_what_describes_no_text_is_refused(settings):
    with pytest.raises(UsageError, match=r"corpus:|Corpus\("):
        Corpus(**settings)
