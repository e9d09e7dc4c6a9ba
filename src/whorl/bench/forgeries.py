"""Ambiguity attacks: what an accuser gets who forges a mark for a model that is not his.

Source: Craver, Memon, Yeo, Yeung, *Can invisible watermarks resolve rightful ownerships?*, 1996 (ambiguity); Adi et
al., USENIX Security 2018 (forged triggers). The suspect is a stranger's model, which holds no mark. The accuser may

- choose labels or bits after he saw the suspect's answers, and show a real draw for others beside them;
- play both parties of many draws, and show the one that suits;
- draw with the judge, many times, and count them, as a log does;
- draw with the judge once: no cheat at all, which says what the same file is worth when it is honest.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Final

import torch
from torch import Tensor

from whorl.attest.draw import Draw, commitment
from whorl.bench.mark_figures import Forgery
from whorl.marks.base import DRAWN_AS, Watermark, commitment_of
from whorl.oracles.base import Oracle
from whorl.schemes.session import Session
from whorl.types import Fingerprint, Mark, Rule

__all__ = ["TRIES", "forged"]

TRIES: Final = 200


def forged(mark: Watermark, fingerprint: Fingerprint, suspect: Oracle) -> list[Forgery]:
    """Every attempt of this accuser with the inputs of ``fingerprint``, whose labels or bits are replaced."""
    answers = mark.represent(suspect, fingerprint.queries).values
    with_judge = [_draw(fingerprint, b"judge", each) for each in range(TRIES)]
    alone = [_draw(fingerprint, b"owner", each) for each in range(TRIES)]
    attempts = {
        "labels chosen after the suspect answered": (_fitting(fingerprint, answers), with_judge[0], 1),
        "played both parties of 200 draws": (*_best(mark, fingerprint, answers, alone), 1),
        "drew 200 times with the judge": (*_best(mark, fingerprint, answers, with_judge), TRIES),
        "drew once with the judge": (_told(mark, fingerprint, with_judge[0]), with_judge[0], 1),
    }
    return [
        _judged(mark, fingerprint, suspect, attack, drawn, draw, draws)
        for attack, (drawn, draw, draws) in attempts.items()
    ]


def _draw(fingerprint: Fingerprint, judged_by: bytes, number: int) -> Draw:
    """A whole draw: the judge's number is his own, or one that the accuser made up."""
    purpose = commitment_of(fingerprint)
    owner = hashlib.sha256(b"owner %d" % number).digest()
    judge = _number(judged_by, number)
    return Draw(
        purpose,
        (
            ("judge", "commits", commitment("judge", purpose, judge)),
            ("owner", "commits", commitment("owner", purpose, owner)),
            ("owner", "reveals", owner.hex()),
            ("judge", "reveals", judge.hex()),
        ),
    )


def _number(judged_by: bytes, number: int) -> bytes:
    return hashlib.sha256(judged_by + b" as judge %d" % number).digest()


def _told(mark: Watermark, fingerprint: Fingerprint, draw: Draw) -> Tensor:
    count, choices = len(fingerprint.queries), mark.choices(fingerprint.queries, fingerprint.classes)
    bits = mark.kind == "bits"
    return torch.tensor(draw.bits(count, DRAWN_AS) if bits else draw.labels(count, choices, DRAWN_AS))


def _best(mark: Watermark, fingerprint: Fingerprint, answers: Tensor, draws: list[Draw]) -> tuple[Tensor, Draw]:
    """The draw of most matches."""

    def matches(draw: Draw) -> int:
        wanted = mark.reference(fingerprint.queries, _told(mark, fingerprint, draw)).values
        return int((wanted == answers).sum())

    best = max(draws, key=matches)
    return _told(mark, fingerprint, best), best


def _fitting(fingerprint: Fingerprint, answers: Tensor) -> Tensor:
    """What would have been drawn, had the suspect's answers been drawn; 0 where they can't have been."""
    avoid = fingerprint.queries.companions.get("avoid")
    if avoid is None:
        return answers
    return torch.where(answers == avoid, 0, answers - (answers > avoid).long())


def _judged(
    mark: Watermark, fingerprint: Fingerprint, suspect: Oracle, attack: str, drawn: Tensor, draw: Draw, draws: int
) -> Forgery:
    made = replace(
        fingerprint,
        reference=mark.reference(fingerprint.queries, drawn),
        mark=Mark(mark.kind, fingerprint.queries.inputs[:0], drawn, {"draws": draws, "transcript": draw.document()}),
    )
    # The judge knows the numbers that he gave; a draw that the accuser made up holds none of them.
    own = {_number(b"judge", each).hex() for each in range(TRIES)}
    given = draw.events[-1][2] if draw.events[-1][2] in own else min(own)
    verdict = Session(mark, made, suspect, Rule(alpha=1e-300, nonce=given)).measure()[1]
    exact = bool(verdict.null["design"]["exact"])
    return Forgery(
        attack=attack,
        similarity=verdict.similarity,
        p_value=verdict.p_value,
        grade=verdict.grade.value,
        exact=exact,
    )
