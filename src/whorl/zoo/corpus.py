"""Synthetic text for tiny language models: topics that each follow their own sparse chain of tokens.

A line of text keeps one topic. In a topic every token has a few successors, drawn when the topic is made by the
frequencies of a Zipf law over the vocabulary, and now and then any token follows. So a model gains first by learning
frequencies, then successors, and most by guessing the topic from what it has read. Two corpora of one vocabulary share
the frequencies (token 0 is the commonest in each) and nothing else, as a second corpus for fine-tuning should.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Annotated

import torch
from annotated_types import Ge
from torch import Tensor

from whorl.errors import UsageError
from whorl.settings import Checked, Count, Probability, Seed

__all__ = ["Corpus"]


@dataclass(frozen=True)
class Corpus(Checked):
    """``lines`` lines of ``length`` tokens each; equal settings give equal text.

    ``branches`` is how many successors a token has in a topic, ``chance`` the probability that any token follows.
    Raises `UsageError` for settings that describe no text.
    """

    seed: Seed = 0
    vocabulary: Annotated[int, Ge(4)] = 256
    topics: Count = 4
    branches: Count = 6
    chance: Probability = 0.05
    lines: Count = 8192
    length: Annotated[int, Ge(2)] = 64

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.branches > self.vocabulary:
            raise UsageError(f"corpus: {self.branches} branches of a vocabulary of {self.vocabulary} tokens")

    @property
    def frequencies(self) -> Tensor:
        """Zipf's law over the tokens: float64 [vocabulary]."""
        return _zipf(self.vocabulary)

    @cached_property
    def successors(self) -> Tensor:
        """The tokens that may follow each token in each topic: int64 [topics, vocabulary, branches]."""
        generator = torch.Generator().manual_seed(self.seed)
        odds = self.frequencies.expand(self.topics * self.vocabulary, -1)
        drawn = torch.multinomial(odds, self.branches, generator=generator)
        order = torch.rand(drawn.shape, generator=generator).argsort(1)
        return drawn.gather(1, order).view(self.topics, self.vocabulary, self.branches)

    @cached_property
    def text(self) -> Tensor:
        """All lines: int64 [lines, length]."""
        return self.sample(self.lines, torch.Generator().manual_seed(self.seed + (1 << 32)))

    def sample(self, lines: int, generator: torch.Generator) -> Tensor:
        """Further lines of the same language: int64 [lines, length]."""
        topic = torch.randint(self.topics, (lines,), generator=generator)
        any_token = torch.multinomial(self.frequencies, lines * self.length, replacement=True, generator=generator)
        branch = torch.multinomial(_zipf(self.branches), lines * self.length, replacement=True, generator=generator)
        strays = torch.rand(lines * self.length, generator=generator) < self.chance
        text, branch, strays = (each.view(self.length, lines) for each in (any_token, branch, strays))
        for place in range(1, self.length):
            following = self.successors[topic, text[place - 1], branch[place]]
            text[place] = torch.where(strays[place], text[place], following)
        return text.T.contiguous()


def _zipf(count: int) -> Tensor:
    weights = 1 / torch.arange(1, count + 1, dtype=torch.float64)
    return weights / weights.sum()
