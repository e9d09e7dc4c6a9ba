"""The page of a judgment: three statements in three boxes, and the models that the judge trained."""

from __future__ import annotations

from typing import Final

from markupsafe import Markup

from whorl.claims.documents import Claim, Judgment, Signed
from whorl.claims.judging import made_from
from whorl.report.dots import Row, dot_plot, merged
from whorl.report.lineup import lineup_of, totals_figure
from whorl.report.pages import render
from whorl.report.svg import Caption
from whorl.report.words import plain, rate

__all__ = ["judgment_page"]

RELATION: Final = {
    "derived": "The suspect is not independent of the victim. That is as true of the victim seen from the suspect.",
    "inconclusive": "Nothing refutes that the suspect is independent of the victim. That is not evidence for it.",
}
PRIORITY: Final = {
    "shown": "A time-stamp proves that the claim existed before the suspect is known to have.",
    "not shown": "No time-stamp of the claim was shown that is older than the suspect.",
}
COUNTERPART: Final = {
    "none shown": "The other side showed nothing that is older.",
    "earlier": "The other side showed something older: related, and in the other direction.",
    "undecided": "The dates of both sides lie too near to each other: direction unknown.",
}


def judgment_page(found: Judgment, claim: Signed[Claim]) -> str:
    """One file of HTML."""
    return render(
        "judgment.html.j2",
        found=found,
        claim=claim,
        whole=made_from(found),
        sayings=(RELATION[found.relation], PRIORITY[found.priority], COUNTERPART[found.counterpart]),
        figures=_figures(found),
    )


def _figures(found: Judgment) -> list[Markup]:
    if (lineup := lineup_of(found.lineup)) is not None:
        return [totals_figure(lineup)]
    return [_family(found, name, value) for name, value in found.matches.items()]


def _family(found: Judgment, name: str, value: float) -> Markup:
    """The suspect above the models of each kind, in one opened family."""
    rows = [Row("the suspect", "suspect", merged([(value, "the suspect", False)]), note=rate(value))]
    for number, stratum in enumerate(found.strata, 1):
        values = [(model.matches[name], f"model {place}", False) for place, model in enumerate(stratum.models, 1)]
        rows.append(Row(f"kind {number}{', void' if stratum.void else ''}", "null", merged(values)))
    told = f"The suspect matches the victim on {rate(value)} of the opened queries of {plain(name)}."
    return dot_plot(rows, Caption(f"Similarity in the family {plain(name)}", told, f"family-{plain(name)}"))
