"""Exit codes: which there are, and which of them each verb can return. Help states both from here."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import typer

__all__ = ["INTERRUPTED", "MEANINGS", "VERBS", "codes_of", "state", "told"]

INTERRUPTED: Final = 130
MEANINGS: Final = {
    0: "done",
    1: "error",
    2: "usage",
    3: "--fail-on {} met",
    4: "--fail-on inconclusive met",
    5: "query budget exhausted",
    6: "access refused",
    7: "invalid or tampered file",
    INTERRUPTED: "stopped by Ctrl-C",
}
ANY: Final = (0, 1, 2, INTERRUPTED)
FAIL_ON: Final = {
    "verify": "derived or changed",
    "compare": "related",
    "lineage": "related",
    "inspect": "trojaned",
    "claim check": "derived or changed",
    "bench diff": "moved",
    "log verify": "inconsistent",
}
VERBS: Final[dict[str, tuple[int, ...]]] = {
    "demo": (7,),
    "extract": (5, 6, 7),
    "calibrate": (5, 6, 7),
    "twins": (5, 6, 7),
    "mark": (6, 7),
    "verify": (3, 4, 5, 6, 7),
    "compare": (3, 4, 7),
    "lineage": (3, 4, 7),
    "explain": (5, 7),
    "disagree": (5, 7),
    "align": (6, 7),
    "inspect": (3, 4, 6, 7),
    "sift": (6, 7),
    "audit": (5, 6, 7),
    "claim make": (7,),
    "claim stamp": (7,),
    "claim draw": (7,),
    "claim open": (7,),
    "claim check": (3, 4, 5, 6, 7),
    "claim revoke": (7,),
    "codes make": (6, 7),
    "codes draw": (7,),
    "codes copy": (6, 7),
    "trace": (6, 7),
    "claim witness": (7,),
    "schemes": (),
    "marks": (),
    "removals": (),
    "inspections": (),
    "zoo build": (6, 7),
    "zoo list": (7,),
    "zoo card": (7,),
    "zoo export": (7,),
    "bench list": (),
    "bench run": (6, 7),
    "bench grid": (6, 7),
    "bench quality": (6, 7),
    "bench show": (7,),
    "bench site": (7,),
    "bench validate": (),
    "bench diff": (3, 7),
    "bench export": (7,),
    "guard": (6, 7),
    "log make": (),
    "log verify": (3, 7),
    "lock": (7,),
    "unlock": (7,),
    "report": (7,),
    "doctor": (),
}
"""What a verb can return beside what any can."""


def codes_of(verb: str) -> tuple[int, ...]:
    """Every code that a verb can return, in order; the verb of a group comes after the group, as in ``zoo build``."""
    return tuple(sorted({*ANY, *VERBS[verb]}))


def told(codes: Iterable[int], met: str) -> str:
    """The codes with their meanings on one line; ``met`` is what a verb's --fail-on may wait for."""
    return "Exit codes: " + "; ".join(f"{code} {MEANINGS[code].format(met)}" for code in codes) + "."


def state(app: typer.Typer, group: str = "") -> None:
    """Let the help of every verb of ``app``, and of what is below it, end in the verb's own codes."""
    for command in app.registered_commands:
        name = command.name or getattr(command.callback, "__name__", "")
        verb = f"{group} {name}".lstrip()
        command.epilog = told(codes_of(verb), FAIL_ON.get(verb, ""))
    for below in app.registered_groups:
        if below.typer_instance is not None:
            state(below.typer_instance, below.name or "")
