"""What is fixed before a lineup's first answer, and what was measured of its candidates: the settings in its file."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from whorl.errors import InvalidFile
from whorl.fingerprints.parts import Document, Finite, Name, Text
from whorl.storage import canonical_json
from whorl.types import Candidates, Task

__all__ = ["Terms", "terms_of"]

Seeds = Literal["secret", "small", "unknown"]
Count = Annotated[int, Field(ge=0, le=1_000_000)]


class Terms(Document):
    """The terms of a lineup.

    ``labels`` and ``scores`` name the statistic for suspects that give labels, and for those that give more;
    ``margin`` (nats) and ``agreements`` the lead that ends the race, None to ask everything; ``alpha`` the accepted
    chance of naming the victim wrongly.

    ``figures`` holds accuracy, agreement, confidence and loss of every candidate, in their order; ``strangers`` whom
    each known stranger named, -1 where several led; ``copies`` by removal how many known copies named the victim, and
    of how many. ``seeds`` says whether a stranger might share the victim's randomness, ``hypothesis`` what a narrower
    lineup tests, ``reasons`` by figure why a victim that it sets apart may stand among its twins, ``turned`` in how
    many lineups that were made before a candidate stood in another role. ``by`` names a scheme with all its settings
    where each candidate has a fingerprint of its own; likeness to it is the statistic then.
    """

    labels: Literal["mixture", "agreement"] = "mixture"
    scores: Literal["residual", "levelled", "mixture", "agreement"] = "residual"
    margin: Annotated[float, Field(gt=0)] | None = 8.0
    agreements: Annotated[float, Field(gt=0)] | None = 24.0
    alpha: Annotated[float, Field(gt=0, lt=1)] = 0.05
    figures: Annotated[dict[Name, tuple[Finite, ...]], Field(max_length=20)] = Field(default_factory=dict)
    strangers: Annotated[dict[Text, Annotated[int, Field(ge=-1, lt=10_000)]], Field(max_length=10_000)] = Field(
        default_factory=dict
    )
    copies: Annotated[dict[Text, tuple[Count, Count]], Field(max_length=1000)] = Field(default_factory=dict)
    seeds: Seeds = "unknown"
    hypothesis: Text = ""
    reasons: Annotated[dict[Name, Text], Field(max_length=20)] = Field(default_factory=dict)
    turned: Count = 0
    by: Text = ""

    def document(self) -> dict[str, Any]:
        """As JSON values."""
        return self.model_dump(mode="json")


def terms_of(candidates: Candidates, task: Task) -> Terms:
    """The terms of a lineup from a file. Raises `InvalidFile` where they, or the answers, are none.

    Whether fingerprints of candidates are what their scheme declares is seen by `whorl.schemes.opening`.
    """
    try:
        terms = Terms.model_validate_json(canonical_json(dict(candidates.settings)))
    except ValidationError as error:
        first = error.errors()[0]
        raise InvalidFile(f"the lineup's settings are damaged: {first['loc']}: {first['msg']}") from None
    count, answers = len(candidates.digests), candidates.answers
    if unequal := [name for name, values in terms.figures.items() if len(values) != count]:
        raise InvalidFile(f"the lineup has {count} candidates, and its figure {unequal[0]!r} another number")
    if unknown := sorted(terms.reasons.keys() - terms.figures.keys()):
        raise InvalidFile(f"the lineup holds a reason for {unknown[0]!r}, which is none of its figures")
    if any(place >= count for place in terms.strangers.values()):
        raise InvalidFile(f"the lineup has {count} candidates, and a stranger named one beyond them")
    if any(caught > copies for caught, copies in terms.copies.values()):
        raise InvalidFile("the lineup says of a removal that more copies were caught than were made")
    chances = task == "classification" and answers.ndim == 3 and not terms.by
    if chances and not (float(answers.min()) >= 0 and float((answers.sum(2) - 1).abs().max()) <= 1e-3):
        raise InvalidFile("the lineup's answers are no probabilities")
    return terms
