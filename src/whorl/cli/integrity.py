"""How the answer to "is it exactly that model?" is told."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from whorl.cli.console import foreign, out, say

__all__ = ["show_integrity"]


def show_integrity(document: Mapping[str, Any], quiet: bool) -> None:
    """The answer on stdout, with the bound that it carries; what it does not say on stderr."""
    changed = document["decision"] == "changed"
    colour = "bold red" if changed else "bold yellow"
    out.print(f"[{colour}]{document['decision'].upper()}[/]  {foreign(document['suspect'])}", highlight=False)
    out.print(f"answers  {document['changed']} of {document['asked']} changed", highlight=False)
    if document["drawn"]:
        out.print(
            f"bound    {document['drawn_changed']} of {document['drawn']} drawn inputs changed: at most "
            f"{document['upper']:.2%} of such inputs are answered otherwise, at {1 - document['alpha']:.0%} confidence",
            highlight=False,
        )
        out.print(f"drawn    {foreign(document['distribution'])}", highlight=False)
    out.print(f"counted  {foreign(document['counted'])}", highlight=False)
    if not quiet:
        for caveat in document["caveats"]:
            say(f"- {caveat}")
