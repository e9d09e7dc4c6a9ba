"""The judge's lineup: the victim is trained anew from the disclosed recipe, and twins beside it.

No model like the suspect is needed. What the accuser could do is to call somebody else's model his victim: made by
tuning or extracting the suspect, and shown beside honest twins of an honest-looking recipe. So the judge repeats the
victim's own training, which has to give the committed weights, and the claim's time-stamp has to be older than the
suspect.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import torch

from whorl import ownership, populations
from whorl.claims.case import Case, direction
from whorl.claims.documents import Disclosed, Judgment
from whorl.claims.fetched import check_fetched
from whorl.claims.opening import OpenedClaim
from whorl.detection.judgment import MOST_MODELS, models_needed
from whorl.engine.stages import Progress
from whorl.engine.workers import Workers
from whorl.errors import UsageError
from whorl.lineups.session import hold
from whorl.oracles.base import Oracle
from whorl.oracles.wrappers import digests_of
from whorl.spaces import named_space
from whorl.suspects import asked, one_of
from whorl.types import Fingerprint, Queries, Representation, Rule
from whorl.zoo.cache import Zoo
from whorl.zoo.recipe import parse_recipe

__all__ = ["TRAINED", "check_lineup", "judge_lineup"]

TRAINED: Final = (
    "the judge repeated the victim's training, which gave the committed weights, and trained its twins with seeds from "
    "the draw"
)
PICTURES: Final = re.compile(r"pictures \[([1-9]\d{0,6}), ([1-9]\d{0,6}), ([1-9]\d{0,6})\]")


def judge_lineup(  # noqa: PLR0913 each is an option of `whorl claim check`
    opened: OpenedClaim,
    suspect: Any,
    *,
    case: Case,
    data: str = "",
    twins: int = 19,
    strangers: Mapping[str, Oracle] | None = None,
    size: int = 1000,
    folder: Path | None = None,
    record: Path | None = None,
    workers: Workers = 0,
    progress: Progress = lambda *_: None,
    **options: Any,
) -> Judgment:
    """Train the victim and its twins, and ask whom the suspect resembles most.

    Parameters:
        case: with a time-stamp that is older than the suspect, the judge's number in the draw, and the tries.
        data: pictures of the hub that claim and recipe may name; others are not fetched.
        twins: how many; p can't be below 1 / (twins + 1).
        strangers: models of other kinds that the judge trained (`whorl.claims.judging.train_strata`): the judgment says
            how many of them name the victim too.
        folder: cache of trained models.

    Raises:
        UsageError: no recipe was disclosed, no stamp predates the suspect, the suspect is another or does another task
            (all of this before anything is trained), or the recipe gives other weights than the claim's.
    """
    told = check_lineup(opened, suspect, case=case, twins=twins, data=data, **options)
    alone = case.check_drawn(opened.draw)
    alpha, tries = case.alpha_of(opened), case.tries * opened.draw.tries
    victim = _trained_anew(opened, told, folder, options.get("trust_code", False))
    seeds = [_seed(opened.draw.seed, number) for number in range(twins)]
    made = populations.twins(
        told.recipe,
        seeds,
        folder=folder,
        workers=workers,
        trust_code=options.get("trust_code", False),
        progress=progress,
    )
    pictures = opened.claim.body.data
    known = ownership.extract(victim, data=pictures, scheme="random", budget=1)
    lined, secret = ownership.line_up(
        known,
        victim,
        made,
        data=pictures,
        size=size,
        alpha=alpha,
        recipe=told.recipe,
        victim_seed=int(told.seed),
        strangers=strangers,
    )
    oracle = one_of(lined, suspect, **options)
    if opened.opening.body.suspect not in digests_of(oracle):
        raise UsageError(f"the draw was made for another suspect than {oracle.name}; draw anew for this one")
    by = Rule(alpha=alpha, lineup=True)
    with asked([lined], oracle, by, {}, record=record, replay=False, cache=folder) as answering:
        found = hold(lined, answering, by, secret=secret, origin="judge")
    p_value, floor = min(1.0, tries * found.p_value), min(1.0, tries * found.p_value_floor)
    derived = found.decision == "derived" and p_value <= alpha
    caveats = list(found.caveats)
    if found.decision == "derived" and not derived:
        caveats.append(f"after {tries} tries the lineup's p-value is no longer at or below {alpha:g}")
    return Judgment(
        opening=opened.opening.digest,
        suspect=oracle.name[:4000],
        suspect_digest=opened.opening.body.suspect,
        date=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        accuracy=None,
        matches={},
        strata=[],
        lineup=dict(found.lineup),
        relation="derived" if derived else "inconclusive",
        priority=case.priority,
        counterpart=case.counterpart,
        p_value=p_value,
        p_value_floor=floor,
        alpha=alpha,
        tries=tries,
        grade="D" if alone else "C",
        caveats=[
            *filter(None, (alone,)),
            TRAINED,
            *caveats,
            *filter(None, (case.loose(opened), direction(opened, case))),
            *case.caveats,
        ],
    )


def check_lineup(
    opened: OpenedClaim, suspect: Any, *, case: Case, twins: int, data: str = "", **options: Any
) -> Disclosed:
    """Refuse what can be refused before anything is trained, as `judge_lineup`. Returns what the owner disclosed."""
    told = opened.disclosed
    if told is None:
        raise UsageError("the owner disclosed no recipe: ask for an opening with --lineup")
    case.check_drawn(opened.draw)
    for expression in (opened.claim.body.data, told.recipe):
        check_fetched(expression, data)
    if case.since is None or case.priority == "not shown":
        raise UsageError(
            "a lineup before a judge needs a time-stamp of the claim that is older than the suspect, or whoever copied "
            "the suspect could call the copy his victim: give --stamp with --tsa-root, and --suspect-since"
        )
    alpha = case.alpha_of(opened)
    tries = case.tries * opened.draw.tries
    if not (needed := models_needed(alpha, tries)) <= twins <= MOST_MODELS:
        paid = f" after {tries} tries" if tries > 1 else ""
        whose = "which the claim fixed" if alpha == opened.claim.body.alpha else "your --alpha"
        raise UsageError(
            f"with {twins:,} twins nothing can be called derived{paid} at {alpha:g}, {whose}: train {needed:,} or "
            f"more, and {MOST_MODELS:,} at most (--twins)"
        )
    _check_suspect(opened, suspect, options)
    return told


def _check_suspect(opened: OpenedClaim, suspect: Any, options: Mapping[str, Any]) -> None:
    """Refuse another suspect than was drawn for, and one of another task, by what the claim says of its victim."""
    body = opened.claim.body
    if (sizes := PICTURES.fullmatch(body.space)) is None:  # of other inputs the claim has no more than words
        return
    space = named_space(f"pictures(size=[{', '.join(sizes.groups())}])")
    known = Fingerprint(
        scheme="random",
        victim=opened.claim.victim,
        queries=Queries(torch.empty(0, *space.shape)),
        reference=Representation(torch.empty(0, dtype=torch.int64)),
        space=space,
        classes=body.classes,
        task=body.task,
    )
    oracle = one_of(known, suspect, **options)
    if opened.opening.body.suspect not in digests_of(oracle):
        raise UsageError(f"the draw was made for another suspect than {oracle.name}; draw anew for this one")
    if (oracle.space, oracle.classes, oracle.task) != (space, body.classes, body.task):
        raise UsageError(
            f"the claim is about {space} of {body.classes} classes ({body.task}); {oracle.name} takes {oracle.space} "
            f"of {oracle.classes} ({oracle.task}): no lineup of its victim can be held before it"
        )


def _trained_anew(opened: OpenedClaim, told: Disclosed, folder: Path | None, trust_code: bool) -> Oracle:
    recipe = parse_recipe(told.recipe, trust_code=trust_code).with_seed(int(told.seed))
    zoo = Zoo(folder)
    zoo.build([recipe])
    victim = zoo.oracle(recipe)
    if opened.claim.victim not in digests_of(victim):
        raise UsageError(
            "the disclosed recipe and seed give other weights than the claim's victim: this victim was not made so, "
            "or on another kind of processor, whose sums differ; without its training nothing shows that it was not "
            "made from the suspect"
        )
    return victim


def _seed(draw: bytes, number: int) -> int:
    """63 bits for a twin, from the draw: nobody chose them."""
    return int.from_bytes(hashlib.sha256(b"whorl/twin/v1" + draw + number.to_bytes(8, "big")).digest()[:8], "big") >> 1
