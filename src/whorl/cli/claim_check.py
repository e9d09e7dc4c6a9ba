"""``whorl claim check``: the judge verifies claim and opening, trains models, asks the suspect, and decides."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from whorl.cli.console import bar, counter, guarded, model_options, out, print_json, say
from whorl.cli.options import (
    Architecture,
    Cache,
    Classes,
    Jobs,
    Json,
    Quiet,
    Set,
    Shape,
    TrustCode,
    TrustHost,
    file_to_write,
)
from whorl.cli.verify import CODES, FailOn
from whorl.errors import UsageError

if TYPE_CHECKING:
    from whorl.attest.keys import PublicKey
    from whorl.attest.stamp import Stamp
    from whorl.claims.documents import Claim, Judgment, Signed
    from whorl.claims.judging import Case
    from whorl.claims.opening import OpenedClaim

__all__ = ["check"]


@guarded
def check(
    claim: Annotated[Path, typer.Argument(help="The claim.")],
    opening: Annotated[Path, typer.Argument(help="The owner's opening, a folder.")],
    suspect: Annotated[str, typer.Argument(help="The suspect that the draw was made for: a file, or an address.")],
    owner_key: Annotated[Path, typer.Option(help="The owner's public key (PEM).")],
    null_recipe: Annotated[
        list[str] | None,
        typer.Option(
            help="Recipe of independent models: the suspect's own as far as it is known, the victim's, another "
            "architecture. Repeatable: p is the largest over all."
        ),
    ] = None,
    count: Annotated[
        int | None, typer.Option(min=1, help="Models of each recipe. [a quarter more than are needed]")
    ] = None,
    twins: Annotated[
        int | None, typer.Option(min=1, help="Instead: a lineup of the victim and so many twins, all trained here.")
    ] = None,
    victim: Annotated[
        str | None, typer.Option(help="The victim's weights, to make the opened queries again. [none: grade D]")
    ] = None,
    nonce: Annotated[
        Path | None, typer.Option(help="Your secret number in the draw: it shows that you took part. [none: grade D]")
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="Pictures on which accuracies are taken. [those of the claim, their test part]")
    ] = None,
    stamp: Annotated[Path | None, typer.Option(help="The claim's time-stamp.")] = None,
    suspect_stamp: Annotated[
        Path | None, typer.Option(help="A time-stamp of the suspect's file, shown by the other side.")
    ] = None,
    tsa_root: Annotated[
        Path | None, typer.Option(help="Root certificates (PEM) of authorities that you trust.")
    ] = None,
    suspect_since: Annotated[
        str | None, typer.Option(help="When the suspect is first known to have existed, as in 2026-05-31.")
    ] = None,
    log: Annotated[Path | None, typer.Option(help="The owner's log: p is multiplied by the claims in it.")] = None,
    suspects: Annotated[int, typer.Option(min=1, help="Suspects that this claim was held against, this one too.")] = 1,
    record: Annotated[Path | None, typer.Option(help="Keeps an endpoint's answers.")] = None,
    key: Annotated[Path | None, typer.Option(help="Your private key (PEM), to sign the judgment with.")] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Where to write the signed judgment.", callback=file_to_write)
    ] = None,
    report: Annotated[
        Path | None, typer.Option(help="Where to write a page of it (HTML).", callback=file_to_write)
    ] = None,
    fail_on: Annotated[FailOn | None, typer.Option(help="Exit with 3 on derived, with 4 on inconclusive.")] = None,
    architecture: Architecture = None,
    classes: Classes = None,
    shape: Shape = None,
    settings: Set = None,
    trust_code: TrustCode = False,
    trust_host: TrustHost = None,
    cache: Cache = None,
    jobs: Jobs = 0,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Judge a suspect by a claim and what was opened of it. Nothing that the owner says of other models counts.

    Example: whorl claim check mine.claim case.opening suspect.safetensors --victim mine.safetensors --nonce judge.nonce
    --owner-key owner.pub --null-recipe 'train(resnet8, digits)' --null-recipe 'train(vgg, digits)'
    """
    from whorl.attest.keys import read_private_key, read_public_key
    from whorl.claims.documents import Claim, read_signed, write_signed
    from whorl.claims.drawing import kept_nonce
    from whorl.claims.judging import judge, train_strata
    from whorl.claims.opening import read_opening
    from whorl.claims.twins import judge_lineup

    if (key is None) != (output is None):
        raise UsageError("a judgment is signed with your key: give --key and --output together")
    if (twins is None) == (not null_recipe):
        raise UsageError("say whom the suspect is ranked among: --null-recipe RECIPE, or --twins N for a lineup")
    private = None if key is None else read_private_key(key)
    keys = [read_public_key(owner_key)]
    known = read_signed(claim, Claim, keys)
    opened = read_opening(opening, known, keys)
    case = replace(
        _case(claim, known, keys, stamp, suspect_stamp, suspect, tsa_root, log, suspects, opened),
        nonce="" if nonce is None else kept_nonce(nonce).hex(),
        since=None if suspect_since is None else _date(suspect_since),
    )
    if twins is not None and case.since is None:
        raise UsageError("a lineup before a judge needs to know since when the suspect exists: --suspect-since DATE")
    options: dict[str, Any] = model_options(architecture, classes, shape, settings)
    options |= {"trust_code": trust_code, "trust_hosts": tuple(trust_host or ())}
    with bar(quiet) as show:
        if twins is not None:
            found = judge_lineup(
                opened,
                suspect,
                case=case,
                twins=twins,
                folder=cache,
                record=record,
                workers=jobs,
                progress=counter(show, "twins", twins),
                **options,
            )
        else:
            strata = train_strata(
                opened,
                null_recipe or (),
                tries=case.tries * opened.draw.tries,
                count=count,
                folder=cache,
                workers=jobs,
                trust_code=trust_code,
                progress=counter(show, "independent models", 0),
            )
            found = judge(opened, suspect, strata, data=data or "", victim=victim, case=case, record=record, **options)
    if private is not None and output is not None:
        write_signed(found, known.victim, private, output)
    if report is not None:
        from whorl.report.judgment import judgment_page

        report.parent.mkdir(parents=True, exist_ok=True)
        report.write_text(judgment_page(found, known), encoding="utf-8")
    if as_json:
        print_json(found.model_dump())
    else:
        _tell(found, quiet)
    if fail_on is not None and found.relation == fail_on.value:
        raise typer.Exit(CODES[fail_on])


