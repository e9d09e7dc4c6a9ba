"""The judge's side: rank a suspect among models that the judge trained, in two families that were opened by a draw.

What is found stands in three statements, none of which follows from another. *Relation*: the suspect is not
independent of the victim (statistics; as true of the victim seen from the suspect). *Priority*: a stamp proves that the
claim existed before the suspect did. *Counterpart*: whether the other side showed anything that is older. Only all
three say that the suspect was made from the victim.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import torch

from whorl.attest.draw import Draw, numbers_below
from whorl.claims.audit import made_again
from whorl.claims.case import MADE_FROM, Case, claims_logged, direction, made_from, revoked_in, unproven
from whorl.claims.documents import JudgedModel, Judgment, Stratum
from whorl.claims.fetched import check_fetched
from whorl.claims.making import KINDS, kind_of
from whorl.claims.opening import OpenedClaim
from whorl.data import SOURCES, Dataset
from whorl.detection.judgment import MOST_MODELS, SHORT, Kind, Ranked, models_needed, ranked
from whorl.engine.stages import Progress
from whorl.engine.workers import Workers
from whorl.errors import UsageError
from whorl.oracles.base import Oracle
from whorl.oracles.recorded import Recorded
from whorl.oracles.wrappers import digests_of
from whorl.populations import strangers
from whorl.schemes import SCHEMES
from whorl.schemes.asking import admit, ordered
from whorl.suspects import one_of
from whorl.types import Fingerprint
from whorl.zoo.recipe import parse_recipe

__all__ = [
    "CHOSEN",
    "MADE_FROM",
    "Case",
    "check_suspect",
    "claims_logged",
    "examine",
    "judge",
    "made_from",
    "revoked_in",
    "shared",
    "train_strata",
]

CHOSEN: Final = "the independent models were trained by the judge, after the opening and with seeds from the draw"
PICKED: Final = (
    "the opened queries were not made again from the victim's weights, so they may have been picked by what the "
    "suspect answers, and then there is no error rate (grade D); give --victim"
)
CHOSEN_VICTIM: Final = (
    "an owner who had the suspect before the claim may have tried many nets as his victim until one resembled it, and "
    "p counts none of them: it holds where priority is shown"
)
PICTURES: Final = 500  # of the judge, on which accuracies are taken
SEEDS: Final = 1 << 31
SHARED: Final = ("architecture", "trust_code", "trust_hosts")  # options that may be meant for the victim too
QUARTER: Final = 1.25  # models trained of each kind, for each that is needed


def train_strata(  # noqa: PLR0913 each is an option of `whorl claim check`
    opened: OpenedClaim,
    recipes: Sequence[str],
    *,
    tries: int = 1,
    alpha: float = 1.0,
    count: int | None = None,
    folder: Path | None = None,
    workers: Workers = 0,
    trust_code: bool = False,
    progress: Progress = lambda *_: None,
) -> dict[str, dict[str, Oracle]]:
    """Independent models of each recipe, by recipe and name, with seeds that nobody knew before the draw.

    ``count`` of each, by default a quarter more than are needed to call anything derived at the claim's alpha,
    or at ``alpha`` where that is smaller.

    Raises `UsageError` for too few or too many of them, and for a recipe that is named twice.
    """
    alpha = min(alpha, opened.claim.body.alpha)
    needed = models_needed(alpha, tries)
    number = count if count is not None else min(round(QUARTER * needed), MOST_MODELS)
    if not needed <= number <= MOST_MODELS:
        raise UsageError(
            f"with {number:,} models of each kind nothing can be called derived at {alpha:g}; train {needed:,} or "
            f"more, and {MOST_MODELS:,} at most (--count)"
        )
    plain = [str(parse_recipe(recipe, trust_code=trust_code).with_seed(0)) for recipe in recipes]
    if twice := next((recipe for place, recipe in enumerate(recipes) if plain[place] in plain[:place]), None):
        raise UsageError(f"{twice} is named twice, in one way or another; each kind of model counts once")
    return {
        recipe: dict(
            strangers(
                recipe,
                number,
                folder=folder,
                first_seed=numbers_below(opened.draw.seed, "strata", whole, count=1, choices=SEEDS)[0],
                workers=workers,
                trust_code=trust_code,
                progress=progress,
            )
        )
        for recipe, whole in zip(recipes, plain, strict=True)
    }


def check_suspect(opened: OpenedClaim, suspect: Any, **options: Any) -> Oracle:
    """The suspect, as it is asked; before anybody trains models to compare it with.

    Raises:
        UsageError, AccessRefused: it is another than the draw was made for, takes other inputs, or can't be asked.
    """
    if not opened.families:
        raise UsageError("nothing but a recipe was opened, for a lineup: judge it by twins (--twins)")
    first = next(iter(opened.families.values()))
    oracle = one_of(first, suspect, **options)
    if opened.opening.body.suspect not in digests_of(oracle):
        raise UsageError(
            f"the draw was made for another suspect than {oracle.name}; draw anew for this one: whorl claim draw"
        )
    for part in (*opened.families.values(), *opened.reserves.values()):
        admit(scheme := SCHEMES.make(part.scheme), part, oracle)
        ordered(scheme, part, oracle)
    return oracle


def shared(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a suspect that may be meant for the victim too."""
    return {name: options[name] for name in SHARED if name in options}


