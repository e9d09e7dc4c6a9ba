"""What is known of each scheme: what it looks at, what it needs, what it cannot see, and how it did in the benchmark.

``measured.json`` beside this file holds the figures of the committed run of a suite; `choose` goes by them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from whorl.errors import UsageError
from whorl.schemes import SCHEMES
from whorl.types import Access, Grants, Task, grants, told

__all__ = ["Needs", "SchemeCard", "card", "choose"]


LABELS = grants(Access.LABELS)


@dataclass(frozen=True)
class SchemeCard:
    """One scheme.

    ``victim`` and ``suspect`` are the grants needed of each side; ``shadows`` says whether extraction learns from
    shadow models, ``pictures`` whether it starts from data; ``together`` whether the queries are compared as a whole,
    so that all are asked; ``measured`` maps figures of the benchmark (`whorl.bench.standings`) to their values, and is
    empty for a scheme that was not in it. ``suite`` names that benchmark, ``alpha`` is the error rate of its
    verdicts.
    """

    name: str
    idea: str
    paper: str
    victim: Grants
    suspect: Grants
    shadows: bool
    pictures: bool
    together: bool
    any_classes: bool
    tasks: tuple[Task, ...]
    blind: str
    parameters: Mapping[str, Any]
    measured: Mapping[str, Any]
    suite: str
    alpha: float


@dataclass(frozen=True)
class Needs:
    """What is at hand when a scheme is to be chosen."""

    victim: Grants
    suspect: Grants = LABELS
    task: Task = "classification"
    shadows: bool = False
    pictures: bool = True


def card(name: str) -> SchemeCard:
    """The card of a scheme. Raises `UsageError` for an unknown name."""
    scheme: Any = SCHEMES[name]
    suite, alpha, figures = _measured()
    victim, suspect = scheme.demands()
    return SchemeCard(
        name=name,
        idea=scheme.idea,
        paper=scheme.paper,
        victim=victim,
        suspect=suspect,
        shadows=scheme.needs_pool,
        pictures=scheme.needs_data,
        together=not scheme.per_query,
        any_classes=scheme.any_classes,
        tasks=tuple(sorted(scheme.tasks)),
        blind=scheme.blind,
        parameters=SCHEMES.parameters(name),
        measured=figures.get(name, {}),
        suite=suite,
        alpha=alpha,
    )


def choose(needs: Needs) -> tuple[str, str]:
    """The best measured scheme that what is at hand allows, and the reason in words.

    Raises `UsageError` when none does.
    """
    able = [each for each in map(card, SCHEMES) if _allows(needs, each)]
    if not able:
        raise UsageError(
            f"no scheme fits: {needs.task}, {told(needs.victim)} of the victim, {told(needs.suspect)} of the suspect, "
            f"{'with' if needs.pictures else 'without'} pictures. Type: whorl schemes"
        )
    tried = [each for each in able if each.measured]
    given = (
        f"with {told(needs.victim).lower()} of the victim and {told(needs.suspect).lower()} of the suspect, "
        f"{'with' if needs.shadows else 'without'} shadow models"
    )
    if not tried:
        least = min(able, key=lambda each: (len(each.suspect), len(each.victim), each.name))
        return least.name, f"{least.name} asks least of both sides among {len(able)} schemes for {needs.task}, {given}"
    best = max(tried, key=_ranked)
    found, alpha = best.measured["power"], f"alpha {best.alpha:g}"
    return best.name, (
        f"{best.name} has the most power of {len(tried)} schemes possible {given}: "
        f"{found['hits'] / found['count']:.2f} [{found['interval']['low']:.2f}, {found['interval']['high']:.2f}] "
        f"on {best.suite} at {alpha}"
    )


def _ranked(each: SchemeCard) -> tuple[float, float, float, str]:
    """Power, then AUC and TPR, as `Standing.order` has them."""
    of = each.measured
    power, lost = of["power"]["hits"] / of["power"]["count"], of["answered"]
    return power, of["auc"]["value"] * lost, of["tpr"]["value"] * lost, each.name


def _allows(needs: Needs, each: SchemeCard) -> bool:
    # An integrity check has no rank among ownership schemes: it tells every changed model from the victim.
    ownership = getattr(SCHEMES[each.name], "purpose", "ownership") == "ownership"
    return (
        ownership
        and each.victim <= needs.victim
        and each.suspect <= needs.suspect
        and needs.task in each.tasks
        and (needs.shadows or not each.shadows)
        and (needs.pictures or not each.pictures)
        and not each.measured.get("exceeds")  # its accusations clearly exceed the error that it was asked for
    )


@cache
def _measured() -> tuple[str, float, Mapping[str, Mapping[str, Any]]]:
    document = json.loads(files("whorl.schemes").joinpath("measured.json").read_text(encoding="utf-8"))
    return document["suite"], document["alpha"], document["schemes"]
