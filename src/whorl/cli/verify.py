"""``whorl verify``: was the suspect made from the victim?"""

from __future__ import annotations

import dataclasses
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from whorl.cli.console import bar, guarded, model_options, print_json, say
from whorl.cli.folders import is_collection, models_in
from whorl.cli.integrity import show_integrity
from whorl.cli.options import (
    Architecture,
    Cache,
    Classes,
    Json,
    Quiet,
    Set,
    Shape,
    TrustCode,
    TrustHost,
    Wide,
    file_to_write,
)
from whorl.cli.verdicts_shown import show_verdict, show_verdicts
from whorl.errors import UsageError
from whorl.types import Combination, Verdict

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from whorl.detection.integrity import Integrity
    from whorl.types import Fingerprint

__all__ = ["verify"]


class FailOn(StrEnum):
    """Decisions that may turn into an exit code."""

    derived = "derived"
    inconclusive = "inconclusive"
    changed = "changed"


class Ruling(StrEnum):
    """How a suspect may be judged."""

    lineup = "lineup"
    population = "population"
    both = "both"


CODES = {FailOn.derived: 3, FailOn.changed: 3, FailOn.inconclusive: 4}


@guarded
def verify(
    fingerprints: Annotated[list[Path], typer.Argument(help="A calibrated fingerprint, or several of one victim.")],
    suspect: Annotated[
        str, typer.Argument(help="The suspect: a file, a folder with model.toml or of several models, or an address.")
    ],
    rule: Annotated[
        Ruling | None,
        typer.Option(
            help="Line up victim and twins, rank the suspect among the null, or let both count at half of alpha each. "
            "[the lineup, where there is one]"
        ),
    ] = None,
    also: Annotated[
        list[str] | None,
        typer.Option(help="Another suspect, or a folder of them; all share alpha. Repeatable."),
    ] = None,
    match_labels: Annotated[
        bool,
        typer.Option(
            "--match-labels",
            help="In a lineup, let each candidate read the suspect's classes in the order that agrees best; all is "
            "asked then.",
        ),
    ] = False,
    secret: Annotated[
        Path | None, typer.Option(help="What opens a lineup. [FINGERPRINT.secret; without it the lineup stays sealed]")
    ] = None,
    alpha: Annotated[
        float | None,
        typer.Option(
            help="Accepted chance of calling an independent model derived. [.01; a lineup's own; of marks 1e-6] Of an "
            "integrity check, the chance that its bound fails. [.05]"
        ),
    ] = None,
    nonce: Annotated[
        Path | None, typer.Option(help="Your own number of the draw that gave a mark its labels (whorl claim draw).")
    ] = None,
    align_to: Annotated[
        str | None,
        typer.Option(
            help="Of bits in weights: your model as it was before whorl mark. Puts units that were reordered or "
            "rescaled back in its order."
        ),
    ] = None,
    budget: Annotated[int | None, typer.Option(help="Most queries to ask. [all of the fingerprint]")] = None,
    group: Annotated[
        str, typer.Option(help="The suspect's kind, where you know it: one of the null's groups. [every group counts]")
    ] = "",
    access: Annotated[str | None, typer.Option(help="Use no more than this access, as in labels.")] = None,
    record: Annotated[
        Path | None,
        typer.Option(
            help="Keep answers here, to go on where it was stopped. [cache, for addresses]", callback=file_to_write
        ),
    ] = None,
    replay: Annotated[
        bool, typer.Option("--replay", help="Take the recorded answers of the last finished verification.")
    ] = False,
    report: Annotated[
        Path | None, typer.Option(help="Also write the verdict as an HTML page.", callback=file_to_write)
    ] = None,
    pictures: Annotated[
        bool, typer.Option("--pictures", help="Draw the first queries on the page; they are secret.")
    ] = False,
    fail_on: Annotated[
        FailOn | None, typer.Option(help="Exit with 3 on derived or changed, with 4 on inconclusive.")
    ] = None,
    architecture: Architecture = None,
    classes: Classes = None,
    shape: Shape = None,
    settings: Set = None,
    trust_code: TrustCode = False,
    trust_host: TrustHost = None,
    cache: Cache = None,
    wide: Wide = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Ask the suspect, in random order and no longer than needed, and give a verdict with its error rate.

    Several fingerprints of one victim share alpha: each is tested at alpha / m, and one verdict holds for all. So do
    several suspects (--also, or a folder of models), each with a verdict of its own.

    Example: whorl verify mine.fp suspect.onnx --set output=logits --json

    By a fingerprint of sensitive samples the answer is "changed" or "no change shown", with a bound on the rate:

    whorl verify integrity.fp https://the.service/v1 --fail-on changed
    """
    from whorl import ownership, several
    from whorl.schemes.opening import read_fingerprint
    from whorl.suspects import opened_for, order_for, tells_changes

    known = [read_fingerprint(path) for path in fingerprints]
    if pictures and report is None:
        raise UsageError("--pictures draws queries on a page: give --report PAGE.html too")
    if pictures and any(tells_changes(each) for each in known):
        raise UsageError("the page of an integrity check has no pictures: leave --pictures out")
    options = {"trust_code": trust_code, "trust_hosts": trust_host or (), "access": access}
    options |= model_options(architecture, classes, shape, settings)
    suspects, skipped = _suspects([suspect, *(also or [])], known[0], options)
    _refuse(len(known), len(suspects), rule, record=record, group=group, budget=budget, match_labels=match_labels)
    _refuse_order(align_to, len(known), rule)
    for path, reason in {} if quiet else skipped.items():
        say(f"skipped, no suspect: {path}: {reason}")
    order = order_for(known[0], align_to, **options)  # described as the suspect is, which may be open already below
    oracle = None if suspects else opened_for(known[0], suspect, **options)
    most = _most(known, rule, budget) * max(len(suspects), 1)
    number = _own_number(nonce, known, suspects)
    with bar(quiet) as told:
        asked = 0

        def progress(count: int) -> None:
            nonlocal asked
            asked += count
            told("queries", asked, most)

        common: dict[str, Any] = {"alpha": alpha, "replay": replay, "cache": cache, "progress": progress}
        lined_up = {"secret": secret, "match_labels": match_labels}
        limits: dict[str, Any] = {"rule": None if rule is None else rule.value, "budget": budget}
        limits["align_to"] = order
        if suspects:
            verdict = several.verify_suspects(fingerprints[0], suspects, **limits, **lined_up, **common, **options)
        elif len(known) > 1:
            common["alpha"] = 0.01 if alpha is None else alpha
            verdict = several.verify_all(fingerprints, oracle, record=record, **common)
        elif rule is Ruling.both:
            verdict = several.verify_both(fingerprints[0], oracle, record=record, secret=secret, **common)
        else:
            verdict = ownership.verify(
                fingerprints[0], oracle, record=record, group=group, nonce=number, **limits, **lined_up, **common
            )
    document = dataclasses.asdict(verdict) | ({"skipped": skipped} if suspects else {})
    _tell(document, as_json, wide, quiet)
    if report is not None:
        # After the verdict, which a page that can't be written must not cost.
        _write_page(report, verdict, known[0], pictures, quiet)
    if fail_on is not None and verdict.decision == fail_on.value:
        raise typer.Exit(CODES[fail_on])


def _own_number(nonce: Path | None, known: Sequence[Fingerprint], suspects: Mapping[str, Any]) -> str:
    """The judge's own number of a draw, in hexadecimal, or nothing."""
    from whorl.claims.drawing import kept_nonce

    if nonce is None:
        return ""
    if len(known) > 1 or suspects or known[0].mark is None:
        raise UsageError("--nonce is your number of the draw of one mark, which one suspect is held against: try these")
    return kept_nonce(nonce).hex()


def _tell(document: dict[str, Any], as_json: bool, wide: bool, quiet: bool) -> None:
    if as_json:
        print_json(document)
    elif "drawn" in document:
        show_integrity(document, quiet)
    elif "verdicts" in document:
        show_verdicts(document, wide, quiet)
    else:
        show_verdict(document, quiet)


def _write_page(
    path: Path, verdict: Verdict | Combination | Integrity, known: Fingerprint, pictures: bool, quiet: bool
) -> None:
    from whorl.report.integrity import integrity_page
    from whorl.report.pages import combination_page, verdict_page
    from whorl.storage import write_whole

    if isinstance(verdict, Verdict):
        page = verdict_page(verdict, fingerprint=known, pictures=pictures)
    else:
        page = combination_page(verdict) if isinstance(verdict, Combination) else integrity_page(verdict)
    write_whole(path, page)
    if not quiet:
        say(f"page: {path}")


def _suspects(
    given: Sequence[str], known: Fingerprint, options: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, str]]:
    """Several suspects by name, and why files of a folder are none; nothing where one model is given.

    Who is named alone is opened when its turn comes: one that can't be is listed and counts, as each was named.
    """
    from whorl.suspects import one_of

    if len(given) == 1 and not is_collection(Path(given[0])):
        return {}, {}
    suspects: dict[str, Any] = {}
    skipped: dict[str, str] = {}
    for each in given:
        found, left = ({each: each}, {})
        if is_collection(Path(each)):
            found, left = models_in([each], lambda path: one_of(known, path, **options))
        suspects |= found
        skipped |= left
    return suspects, skipped


