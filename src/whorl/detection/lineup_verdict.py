"""From a showing to a verdict: the victim's rank among its twins, and what may forbid to read it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from whorl.detection.combination import share_of_alpha
from whorl.detection.lineup import DESIGN, Showing, clumped, outermost, rank, told_apart
from whorl.detection.power import MOST_MISSED, copies_needed, measured
from whorl.fingerprints.terms import Terms
from whorl.types import Decision, Grade, Origin, Verdict

__all__ = ["lineup_verdict"]

POINTS: Final = 60  # of the race that a verdict keeps, to draw it
POOL: Final = "twins of the victim"
WORD: Final = "all {} twins were made as the victim was, and that none was shown to whoever made the suspect"
SEEDS: Final = {
    "secret": "the error rate holds for any suspect that was made without the victim, whatever its architecture, data "
    "or interface; it is that of the draw of victim and twins together, so several suspects before one lineup are "
    "not independent",
    "small": "the victim's seed is small or common: a suspect that shares it resembles the victim for that, and the "
    "error rate is not exact",
    "unknown": "nobody said which seed made the victim: a suspect that shares it resembles the victim for that, so the "
    "error rate is not called exact (whorl twins --victim-seed)",
}


def lineup_verdict(  # noqa: PLR0913 each is told by the verdict
    showing: Showing,
    place: int | None,
    terms: Terms,
    *,
    recipe: str,
    fingerprint: str,
    suspect: str,
    tests: int = 1,
    turned: int = 0,
    origin: Origin = "owner",
) -> Verdict:
    """The answer of a lineup.

    p = rank/(N + 1), where the rank counts every candidate that has the victim's total or more. Under the hypothesis
    that the suspect was made without the victim, and knows nothing of its randomness, p is at most u with probability
    at most u, over the joint draw of victim and twins.

    Parameters:
        place: the victim's among the candidates; None where the lineup was not opened, and then nothing is decided.
        terms: what was fixed beforehand, alpha among it, and what is known of the candidates.
        recipe: how they were made.
        fingerprint, suspect: what to call them.
        tests: how many tests share the alpha of the terms.
        origin: who made the twins; a judge, or the owner.
        turned: in how many other lineups a candidate is known to stand in another role; the terms know of earlier ones.
    """
    turned = max(turned, terms.turned)
    grade = Grade.of(origin)
    count, alpha = len(showing.totals), share_of_alpha(terms.alpha, tests)
    power = {removal: measured(caught, copies, len(terms.copies)) for removal, (caught, copies) in terms.copies.items()}
    stands = None if place is None else rank(showing.totals, place)
    p_value = 1.0 if stands is None else stands / count
    outside = {} if place is None else outermost(terms.figures, place)
    named = None if place is None else sum(each == place for each in terms.strangers.values())
    decision, reasons = _decide(showing, place, terms, alpha, p_value, outside, named, power)
    return Verdict(
        decision=decision,
        similarity=_lead(showing, place),
        p_value=p_value,
        p_value_floor=1 / count,
        alpha=alpha,
        error_bound=math.floor(alpha * count + 1e-9) / count,
        null={
            "pool": f"{POOL} ({count - 1})",
            "origin": origin,
            "size": count - 1,
            "siblings": 0,
            "quantiles": {},
            "groups": [],
            "models": [],
        },
        queries={
            "spent": showing.sent,
            "needed": showing.asked,
            "budget": showing.budget,
            "size": showing.size,
            "stopped_early": showing.sent < showing.budget,
        },
        power=power,
        scheme=f"lineup(by={terms.by})" if terms.by else f"lineup({showing.statistic})",
        fingerprint=fingerprint,
        suspect=suspect,
        caveats=(grade.caveat(WORD.format(count - 1)), *reasons, *_always(showing, terms, named, outside, turned)),
        grade=grade,
        lineup={
            "candidates": count,
            "rank": stands,
            "place": place,
            "leader": showing.leader,
            "statistic": showing.statistic,
            "won": showing.won,
            "matched": showing.matched,
            "totals": [round(float(value), 6) for value in showing.totals],
            "race": _thinned(showing.path),
            "figures": {name: list(values) for name, values in terms.figures.items()},
            "outermost": outside,
            "strangers": {"asked": len(terms.strangers), "named_the_victim": named},
            "exact": terms.seeds == "secret" and not terms.hypothesis and not turned,
            "turned": turned,
            "recipe": recipe,
            "terms": _fixed(showing, terms),
        },
    )


def _fixed(showing: Showing, terms: Terms) -> dict[str, Any]:
    """What was fixed beforehand and bears on how to read the showing; ``margin`` is that of the statistic in use."""
    margins = {"mixture": terms.margin, "agreement": terms.agreements}  # of what is compared as a whole none
    return {
        "questions": showing.size,
        "labels": terms.labels,
        "scores": terms.scores,
        "margin": margins.get(showing.statistic),
        "seeds": terms.seeds,
        "hypothesis": terms.hypothesis,
        "reasons": dict(terms.reasons),
        "by": terms.by,
    }


def _decide(
    showing: Showing,
    place: int | None,
    terms: Terms,
    alpha: float,
    p_value: float,
    outside: Mapping[str, str],
    named: int | None,
    power: Mapping[str, Mapping[str, float]],
) -> tuple[Decision, tuple[str, ...]]:
    """The decision and, unless it is derived, why it is not more than that."""
    count = len(showing.totals)
    if place is None or named is None:
        return "inconclusive", ("the lineup is sealed: which candidate is the victim is in the secret file",)
    if 1 / count > alpha + 1e-12:
        needed = math.ceil(1 / alpha - 1e-9) - 1
        return "inconclusive", (
            f"the lineup holds {count - 1} twins; to call a model derived at alpha {alpha:g} at least {needed} are "
            "needed: type whorl twins",
        )
    if apart := {name: which for name, which in outside.items() if name not in terms.reasons}:
        by_chance = f"; by chance alone each figure stands out in {2 / count:.0%} of lineups"
        chance = by_chance if apart.keys() - set(DESIGN) else ""
        return "inconclusive", (
            f"twins unlike the victim: of all candidates your model has {told_apart(apart)}. Where it was trained "
            "longer, on other pictures, as another net or chosen among several, a stranger may name it for that"
            f"{chance}. Make the twins as the victim was made; where you know why it stands apart, say so for each "
            f"figure (whorl twins FINGERPRINT --reason {min(apart)}='...')",
        )
    if p_value <= alpha + 1e-12:
        if clumped(named, len(terms.strangers), count):
            return "inconclusive", (
                f"{named} of {len(terms.strangers)} known strangers name the victim too, and about one in {count} "
                "would by chance: models of their kind resemble it, whoever made them",
            )
        return "derived", ()
    if p_value <= terms.alpha + 1e-12:  # by which power was measured: a copy that is seen there is not called unrelated
        return "inconclusive", (
            f"alone it would be derived at alpha {terms.alpha:g}, and several tests that share it leave each "
            f"{alpha:.4g}; a lineup with more twins decides (whorl twins -n)",
        )
    if all(each["missed_at_most"] > MOST_MISSED for each in power.values()):
        return "inconclusive", (
            "another candidate is as like the suspect, and no removal is known whose copies would name the victim: "
            f"give {copies_needed(max(len(power), 1))} known copies of one (whorl twins --removal)",
        )
    return "unrelated", ("unrelated only as far as the removals go whose known copies name the victim",)


def _always(
    showing: Showing, terms: Terms, named: int | None, outside: Mapping[str, str], turned: int
) -> tuple[str, ...]:
    """What no verdict of a lineup may leave out."""
    told: list[str] = []
    if terms.hypothesis:
        told.append(f"what is tested is narrower: {terms.hypothesis}")
    told.append(SEEDS[terms.seeds])
    if turned:
        told.append(
            f"candidates of this lineup stand in another role, as victim or twin, in {turned} other "
            f"{'lineups' if turned > 1 else 'lineup'}: some run always comes first, so whoever takes one after another "
            "as the victim accuses any suspect. The error rate is not called exact; of all these lineups together it "
            f"is up to {turned + 1} times alpha"
        )
    if showing.matched:
        told.append(
            "each candidate read the suspect's classes in the order in which the two agree most, by the same search "
            "for all; known strangers and copies were asked in the order that they state"
        )
    for name, reason in terms.reasons.items():
        if name in outside:
            told.append(
                f"the victim stands outside of its twins, as it has {told_apart({name: outside[name]})}, and the "
                f"owner's reason, given after that was known, is: {reason}"
            )
    if not terms.figures.keys() & set(DESIGN):
        told.append(
            "whether the twins are nets of the victim's architecture was not seen, as weights of some were not at hand"
        )
    if not terms.figures.keys() - set(DESIGN):
        told.append(
            "nothing was measured that would show whether the victim is one among equals, as accuracy and loss on "
            "inputs of known class do: a victim that was trained longer or on other inputs convicts strangers unseen"
        )
    if named is None and terms.strangers:
        told.append(f"how many of {len(terms.strangers)} known strangers name the victim is sealed too")
    elif terms.strangers:
        told.append(f"{named} of {len(terms.strangers)} known strangers name the victim in this lineup")
    else:
        told.append(
            "no known stranger went through this lineup: where models of one kind all resemble the victim, as "
            "descendants of one public model may, they would be accused together (whorl twins --stranger)"
        )
    return tuple(told)


def _lead(showing: Showing, place: int | None) -> float:
    """How far the victim's total lies above the best twin's; below 0 where it does not lead."""
    if place is None:
        return 0.0
    return float(showing.totals[place] - np.delete(showing.totals, place).max())


def _thinned(path: Sequence[Any]) -> list[dict[str, Any]]:
    """Some points of the race: how many were asked, and every candidate's total."""
    places = sorted({round(each) for each in np.linspace(0, len(path) - 1, min(POINTS, len(path)))})
    return [{"asked": place + 1, "totals": [round(float(each), 4) for each in path[place]]} for place in places]
