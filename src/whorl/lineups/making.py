"""Make a lineup: victim and twins are asked a pool of ordinary inputs, shuffled, and put into a fingerprint.

Everything treats the candidates alike: the choice of questions, the order of the rows, what is kept of each.

Half of the questions are natural inputs, those that the candidates dispute most, half have mild noise.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import torch
from torch import Tensor

from whorl.data import SOURCES, Dataset
from whorl.data.base import join
from whorl.detection.lineup import rank
from whorl.errors import UsageError
from whorl.fingerprints.secret import Secret, commit
from whorl.fingerprints.terms import Terms, terms_of
from whorl.lineups.asking import order_of, show
from whorl.lineups.by import admit_by, make_each, scheme_of
from whorl.lineups.figures import answers_of, figures_of
from whorl.oracles.base import Oracle, require
from whorl.oracles.torch import TorchOracle
from whorl.oracles.wrappers import digests_of
from whorl.printable import counted
from whorl.queries.disagreement import disputed, noisy
from whorl.schemes import SCHEMES
from whorl.schemes.kin import kin
from whorl.types import Access, Candidates, Fingerprint, Queries

__all__ = ["MOST_FROM", "Material", "check_twin", "fixed_terms", "line_up", "with_known"]

MOST_FROM: Final = 10_000  # natural inputs among which the disputed ones are looked for
SAME: Final = 0.02  # of the median distance of two candidates' answers; what is nearer is one model in two forms
KIN: Final = 0.5  # of the median distance of two candidates' weights: copies have .4 and less, runs .7 and more
MOST_WEIGHTS, LEAST_WEIGHTS = 100_000, 100  # that are looked at
ROUNDING: Final = 1e-6  # mean difference of probabilities that two runtimes of one model show
MOST_TWINS: Final = 9_999
MOST_LETTERS: Final = 4096
MOST_GUESSED: Final = 63  # bits of a seed that may be met by chance, or guessed


@dataclass(frozen=True)
class Material:
    """Inputs for a lineup.

    ``pool`` is what questions are chosen from; ``held_out`` labelled inputs that no candidate learned from, ``learned``
    labelled ones that all of them did: they show whether the victim is one among equals. ``own`` is what fingerprints
    of the candidates are made from, in a lineup by a scheme.
    """

    pool: Dataset
    held_out: Dataset | None = None
    learned: Dataset | None = None
    own: Dataset | None = None

    @classmethod
    def of(cls, data: Dataset | str, by: str = "") -> Material:
        """From a source by its expression; a data set that is given as it is serves as held-out inputs.

        ``by`` is the scheme of a lineup by a scheme, which says from which part its fingerprints are made.
        """
        if isinstance(data, Dataset):
            return cls(data, data, own=data)
        source = SOURCES.make(data)
        held_out = source.load("test")
        own = source.load(SCHEMES.make(by).part) if by else None
        return cls(join(source.load("queries"), held_out), held_out, source.load("victim"), own)


def fixed_terms(
    twins: int, *, alpha: float | None = None, victim_seed: int | None = None, hypothesis: str = "", by: str = ""
) -> Terms:
    """The terms of a lineup of so many twins, to be checked before any of them is trained.

    Parameters:
        alpha: .01 by default with 99 twins or more, else .05.
        victim_seed: a whole number, 0 or more; without one of 64 bits or more no verdict is called exact.
        by: a scheme, by which each candidate shall have a fingerprint of its own.

    Raises:
        UsageError: there is no such scheme, nothing could be called derived at this alpha with so many twins, there are
            too many, or a text is too long.
    """
    if not 1 <= twins <= MOST_TWINS:
        raise UsageError(f"a lineup needs one twin at least, and holds {MOST_TWINS:,} at most; these are {twins:,}")
    if victim_seed is not None and victim_seed < 0:
        raise UsageError("a seed is a whole number of 0 or more, and the victim's is negative: give it as it was drawn")
    chosen = alpha if alpha is not None else 0.01 if twins >= 99 else 0.05
    if not 0 < chosen < 1:
        raise UsageError(f"alpha is a chance between 0 and 1; this is {chosen:g}")
    if chosen * (twins + 1) < 1 - 1e-9:
        raise UsageError(
            f"with {counted(twins, 'twin')} nothing can be called derived below alpha {1 / (twins + 1):.4f}, and this "
            f"is {chosen:g}: give {math.ceil(1 / chosen - 1e-9) - 1} twins or more, or a larger --alpha"
        )
    if len(hypothesis) > MOST_LETTERS:
        raise UsageError(f"a hypothesis has {MOST_LETTERS:,} letters at most")
    small = victim_seed is not None and victim_seed.bit_length() <= MOST_GUESSED
    return Terms(
        alpha=chosen,
        seeds="unknown" if victim_seed is None else "small" if small else "secret",
        hypothesis=hypothesis,
        # Runs that share a part of their history are nearer to each other than tuning moves a copy.
        scores="levelled" if hypothesis else "residual",
        by=str(SCHEMES.make(by)) if by else "",
    )


def line_up(
    fingerprint: Fingerprint,
    victim: Oracle,
    twins: Sequence[Oracle],
    material: Material,
    *,
    size: int = 1000,
    terms: Terms | None = None,
    recipe: str = "",
    progress: Callable[[], None] = lambda: None,
) -> tuple[Fingerprint, Secret]:
    """The fingerprint with a lineup, and the secret that opens which candidate is the victim.

    Parameters:
        size: number of questions; of a lineup by a scheme they are divided among the candidates.
        terms: what is fixed beforehand; figures and the like are filled in here.
        recipe: how all candidates were made, in words.
        progress: called after each candidate, of a lineup by a scheme twice.

    Raises:
        UsageError: fewer than one twin, a twin that equals another or the victim, too few inputs, or a scheme that
            can't serve.
        AccessRefused: a scheme needs more of the candidates than one of them grants.
    """
    by = (terms or Terms()).by
    scheme = scheme_of(by, victim, questions=size, candidates=len(twins) + 1) if by else None
    candidates, digests = _candidates(victim, twins)
    secret = commit(next(place for place, each in enumerate(candidates) if each is victim))
    generator = torch.Generator().manual_seed(secrets.randbits(63))
    inputs, answers = _questions(fingerprint, candidates, material.pool, size, generator, progress)
    _refuse_equals(candidates, answers)
    _refuse_kin(candidates)
    _refuse_families(candidates)
    figures = figures_of(candidates, material.held_out, material.learned)
    known = (terms or Terms()).model_copy(update={"figures": figures})
    queries = Queries(inputs)
    if scheme is not None:
        seed = int(torch.randint(2**62, (1,), generator=generator))
        queries, answers = make_each(scheme, candidates, material.own, questions=size, seed=seed, progress=progress)
    made = Candidates(
        queries=queries,
        answers=answers,
        digests=tuple(secret.seal(digest) for digest in digests),
        commitment=secret.commitment,
        recipe=recipe,
        settings=known.document(),
    )
    # What was calibrated stays true of the queries; the ids change, for they hold the lineup too.
    return replace(fingerprint, candidates=made, looks=(), format=2), secret


def with_known(
    fingerprint: Fingerprint,
    secret: Secret,
    *,
    strangers: Mapping[str, Oracle],
    copies: Mapping[str, Sequence[Oracle]],
    progress: Callable[[], None] = lambda: None,
) -> Fingerprint:
    """The fingerprint whose lineup also knows whom strangers name, and how many known copies name the victim.

    Strangers show whether a kind of model names the victim without being made from it, known copies what would be seen.

    Raises:
        UsageError: a stranger is a candidate of this lineup, or is given twice.
        AccessRefused: one of them grants too little for the scheme of a lineup by a scheme.
    """
    lineup = fingerprint.candidates
    assert lineup is not None
    terms, order, place = terms_of(lineup, fingerprint.task), order_of(lineup), secret.open(lineup)
    named: dict[str, int] = dict(terms.strangers)
    _refuse_acquainted(lineup, secret, strangers)
    if terms.by:
        for model in (*strangers.values(), *(copy for models in copies.values() for copy in models)):
            admit_by(fingerprint, terms.by, model)
    for name, stranger in strangers.items():
        leader = show(lineup, terms, order, stranger).leader
        named[name] = -1 if leader is None else leader
        progress()
    caught: dict[str, tuple[int, int]] = dict(terms.copies)
    for removal, models in copies.items():
        hits = 0
        for model in models:
            hits += rank(show(lineup, terms, order, model).totals, place) <= terms.alpha * len(lineup.digests) + 1e-9
            progress()
        caught[removal] = (hits, len(models))
    settings = terms.model_copy(update={"strangers": named, "copies": caught}).document()
    return replace(fingerprint, candidates=replace(lineup, settings=settings))


def check_twin(fingerprint: Fingerprint, victim: Oracle, twin: Oracle) -> None:
    """Refuse what can't stand beside the victim, by asking it once, so that no more of its kind are trained.

    Raises:
        UsageError, AccessRefused: it takes other inputs, has other outputs, or can't be asked.
        OracleError: its answer is NaN or infinite.
    """
    _check_kind(twin, victim)
    inputs = fingerprint.queries.inputs
    answers_of(twin, inputs[:1] if fingerprint.space.each(inputs) is None else inputs[0])


def _check_kind(each: Oracle, victim: Oracle) -> None:
    require(each, Access.LABELS, "a lineup")
    if (each.space, each.classes, each.task) != (victim.space, victim.classes, victim.task):
        raise UsageError(
            f"{each.name} takes {each.space} of {each.classes} ({each.task}); your model {victim.space} of "
            f"{victim.classes} ({victim.task}): no twin"
        )


def _refuse_acquainted(lineup: Candidates, secret: Secret, strangers: Mapping[str, Oracle]) -> None:
    seen: dict[str, str] = {}
    for name, stranger in strangers.items():
        digests = digests_of(stranger)
        if {secret.seal(each) for each in digests} & set(lineup.digests):
            raise UsageError(f"{name} is a candidate of this lineup, and no stranger to it: give models of other kinds")
        if twice := [seen[each] for each in digests if each in seen]:
            raise UsageError(f"{name} has the weights of {twice[0]}: each stranger counts once")
        seen |= dict.fromkeys(digests, name)


def _candidates(victim: Oracle, twins: Sequence[Oracle]) -> tuple[list[Oracle], list[str]]:
    """Victim and twins in random order, and their digests."""
    if not twins:
        raise UsageError("a lineup needs twins of your model: other runs of its own recipe, with other seeds")
    everyone = [victim, *twins]
    for each in everyone:
        _check_kind(each, victim)
    digests = [next(iter(digests_of(each)), "") for each in everyone]
    seen: dict[str, str] = {}
    for each, digest in zip(everyone, digests, strict=True):
        if digest and digest in seen:
            raise UsageError(
                f"{each.name} has the weights of {seen[digest]}: no twin is a copy of another. Where every run gives "
                "the same weights, the seed does not reach the training"
            )
        seen[digest] = each.name
    order = list(range(len(everyone)))
    secrets.SystemRandom().shuffle(order)
    return [everyone[place] for place in order], [digests[place] for place in order]


def _questions(
    fingerprint: Fingerprint,
    candidates: Sequence[Oracle],
    pool: Dataset,
    size: int,
    generator: torch.Generator,
    progress: Callable[[], None],
) -> tuple[Tensor, Tensor]:
    """Inputs ``[q, *input]`` and all candidates' answers to them."""
    if not len(pool) or size < 2:
        raise UsageError(f"a lineup needs two questions or more, and inputs to choose them from; these are {len(pool)}")
    natural = pool.inputs(torch.randperm(len(pool), generator=generator)[:MOST_FROM])
    seen = torch.stack([answers_of(each, natural) for each in candidates])
    chosen = disputed(seen, size // 2)
    sources = natural[torch.randint(len(natural), (size - len(chosen),), generator=generator)]
    other = noisy(sources, fingerprint.space, generator)
    if other is None:  # no mild noise is known for this space: natural inputs alone
        chosen = disputed(seen, size)
        inputs, answers = natural[chosen], seen[:, chosen]
        for _ in candidates:
            progress()
    else:
        told = []
        for each in candidates:
            told.append(answers_of(each, other))
            progress()
        inputs, answers = torch.cat([natural[chosen], other]), torch.cat([seen[:, chosen], torch.stack(told)], 1)
    return inputs.contiguous(), answers.contiguous()


def _refuse_equals(candidates: Sequence[Oracle], answers: Tensor) -> None:
    """Refuse one model in two forms (another file type, half precision): far nearer than runs of a recipe are."""
    if answers.ndim == 2:
        distances = torch.stack([(answers != row).double().mean(1) for row in answers])
    else:
        flat = answers.double().flatten(1)
        distances = torch.cdist(flat, flat, p=1) / flat.shape[1]
    places = torch.triu_indices(len(answers), len(answers), 1)
    apart = distances[places[0], places[1]]
    if not float(apart.max()):
        raise UsageError(
            "all candidates answer every question alike: either the seed does not reach the training, or a lineup sees "
            "nothing on such inputs; give --data on which two runs of your recipe differ"
        )
    nearest = int(apart.argmin())
    # Two candidates have no other distance to compare theirs with.
    least = SAME * float(apart.median()) if len(answers) > 2 else ROUNDING
    if float(apart[nearest]) < least:
        one, other = (candidates[int(row[nearest])].name for row in places)
        raise UsageError(
            f"{other} and {one} answer alike: no twin is a copy of another, nor of your model. Where every run gives "
            "the same model, the seed does not reach the training"
        )


def _refuse_kin(candidates: Sequence[Oracle]) -> None:
    """Refuse a model that was made from another candidate: its weights are far nearer than those of two runs.

    Answers alone would not tell a tuned copy from a twin. Two candidates have no other distance to compare theirs with.
    """
    rows = [_weights(each) for each in candidates]
    known = [row for row in rows if row is not None]
    if len(known) < max(len(rows), 3) or len({len(row) for row in known}) > 1:
        return
    weights = torch.stack(known)
    weights = weights[:, (weights != weights[0]).any(0)]  # what all runs keep tells nothing
    if weights.shape[1] < LEAST_WEIGHTS:
        return
    weights = weights / weights.std(0)  # or a few of a large scale would decide
    places = torch.triu_indices(len(weights), len(weights), 1)
    apart = torch.cdist(weights, weights)[places[0], places[1]]
    nearest = int(apart.argmin())
    if float(apart[nearest]) < KIN * float(apart.median()):
        one, other = (candidates[int(row[nearest])].name for row in places)
        raise UsageError(
            f"{other} and {one} have nearly the same weights, far nearer than those of two runs: one was made from the "
            "other, by tuning or quantising, and no twin is made from your model or another twin"
        )


def _refuse_families(candidates: Sequence[Oracle]) -> None:
    """Refuse candidates of which some share an ancestor that others do not have: whoever stands outside stands out."""
    for members in kin(candidates):
        if len(members) < len(candidates):
            outside = next(place for place in range(len(candidates)) if place not in members)
            raise UsageError(
                f"{candidates[members[1]].name} and {candidates[members[0]].name} share an ancestor or their first "
                f"weights, and {candidates[outside].name} does not: twins are runs of one recipe, with seeds of their "
                "own from the beginning on, or all of them with your model from one checkpoint"
            )


def _weights(oracle: Oracle) -> Tensor | None:
    """Some of a network's weights, the same of each of one architecture; None where none may be seen."""
    if not isinstance(oracle, TorchOracle) or oracle.access < Access.WEIGHTS:
        return None
    parameters = [each.detach().flatten() for each in oracle.module.parameters() if each.is_floating_point()]
    step = max(1, sum(map(len, parameters)) // MOST_WEIGHTS)
    return torch.cat([each[::step].double().cpu() for each in parameters]) if parameters else None