def chosen_families(opened: OpenedClaim, families: Sequence[str]) -> OpenedClaim:
    """The opening with these families judged, and all others in reserve.

    Raises:
        UsageError: one of them was not opened, or they are of one kind.
    """
    everyone = {**opened.families, **opened.reserves}
    if unknown := [name for name in families if name not in everyone]:
        raise UsageError(f"this opening holds no family {unknown[0]!r}; it holds {', '.join(everyone)}")
    if {kind_of(everyone[name].scheme) for name in families} != set(KINDS):
        raise UsageError("two families are judged, one of natural and one of made queries: give --family twice")
    return replace(
        opened,
        families={name: everyone[name] for name in families},
        reserves={name: part for name, part in everyone.items() if name not in families},
    )


def judge(  # noqa: PLR0913 each is an option of `whorl claim check`
    opened: OpenedClaim,
    suspect: Any,
    strata: Mapping[str, Mapping[str, Oracle]],
    *,
    data: str = "",
    victim: Any = None,
    case: Case | None = None,
    families: Sequence[str] = (),
    record: Path | None = None,
    replay: bool = False,
    progress: Callable[[], None] = lambda: None,
    **options: Any,
) -> Judgment:
    """Ask the suspect and the judge's models what was opened, and decide.

    Parameters:
        suspect: a file, an address or an oracle; it has to be the one that the draw was made for.
        strata: independent models by kind (`train_strata`).
        data: pictures of the judge's, on whose test part accuracies are taken; those of the claim by default. Where the
            claim names pictures of the hub, the judge names them here, or nothing is fetched.
        victim: the weights of the claim's victim, or an oracle of it, from which the opened queries are made again.
            Without, nobody knows that they were not picked by what the suspect answers, and the grade is D.
        case: dates and tries.
        families: which to judge by, of both kinds, in place of the two that were opened to be judged. p is then
            multiplied by the number of pairs that there are.
        record: file that keeps an endpoint's answers. Everything, families in reserve too, is asked in one block, mixed
            with as many pictures of the judge's, before anything that was opened is shown to anybody.
        replay: judge by the answers that the record holds of a session that has ended, as by families that it asked in
            reserve.
        options: as in `whorl.ownership.verify`.

    Raises:
        UsageError, AccessRefused: the suspect is another, can't be asked, or knows nothing of the judge's pictures.
    """
    case = case or Case()
    check_fetched(opened.claim.body.data, data)
    if families:
        opened = chosen_families(opened, families)
    oracle = check_suspect(opened, suspect, **options)
    asks = sum(len(each.queries) for each in (*opened.families.values(), *opened.reserves.values()))
    count = PICTURES if oracle.block is None else max(PICTURES, asks)
    pictures = _pictures(data or opened.claim.body.data, opened.draw, count)
    alone = case.check_drawn(opened.draw)
    told = [*filter(None, (alone, "" if victim is not None else PICKED)), CHOSEN]
    if opened.claim.victim in digests_of(oracle):
        told.append("the suspect's weights are the victim's own, to the byte")
    if victim is not None:
        opened = made_again(opened, victim, **shared(options))
    if oracle.block is not None:
        if record is None:
            raise UsageError("an endpoint's answers are kept, so that they can't change later: give --record FILE")
        oracle = Recorded(oracle, record, purpose=opened.opening.digest, rule="claim", replay=replay)
    try:
        if isinstance(oracle, Recorded):
            _ask_together(opened, oracle, pictures)
            told.append(
                "the suspect was asked in one block among as many pictures of the judge's, and answers were kept"
                + (f"; asked in reserve, and not judged: {', '.join(opened.reserves)}" if opened.reserves else "")
            )
        accuracy, matches = examine(opened.families, oracle, pictures)
        if isinstance(oracle, Recorded):
            oracle.finish()
    finally:
        if isinstance(oracle, Recorded):
            oracle.close()
    _check_knows(oracle, accuracy, opened.claim.body.classes, len(pictures))
    kinds, models = _measured(opened, oracle, strata, pictures, progress)
    tries = case.tries_of(opened)
    if tries > case.tries * opened.draw.tries:
        told.append(
            "other families are judged than the first that the claim has of each kind, so p is multiplied by the "
            "number of pairs to choose from"
        )
    found = ranked(matches, accuracy, kinds, tries=tries)
    alpha = case.alpha_of(opened)
    return Judgment(
        opening=opened.opening.digest,
        suspect=oracle.name[:4000],
        suspect_digest=opened.opening.body.suspect,
        date=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        accuracy=accuracy,
        matches=matches,
        lineup={},
        strata=[Stratum(recipe=name, models=models[name], void=_why_void(name, found)) for name in kinds],
        relation="derived" if found.refuted(alpha) else "inconclusive",
        priority=case.priority,
        counterpart=case.counterpart,
        p_value=found.p_value,
        p_value_floor=found.floor,
        alpha=alpha,
        tries=tries,
        grade="D" if victim is None or alone else "C",
        caveats=[*told, *_caveats(opened, found, case), *case.caveats],
    )