def _most(known: Sequence[Fingerprint], rule: Ruling | None, budget: int | None) -> int:
    """How many questions one suspect may be asked."""
    lineup = known[0].candidates if len(known) == 1 and rule is not Ruling.population else None
    queries = sum(len(each.queries) for each in known)
    size = queries if lineup is None else len(lineup.inputs) + (queries if rule is Ruling.both else 0)
    return size if budget is None else min(budget, size)


def _refuse_order(align_to: str | None, fingerprints: int, rule: Ruling | None) -> None:
    if align_to is not None and (fingerprints > 1 or rule is Ruling.both):
        raise UsageError("--align-to reads one mark: give one fingerprint, and leave out --rule both")


def _refuse(
    fingerprints: int,
    suspects: int,
    rule: Ruling | None,
    *,
    record: Path | None,
    group: str,
    budget: int | None,
    match_labels: bool,
) -> None:
    """Refuse what has no meaning for several fingerprints, suspects or rules, before anything is asked."""
    if suspects and fingerprints > 1:
        raise UsageError("several suspects are held against one fingerprint; give one")
    if suspects and record is not None:
        raise UsageError("--record keeps the answers of one suspect; leave it out, and those of addresses are kept")
    if suspects and rule is Ruling.both:
        raise UsageError("of several suspects one rule decides: give --rule lineup or --rule population")
    if match_labels and rule is Ruling.both:
        raise UsageError("the population rule can't match labels: name the suspect's classes, or give --rule lineup")
    alone = fingerprints == 1 and not suspects and rule is not Ruling.both
    if group and not alone:
        raise UsageError("--group names a group of one null for one suspect; leave it out, or verify them one by one")
    # A budget for several fingerprints or rules would have to be divided before anything is known of the suspect.
    if budget is not None and not (alone or suspects):
        raise UsageError("--budget limits one fingerprint under one rule; leave it out, or verify them one by one")
    if fingerprints > 1 and (rule in (Ruling.lineup, Ruling.both) or match_labels):
        raise UsageError("a lineup is held alone: give one fingerprint")
