"""Ask a suspect what the candidates of a lineup were asked, without a word on which of them is the victim."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from typing import Final, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from whorl.detection.lineup import (
    Race,
    Showing,
    agreement_scores,
    best_orders,
    expected_scores,
    levelled,
    mixture_scores,
    residual_scores,
    standardised,
)
from whorl.errors import UsageError
from whorl.fingerprints.terms import Terms
from whorl.lineups.by import show_by
from whorl.oracles.base import Oracle
from whorl.types import Access, Candidates

__all__ = ["order_of", "show", "statistic_for"]

LEAST_LOG: Final = -7.0  # of a log-probability: what lies below is noise
FIRST, LARGEST = 16, 128  # questions of the first round, and of the last where an oracle does not say its block
MOST_MATCHED: Final = 1000  # classes whose order is looked for
PART: Final = 3  # scores tell about as much as three times as many labels

Statistic = Literal["mixture", "agreement", "residual", "levelled"]


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
    match_labels: bool = False,
    progress: Callable[[int], None] = lambda _: None,
) -> Showing:
    """Ask the suspect in ``order`` and score every candidate.

    With labels the race ends as soon as any candidate leads by the margin; scores are compared as a whole, over a third
    of the questions unless ``budget`` says otherwise. With ``match_labels`` each candidate reads the suspect's classes
    in the order in which the two agree most; as that is known at the end, there is no race, and all is asked. In a
    lineup by a scheme each candidate's own queries are asked, whatever the budget (`whorl.lineups.by.admit_by`).

    Raises:
        UsageError: the budget is below one question, or there are no labels to match, or too many.
    """
    if terms.by:
        return show_by(lineup, terms.by, suspect, progress=progress)
    statistic = statistic_for(lineup, terms, suspect)
    size = len(order)
    whole = statistic in ("residual", "levelled")
    most = max(1, -(-size // PART)) if whole else size
    limit = most if budget is None else min(budget, size)
    if limit < 1:
        raise UsageError(f"a lineup asks at least one question; the budget is {budget}")
    if match_labels and (suspect.task != "classification" or suspect.classes > MOST_MATCHED):
        raise UsageError(
            f"labels are matched of classifiers with {MOST_MATCHED:,} classes at most; {suspect.name} has "
            f"{suspect.classes:,} outputs ({suspect.task}): say in which order they stand (class_names)"
        )
    order = order[:limit]
    if whole:
        totals = _residuals(lineup, order, suspect, match_labels, progress, level=statistic == "levelled")
        return Showing(
            statistic, totals, asked=limit, budget=limit, size=size, won=False, sent=limit, matched=match_labels
        )
    if match_labels:
        return _matched(lineup, order, suspect, statistic, size, progress)
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
    totals = race.totals if race.won else _at_the_end(race, lineup, order, statistic)
    return Showing(
        statistic, totals, asked=race.asked, budget=len(order), size=size, won=race.won, path=race.path, sent=done
    )


def _matched(
    lineup: Candidates,
    order: Tensor,
    suspect: Oracle,
    statistic: Statistic,
    size: int,
    progress: Callable[[int], None],
) -> Showing:
    labels = torch.cat([_told(suspect.labels(part), progress) for part in _parts(lineup, order, suspect)])
    orders = _orders(lineup.answers[:, order], one_hot(labels, suspect.classes))
    read = orders.argsort(1).gather(1, labels.expand(len(orders), -1))
    race = Race(len(lineup.digests), None)
    race.update(_scores(lineup, order, read, statistic))
    totals, asked = _at_the_end(race, lineup, order, statistic), len(order)
    return Showing(
        statistic, totals, asked, budget=asked, size=size, won=False, path=race.path, sent=asked, matched=True
    )


def _orders(known: Tensor, answers: Tensor) -> Tensor:
    """`best_orders` of candidates ``[K, q, k]``, or of their labels ``[K, q]``, and answers ``[q, k]``."""
    chances = one_hot(known, answers.shape[1]) if known.ndim == 2 else known
    return torch.from_numpy(best_orders(chances.numpy(), answers.numpy()))


def _at_the_end(race: Race, lineup: Candidates, order: Tensor, statistic: Statistic) -> np.ndarray:
    """Totals where all was asked."""
    if statistic != "mixture":
        return race.totals
    return standardised(race.totals, *expected_scores(lineup.answers[:, order].numpy()))


def _parts(lineup: Candidates, order: Tensor, suspect: Oracle) -> Iterator[Tensor]:
    yield from lineup.inputs[order].split(suspect.block or LARGEST)


def _told(answers: Tensor, progress: Callable[[int], None]) -> Tensor:
    progress(len(answers))
    return answers


def _scores(lineup: Candidates, chosen: Tensor, labels: Tensor, statistic: Statistic) -> np.ndarray:
    answers = lineup.answers[:, chosen]
    if statistic == "agreement":
        known = answers if answers.ndim == 2 else answers.argmax(2)
        return agreement_scores(known.numpy(), labels.numpy())
    given = answers.gather(2, labels.expand(len(answers), -1).unsqueeze(2)).squeeze(2)
    return mixture_scores(given.numpy())


def _residuals(
    lineup: Candidates,
    order: Tensor,
    suspect: Oracle,
    match_labels: bool,
    progress: Callable[[int], None],
    *,
    level: bool,
) -> np.ndarray:
    ask = suspect.probabilities if suspect.task == "classification" else suspect.scores
    answers = torch.cat([_told(ask(part), progress) for part in _parts(lineup, order, suspect)])
    known = lineup.answers[:, order]
    if match_labels:
        orders = _orders(known, answers)
        answers = answers.expand(len(orders), -1, -1).gather(2, orders.unsqueeze(1).expand(-1, len(answers), -1))
    if suspect.task == "classification":
        answers, known = _centred(answers), _centred(known)
    else:  # an offset, which a few steps of tuning move, would outweigh all that two runs differ by
        answers, known = (each.double() - each.double().mean(-2, keepdim=True) for each in (answers, known))
    if not level:
        return residual_scores(known.numpy(), answers.numpy())
    mean = known.mean(0).numpy()
    return residual_scores(levelled(known.numpy(), mean), levelled(answers.numpy(), mean))


def _centred(probabilities: Tensor) -> Tensor:
    logs = probabilities.double().clamp_min(1e-30).log().clamp_min(LEAST_LOG)
    return logs - logs.mean(-1, keepdim=True)
