"""The page of a suspect beside a folder: the decision, and the candidates that were compared in full."""

from __future__ import annotations

import math
from typing import Final

from markupsafe import Markup

from whorl.printable import counted
from whorl.report.svg import element
from whorl.report.tree import facts, page, section
from whorl.report.words import p_value, plain
from whorl.weights.family.parents import CAVEATS, Candidate, Parentage

__all__ = ["parents_page"]

SAYINGS: Final = {
    "related": "The suspect was made from a net of this folder, or both from a common ancestor.",
    "part reused": "A part of the suspect goes back to a net of this folder; most layers that were read do not.",
    "inconclusive": "Nothing speaks against training that owes this folder nothing. That is not evidence for it.",
}
UNTESTED: Final = "Nothing could be tested: no part of the suspect and of any net here admits a test."
HEADINGS: Final = ("candidate", "decision", "p-value", "distance", "came first", "what happened", "SHA-256 of tensors")


def parents_page(found: Parentage) -> str:
    """One file of HTML. P-values are corrected for all nets of the folder."""
    tested = found.tested or found.decision != "inconclusive"
    title = f"Parents of {plain(found.suspect.name)} in {plain(found.folder)}"
    sizes = f"{counted(len(found.members), 'net')}, {len(found.candidates)} compared in full"
    return page(
        title,
        element("h1", title),
        element("p", f"{found.decision}. {SAYINGS[found.decision] if tested else UNTESTED}"),
        element("p", f"{sizes}, alpha {found.alpha:g} for all nets together."),
        *([element("p", f"The suspect lies in the folder, as {plain(found.inside)}.")] if found.inside else []),
        _table(found),
        *section("Not read", [f"{plain(name)}: {plain(why, 400)}" for name, why in found.skipped.items()]),
        *section("Not compared", [f"{plain(name)}: {plain(why, 400)}" for name, why in found.failed.items()]),
        *section("How to read this", CAVEATS),
        *facts(found.made, [found.suspect]),
    )


def _table(found: Parentage) -> Markup:
    head = element("tr", *(element("th", each) for each in HEADINGS))
    return element("table", head, *(_row(each) for each in found.candidates))


def _row(each: Candidate) -> Markup:
    first = each.first + (", estimated" if each.estimated and each.first != "undetermined" else "")
    share = [] if each.share is None else [f"{each.share:.0%} of a merge"]
    happened = ", ".join([*share, *(told.partition(":")[0] for told in each.evidence)])
    number = p_value(math.exp(each.log_p)) if each.tested else "not tested"
    told = (plain(each.name, 60), each.decision, number, f"{each.distance:.3f}", first, plain(happened, 120))
    return element("tr", *(element("td", cell) for cell in (*told, each.sha256)))