def examine(families: Mapping[str, Fingerprint], oracle: Oracle, pictures: Dataset) -> tuple[float, dict[str, float]]:
    """Accuracy on the judge's pictures, and similarity to each opened family."""
    known = next(iter(families.values()))
    right = (ordered(SCHEMES.make(known.scheme), known, oracle).labels(pictures.inputs()) == pictures.labels).double()
    found: dict[str, float] = {}
    for name, fingerprint in families.items():
        scheme = SCHEMES.make(fingerprint.scheme)
        found[name] = scheme.observe(fingerprint, ordered(scheme, fingerprint, oracle)).similarity
    return float(right.mean()), found


def _pictures(data: str, draw: Draw, count: int) -> Dataset:
    held_out = SOURCES.make(data).load("test")
    seed = numbers_below(draw.seed, "pictures", data, count=1, choices=SEEDS)[0]
    return held_out.subset(torch.randperm(len(held_out), generator=torch.Generator().manual_seed(seed))[:count])


def _ask_together(opened: OpenedClaim, suspect: Recorded, pictures: Dataset) -> None:
    """One block, in an order from the draw, so that what was opened does not stand out by when it is asked."""
    parts = (*opened.families.values(), *opened.reserves.values())
    inputs = [each.queries.inputs for each in parts if each.inputs_each == 1]
    block = torch.cat([*inputs, pictures.inputs()]) if inputs else pictures.inputs()
    seed = numbers_below(opened.draw.seed, "order", "", count=1, choices=SEEDS)[0]
    suspect.answers(block[torch.randperm(len(block), generator=torch.Generator().manual_seed(seed))])


def _check_knows(oracle: Oracle, accuracy: float, classes: int, count: int) -> None:
    """Whoever is right by chance alone answers another question than was asked."""
    chance = 1 / max(classes, 1)
    if accuracy <= chance + 3 * (chance * (1 - chance) / count) ** 0.5:
        raise UsageError(
            f"{oracle.name} is right on {accuracy:.2f} of the judge's pictures, which is chance: say how it takes "
            "inputs and in which order its labels stand (--set class_names=...), or it can't be judged"
        )


def _measured(
    opened: OpenedClaim,
    suspect: Oracle,
    strata: Mapping[str, Mapping[str, Oracle]],
    pictures: Dataset,
    progress: Callable[[], None],
) -> tuple[dict[str, Kind], dict[str, list[JudgedModel]]]:
    kinds: dict[str, Kind] = {}
    models: dict[str, list[JudgedModel]] = {}
    seen: dict[str, str] = dict.fromkeys(digests_of(suspect), "the suspect") | {opened.claim.victim: "the victim"}
    for kind, of in strata.items():
        found: list[JudgedModel] = []
        for name, model in of.items():
            if twice := next((seen[each] for each in digests_of(model) if each in seen), None):
                raise UsageError(f"{name} has the weights of {twice}; a null holds other models, each once")
            seen |= dict.fromkeys(digests_of(model), name)
            accuracy, matches = examine(opened.families, model, pictures)
            found.append(JudgedModel(digest=digests_of(model)[0], accuracy=accuracy, matches=matches))
            progress()
        similarities = {family: tuple(each.matches[family] for each in found) for family in opened.families}
        kinds[kind] = Kind(tuple(each.accuracy for each in found), similarities)
        models[kind] = found
    return kinds, models


def _why_void(name: str, found: Ranked) -> str:
    if name not in found.void:
        return ""
    return f"its models are right less often than the suspect by more than {SHORT:g}, so that any good model stands out"


def _caveats(opened: OpenedClaim, found: Ranked, case: Case) -> list[str]:
    told = [
        "the error rate holds for a suspect that is like the models of one of these kinds; for a kind that is missing "
        "nothing is known"
    ]
    if found.void:
        told.append(f"void, and counted nowhere: {', '.join(found.void)}; train models as good as the suspect")
    if found.floor > case.alpha_of(opened):
        told.append("too few models were trained for anything to be called derived")
    if opened.draw.withheld:
        told.append(f"{' and '.join(opened.draw.withheld)} withheld a nonce, so p is doubled for each")
    told += [*filter(None, (case.loose(opened), direction(opened, case)))]
    return told if case.priority == "shown" else [*told, unproven(case), CHOSEN_VICTIM]
