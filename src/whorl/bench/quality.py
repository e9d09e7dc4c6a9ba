"""How hard a benchmark is, before any scheme: how far apart copies and independent models are from their victims.

Paper: Godinot et al., *Queries, Representation & Detection*, AAAI 2025, section on the quality of benchmarks: for every
pair the gap in accuracy, the Hamming distance P(h != h'), the same on the victim's errors, P(h != h' | h(x) != y), and
the distance of the outputs. Where these distributions overlap between copies and independent models, a benchmark is
hard; where they do not, accuracy alone convicts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import ArrayLike

from whorl.bench.estimates import by_victim, mean_over_victims
from whorl.data import SOURCES
from whorl.engine.stages import Progress, Stages
from whorl.engine.store import cell_key
from whorl.engine.tasks import Task
from whorl.engine.workers import Workers
from whorl.metrics import ClusterEstimate, auc
from whorl.oracles.base import Oracle
from whorl.revisions import digest_of, revisions_of
from whorl.suites.suite import Kind, Suite
from whorl.types import Access
from whorl.zoo.cache import Zoo
from whorl.zoo.code import code_of_model, content_key
from whorl.zoo.recipe import Recipe, parse_recipe

__all__ = ["MEASURES", "GroupQuality", "Pair", "Quality", "measure_quality", "overlap"]

MEASURES: Final = ("gap", "hamming", "conditioned", "l2")


@dataclass(frozen=True)
class Pair:
    """A victim and a suspect on the test part of the victim's data.

    ``gap`` is the victim's accuracy less the suspect's; ``hamming`` the share of other labels; ``conditioned`` the same
    on the victim's errors, None where it makes none; ``l2`` the root mean square distance of class probabilities, None
    where one of them gives only labels or they have other classes.
    """

    victim: int
    suspect: str
    group: str
    kind: Kind
    damaged: bool
    gap: float
    hamming: float
    conditioned: float | None
    l2: float | None


@dataclass(frozen=True)
class GroupQuality:
    """The mean of each measure over the pairs of a group that have it."""

    group: str
    kind: Kind
    pairs: int
    gap: float | None
    hamming: float | None
    conditioned: float | None
    l2: float | None


@dataclass(frozen=True)
class Quality:
    """A suite's quality: every pair, means by group, and by measure the overlap of copies and independent models.

    ``overlaps`` are means over victims, ``around`` the same with their intervals; None where no victim has both sides
    of a measure, and of one victim no interval but [0, 1]. ``revisions`` are those of the code that made it, as
    `whorl.revisions.revisions_of` has them.
    """

    suite: str
    pairs: list[Pair]
    groups: list[GroupQuality]
    overlaps: dict[str, float | None]
    around: dict[str, ClusterEstimate | None]
    revisions: dict[str, str]


def measure_quality(
    suite: Suite,
    *,
    folder: Path,
    workers: Workers = 0,
    device: str = "cpu",
    fresh: bool = False,
    progress: Progress = lambda *_: None,
) -> Quality:
    """Ask every model of a suite about the test pictures; what is missing in the zoo is built first.

    ``fresh`` forgets what is kept, models included.
    """
    stages = Stages(folder, workers=workers, device=device, fresh=fresh, progress=progress)
    zoo, suspects = Zoo(stages.folder, device=device), list(suite.suspects())
    store = stages.store  # a damaged one is refused before anything is trained
    models = [*suite.victims, *(suspect.recipe for suspect in suspects)]
    zoo.build(models, workers=workers, fresh=fresh, progress=progress)
    meetings = [[suspect.recipe, *(suite.victims[index] for index in suspect.kinds)] for suspect in suspects]
    groups = {
        number: {
            str(suspect): cell_key(
                revision=digest_of(_code([suspect, *victims])),
                quality=suspect.digest,
                victims=[victim.digest for victim in victims],
                **content_key([suspect, *victims]),
            )
        }
        for number, (suspect, *victims) in enumerate(meetings)
    }

    def ask(number: int, recipe: tuple[str, ...]) -> Task:
        return stages.task(_distances, *recipe, [str(victim) for victim in meetings[number][1:]], name=recipe[0])

    stages.cells("suspects", groups, ask)
    pairs: list[Pair] = []
    for suspect, keys in zip(suspects, groups.values(), strict=True):
        damaged, rows = zoo.card(suspect.recipe).damaged, store.get(*keys.values())
        for (victim, kind), row in zip(suspect.kinds.items(), rows, strict=True):
            pairs.append(Pair(victim, suspect.label, suspect.group, kind, damaged, *row))
    around = {name: _overlap_of(pairs, name) for name in MEASURES}
    overlaps = {name: of.value if of else None for name, of in around.items()}
    return Quality(suite.name, pairs, _by_group(pairs), overlaps, around, revisions_of(_code(models)))


def _code(models: Sequence[Recipe]) -> frozenset[str]:
    return frozenset({__name__}).union(*map(code_of_model, models))


def overlap(positives: ArrayLike, negatives: ArrayLike) -> float:
    """1 where two samples cannot be told apart by their order, 0 where they are separated: 2 min(AUC, 1 - AUC)."""
    area = auc(positives, negatives)
    return 2 * min(area, 1 - area)


def _distances(recipe: str, victims: list[str], folder: str, device: str) -> dict[str, list[list[float | None]]]:
    """The four measures of one suspect against each of these victims (runs in a worker)."""
    zoo = Zoo(Path(folder), device=device)
    suspect = zoo.oracle(parse_recipe(recipe))
    read = [parse_recipe(victim) for victim in victims]
    return {recipe: [_against(zoo.oracle(victim), suspect, victim.data) for victim in read]}


def _against(victim: Oracle, suspect: Oracle, data: str) -> list[float | None]:
    test = SOURCES.make(data).load("test")
    inputs, truth = test.inputs(), test.labels
    ours, theirs = victim.labels(inputs), suspect.labels(inputs)
    wrong = ours != truth
    other = ours != theirs
    soft = min(victim.access, suspect.access) >= Access.PROBABILITIES and victim.classes == suspect.classes
    away = (victim.probabilities(inputs) - suspect.probabilities(inputs)).square().mean().sqrt() if soft else None
    return [
        float((ours == truth).float().mean()) - float((theirs == truth).float().mean()),
        float(other.float().mean()),
        float(other[wrong].float().mean()) if bool(wrong.any()) else None,
        None if away is None else float(away),
    ]


def _by_group(pairs: Sequence[Pair]) -> list[GroupQuality]:
    found: list[GroupQuality] = []
    kinds: dict[tuple[str, Kind], list[Pair]] = {}
    for pair in pairs:
        kinds.setdefault((pair.group, pair.kind), []).append(pair)
    for (group, kind), chosen in kinds.items():
        means = [_mean([getattr(pair, name) for pair in chosen]) for name in MEASURES]
        found.append(GroupQuality(group, kind, len(chosen), *means))
    return found


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _overlap_of(pairs: Sequence[Pair], measure: str) -> ClusterEstimate | None:
    """Mean over the victims that have copies and independent models."""
    known = [pair for pair in pairs if getattr(pair, measure) is not None and not pair.damaged]
    copies, strangers = (
        [(pair.victim, float(getattr(pair, measure))) for pair in known if pair.kind in kinds]
        for kinds in (("derived", "beyond"), ("independent",))
    )
    sides = by_victim(copies, strangers)
    return mean_over_victims(overlap, sides) if sides else None
