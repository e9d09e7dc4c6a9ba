"""The page of one answer to "is it exactly that model?": what changed, what that bounds, and what it can't show."""

from __future__ import annotations

from typing import Final

from markupsafe import Markup

from whorl.detection.integrity import Integrity
from whorl.metrics import clopper_pearson
from whorl.report.pages import render
from whorl.report.strips import interval_bar

__all__ = ["integrity_page"]

SAYINGS: Final = {
    "changed": "At least one answer differs beyond what batch sizes, threads and exports do by themselves: this is not "
    "exactly the fingerprinted model.",
    "no change shown": "No answer differs. That bounds how often others do; it shows no model to be unchanged.",
}


def integrity_page(answer: Integrity) -> str:
    """One file of HTML: the decision, the rate of changed answers with its interval, caveats, and the record."""
    figure = Markup("")
    if answer.drawn:
        share = answer.drawn_changed / answer.drawn
        low = clopper_pearson(answer.drawn_changed, answer.drawn, confidence=1 - 2 * answer.alpha).low
        figure = interval_bar(share, low, answer.upper, key="rate", confidence=1 - 2 * answer.alpha)
    return render("integrity.html.j2", answer=answer, saying=SAYINGS[answer.decision], figure=figure)
