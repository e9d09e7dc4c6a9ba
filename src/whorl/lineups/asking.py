"""Ask a suspect what the candidates of a lineup were asked, without a word on which of them is the victim."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Final, Literal

import numpy as np
import torch
from torch import Tensor

from whorl.detection.lineup import (
    Race,
    Showing,
    agreement_scores,
    expected_scores,
    mixture_scores,
    residual_scores,
    standardised,
)
from whorl.errors import UsageError
from whorl.fingerprints.terms import Terms
from whorl.oracles.base import Oracle
from whorl.types import Access, Candidates

__all__ = ["order_of", "show", "statistic_for"]

LEAST_LOG: Final = -7.0  # of a log-probability: what lies below is noise
FIRST, LARGEST = 16, 128  # questions of the first round, and of the last where an oracle does not say its block
PART: Final = 3  # scores tell about as much as three times as many labels

Statistic = Literal["mixture", "agreement", "residual"]


def statistic_for(lineup: Candidates, terms: Terms, suspect: Oracle) -> Statistic:
    """The statistic that was fixed beforehand for suspects that answer as this one does."""
    if suspect.task != "classification":
        return "residual"
    if lineup.answers.ndim == 2:
        return "agreement"
    return terms.labels if suspect.access is Access.LABELS else terms.scores


def order_of(lineup: Candidates) -> Tensor:
    """The order ``[q]`` in which any suspect is asked, fixed by the commitment, which holds a secret salt.

    It was drawn with the lineup, so neither a suspect's name nor its address chooses it.
    """
    seed = hashlib.sha256(f"lineup {lineup.commitment}".encode()).digest()[:8]
    generator = torch.Generator().manual_seed(int.from_bytes(seed, "little") >> 1)
    return torch.randperm(len(lineup.inputs), generator=generator)


def show(
    lineup: Candidates,
    terms: Terms,
    order: Tensor,
    suspect: Oracle,
    *,
    budget: int | None = None,
    progress: Callable[[int], None] = lambda _: None,
) -> Showing:
    """Ask the suspect in ``order`` and score every candidate.

    With labels the race ends as soon as any candidate leads by the margin; scores are compared as a whole, over a third
    of the questions unless ``budget`` says otherwise.

    Raises:
        UsageError: the budget is below one question.
    """
    statistic = statistic_for(lineup, terms, suspect)
    size = len(order)
    most = max(1, -(-size // PART)) if statistic == "residual" else size
    limit = most if budget is None else min(budget, size)
    if limit < 1:
        raise UsageError(f"a lineup asks at least one question; the budget is {budget}")
    order = order[:limit]
    if statistic == "residual":
        totals = _residuals(lineup, order, suspect, progress)
        return Showing(statistic, totals, asked=limit, budget=limit, size=size, won=False, sent=limit)
    margin = terms.margin if statistic == "mixture" else terms.agreements
    race = Race(len(lineup.digests), margin)
    return _raced(race, lineup, order, suspect, statistic, size, progress)


def _raced(
    race: Race,
    lineup: Candidates,
    order: Tensor,
    suspect: Oracle,
    statistic: Statistic,
    size: int,
    progress: Callable[[int], None],
) -> Showing:
    done, step, largest = 0, FIRST, suspect.block or LARGEST
    while done < len(order) and not race.won:
        chosen = order[done : done + min(step, largest)]
        labels = suspect.labels(lineup.inputs[chosen])
        progress(len(chosen))
        race.update(_scores(lineup, chosen, labels, statistic))
        done, step = done + len(chosen), 2 * step
    totals = race.totals
    if not race.won and statistic == "mixture":
        expected, variance = expected_scores(lineup.answers[:, order].numpy())
        totals = standardised(race.totals, expected, variance)
    return Showing(
        statistic, totals, asked=race.asked, budget=len(order), size=size, won=race.won, path=race.path, sent=done
    )


def _scores(lineup: Candidates, chosen: Tensor, labels: Tensor, statistic: Statistic) -> np.ndarray:
    answers = lineup.answers[:, chosen]
    if statistic == "agreement":
        known = answers if answers.ndim == 2 else answers.argmax(2)
        return agreement_scores(known.numpy(), labels.numpy())
    given = answers.gather(2, labels.expand(len(answers), -1).unsqueeze(2)).squeeze(2)
    return mixture_scores(given.numpy())


def _residuals(lineup: Candidates, order: Tensor, suspect: Oracle, progress: Callable[[int], None]) -> np.ndarray:
    inputs, found = lineup.inputs[order], []
    for part in inputs.split(suspect.block or LARGEST):
        classes = suspect.task == "classification"
        found.append(suspect.probabilities(part) if classes else suspect.scores(part))
        progress(len(part))
    answers, known = torch.cat(found), lineup.answers[:, order]
    if suspect.task == "classification":
        answers, known = _centred(answers), _centred(known)
    return residual_scores(known.numpy(), answers.numpy())


def _centred(probabilities: Tensor) -> Tensor:
    logs = probabilities.double().clamp_min(1e-30).log().clamp_min(LEAST_LOG)
    return logs - logs.mean(-1, keepdim=True)