def _case(
    claim: Path,
    known: Signed[Claim],
    keys: list[PublicKey],
    stamp: Path | None,
    suspect_stamp: Path | None,
    suspect: str,
    tsa_root: Path | None,
    log: Path | None,
    suspects: int,
    opened: OpenedClaim,
) -> Case:
    from whorl.claims.dates import stamped
    from whorl.claims.judging import Case

    if (stamp or suspect_stamp) and tsa_root is None:
        raise UsageError("a stamp is verified against roots that you trust: give --tsa-root root.pem")
    mine = theirs = None
    if tsa_root is not None:
        mine = None if stamp is None else stamped(claim, stamp, tsa_root)
        theirs = None if suspect_stamp is None else stamped(Path(suspect), suspect_stamp, tsa_root)
    logged, told = 1, ()
    if log is None:
        told = ("no log was shown, so that nobody knows how many claims there were to choose this one from",)
    else:
        logged, spent = _logged(log, known, keys)
        told = (
            f"p is multiplied by {logged}, the claims in the owner's log; the owner keeps it, and may keep another",
        )
        if again := sorted(spent & opened.families.keys()):
            told = (
                *told,
                f"revoked, for they were opened in a dispute: {', '.join(again)}; a suspect that was made since may "
                "have been trained by what was opened, and then it escapes or is framed in these families",
            )
    earlier: tuple[Stamp, ...] = () if theirs is None else (theirs,)
    return Case(tries=logged * suspects, stamp=mine, earlier=earlier, caveats=told)


def _logged(log: Path, known: Signed[Claim], keys: list[PublicKey]) -> tuple[int, set[str]]:
    from whorl.attest.keys import Ed25519PublicKey
    from whorl.attest.log import Log
    from whorl.claims.judging import claims_logged, revoked_in

    for key in keys:
        if isinstance(key, Ed25519PublicKey):
            opened = Log(log, key)
            try:
                return claims_logged(opened, known, keys), revoked_in(opened, known, keys)
            finally:
                opened.close()
    raise UsageError("a log is signed by a key of Ed25519, and the owner's is another; leave out --log")


def _date(text: str) -> datetime:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(f"{text!r} is no date, as in 2026-05-31 or 2026-05-31T12:00:00Z") from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _tell(found: Judgment, quiet: bool) -> None:
    from whorl.claims.judging import MADE_FROM, made_from

    colour = "bold red" if found.relation == "derived" else "bold yellow"
    out.print(f"[{colour}]{found.relation.upper()}[/]  grade {found.grade}  {escape(found.suspect)}", highlight=False)
    out.print(
        f"relation     {found.relation}: p {found.p_value:.3g} (not below {found.p_value_floor:.3g}), alpha "
        f"{found.alpha:g}, {found.tries} tries",
        highlight=False,
    )
    out.print(f"priority     {found.priority}", highlight=False)
    out.print(f"counterpart  {found.counterpart}", highlight=False)
    if made_from(found):
        out.print(MADE_FROM, highlight=False)
    for each in found.strata:
        right = sum(model.accuracy for model in each.models) / len(each.models)
        told = "; ".join(
            f"{name} {value:.2f}, they {min(m.matches[name] for m in each.models):.2f} to "
            f"{max(m.matches[name] for m in each.models):.2f}"
            for name, value in found.matches.items()
        )
        out.print(
            f"{len(each.models)} of {escape(each.recipe)}: right {right:.2f} (suspect {found.accuracy or 0:.2f}); "
            f"{told}{'; void' if each.void else ''}",
            highlight=False,
        )
    if not quiet:
        for caveat in found.caveats:
            say(f"- {caveat}")
