"""What a verdict says beside its numbers: who the null is, and what the test would or could not have seen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from whorl.detection.exchangeability import Likeness
from whorl.detection.groups import Groups
from whorl.detection.power import MOST_MISSED, copies_needed
from whorl.types import Decision, Null

__all__ = ["always", "degraded", "described", "explained", "limits", "standing", "too_few_copies"]

Power = Mapping[str, Mapping[str, float]]


def described(null: Null, groups: Groups, p_values: Mapping[str, float]) -> dict[str, Any]:
    """The null as a verdict tells of it: size and spread, groups with their p-values, and every model."""
    points = {"min": 0.0, "median": 0.5, "q90": 0.9, "q99": 0.99, "max": 1.0}
    counted = groups.all
    quantiles = np.quantile(counted, list(points.values()), method="inverted_cdf") if len(counted) else ()
    models = zip(null.models, null.similarities, strict=True)
    return {
        "pool": null.pool,
        "origin": null.origin,
        "size": len(counted),
        "siblings": null.siblings,
        "quantiles": {name: float(value) for name, value in zip(points, quantiles, strict=False)},
        "groups": [
            {"name": name, "size": plan.independents, "p_value": p_values[name]} for name, plan in groups.plans.items()
        ],
        "models": [{**vars(model), "similarity": similarity} for model, similarity in models],
    }


def standing(likeness: Likeness | None, decision: Decision, null: Null) -> tuple[str, ...]:
    """Whether suspect and victim are models like those of the null, as far as neutral inputs tell."""
    if not len(null):
        return ()  # there is nothing to be like
    if likeness is None:
        return ("nobody looked whether the suspect is a model like those of the null: no neutral probes were asked",)
    told: list[str] = []
    if likeness.above:
        told.append(
            f"the suspect is more often right, or surer, or agrees more, on neutral inputs than models of the null do "
            f"(p {likeness.more:.2g}): strangers like it may be called derived more often than the error rate says"
        )
    if likeness.victim_above:
        alone = "your own model is more often right, or surer, or agrees more, on neutral inputs"
        so = "so does your own model" if likeness.above else alone
        told.append(
            f"{so} (p {likeness.victim_more:.2g}): the null's models are unlike it, worse trained or "
            "trained on other pictures, and strangers trained as it was may be called derived more often than the "
            "error rate says; calibrate with models of your model's own recipe and pictures"
        )
    if likeness.below and decision == "unrelated":
        told.append(
            f"the suspect is less often right, or agrees less, on neutral inputs than models of the null do "
            f"(p {likeness.less:.2g}): a low similarity says less of it"
        )
    return tuple(told)


def explained(likeness: Likeness | None) -> str:
    """Why nothing is called derived although the similarity is above that of the null."""
    assert likeness is not None
    return (
        f"the similarity is above that of the null, but so is the suspect's standing on neutral inputs (p "
        f"{likeness.more:.2g}), and a stranger of that standing may be as alike: nothing is called derived; calibrate "
        "with models that are as good as the suspect"
    )


def apart(likeness: Likeness) -> str:
    """Why nothing is called derived although the similarity is above that of the null: the victim is not like it."""
    least, _, most = likeness.of_null["distance"]
    return (
        f"your own model's answers to neutral inputs differ from the null's by {likeness.of_victim['distance']:.3f}, "
        f"and theirs from each other by {least:.3f} to {most:.3f} (p {likeness.victim_apart:.2g}): the null is of "
        "another recipe or other pictures than your model, and a stranger that was made as yours was may be as alike: "
        "nothing is called derived; calibrate with models of your own recipe, or line it up with its runs (whorl twins)"
    )


def degraded(likeness: Likeness) -> str:
    """Why a low similarity is not called unrelated."""
    least = likeness.of_null["accuracy"][0]
    return (
        f"the suspect answers {likeness.accuracy:.0%} of the control pictures rightly, and models of the null "
        f"{least:.0%} or more: its description may be wrong (range, mean and std or units, output, order of "
        "classes), or it was damaged beyond what was measured, so a low similarity says little"
    )


def limits(power: Power) -> tuple[str, ...]:
    """What the test would have caught, what it was not shown to catch, and what it could not have seen."""
    seen = [name for name, of in power.items() if of["missed_at_most"] <= MOST_MISSED]
    few = [name for name, of in power.items() if name not in seen and 0 < of["copies"] == of["caught"]]
    missed = [name for name in power if name not in seen and name not in few]
    told: list[str] = []
    if seen:
        bound = max(power[name]["missed_at_most"] for name in seen)
        told.append(
            f"would have caught: {_counted(power, seen)}; a copy of any of these is missed with a chance of at most "
            f"{bound:.2f} (95 % confidence for all together)"
        )
    if few:
        told.append(
            f"every copy was caught, and they are too few to bound the chance of a miss: {_counted(power, few)}; "
            f"{copies_needed(len(power))} distinct copies of each would do"
        )
    unseen = f"{_counted(power, missed)}; " if missed else ""
    return (*told, f"could not have seen: {unseen}any removal that the calibration does not hold")


def too_few_copies(power: Power) -> str:
    """Why a low similarity is no verdict of unrelated, and what would make it one."""
    needed = copies_needed(max(len(power), 1))
    if not power:
        return (
            "no known copies were measured, so a low similarity says little; give at least "
            f"{needed} copies of a removal to whorl calibrate"
        )
    name, best = max(power.items(), key=lambda item: (item[1]["power"], item[1]["copies"]))
    return (
        f"a low similarity says little: for no removal is the chance that a copy is missed shown to be at most "
        f"{MOST_MISSED:g} (best: {name}, {best['caught']} of {best['copies']} distinct copies caught, at most "
        f"{best['missed_at_most']:.2f}); {needed} copies would do if all are caught"
    )


def always(null: Null) -> tuple[str, ...]:
    """What no verdict may leave out."""
    common = "a verdict of derived means that two models share behaviour beyond chance, not who copied whom"
    if not len(null):
        return (common,)
    pool = (
        f"the error rate holds for suspects like those of the null: {null.pool or 'undescribed'} ({len(null)} models)"
    )
    kin = (
        f"{null.siblings} of the null share a public ancestor with the victim; for such models alone the error rate "
        "may be higher"
        if null.siblings
        else "no model of the null shares a public ancestor with the victim: one that was made from the same public "
        "pre-trained model may be called derived"
    )
    return common, pool, kin


def _counted(power: Power, names: list[str]) -> str:
    return "; ".join(f"{name} ({power[name]['caught']} of {power[name]['copies']} copies)" for name in names)
