"""``whorl claim check``: the judge verifies claim and opening, trains models, asks the suspect, and decides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from whorl.cli.claim_case import Shown, Theirs, case_of
from whorl.cli.console import bar, foreign, guarded, model_options, out, print_json, say
from whorl.cli.integrity import show_integrity
from whorl.cli.options import (
    Architecture,
    Cache,
    Classes,
    Cluster,
    Jobs,
    Json,
    Quiet,
    Set,
    Shape,
    TrustCode,
    TrustHost,
    file_to_write,
)
from whorl.cli.paths import private_key
from whorl.cli.verify import CODES, FailOn
from whorl.errors import UsageError

if TYPE_CHECKING:
    from whorl.claims.case import Case
    from whorl.claims.documents import Claim, IntegrityAnswer, Judgment, Signed
    from whorl.claims.opening import OpenedClaim
    from whorl.engine.workers import Workers

__all__ = ["check"]


@guarded
def check(
    claim: Annotated[Path, typer.Argument(help="The claim.")],
    opening: Annotated[
        Path, typer.Argument(help="The owner's opening, a folder; of a public claim what was published with it.")
    ],
    suspect: Annotated[str, typer.Argument(help="The suspect that the draw was made for: a file, or an address.")],
    owner_key: Annotated[Path, typer.Option(help="The owner's public key (PEM).")],
    null_recipe: Annotated[
        list[str] | None,
        typer.Option(
            help="Recipe of independent models: the suspect's own as far as it is known, the victim's, another "
            "architecture. Repeatable: p is the largest over all. With --twins: strangers, of whom is told how many "
            "name the victim."
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
        str | None,
        typer.Option(
            help="Pictures on which accuracies are taken, and which may be fetched. [the claim's, their test part]"
        ),
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
    alpha: Annotated[
        float | None,
        typer.Option(help="The most that you accept of the chance of accusing an independent model. [the claim's]"),
    ] = None,
    suspects: Annotated[int, typer.Option(help="Suspects that this claim was held against, this one too.")] = 1,
    counter: Annotated[
        list[Path] | None,
        typer.Option(
            help="What the other side shows: a claim of theirs, or any file that names the suspect's SHA-256, as the "
            "root of a training log. Repeatable: the earliest verified time wins."
        ),
    ] = None,
    counter_stamp: Annotated[
        list[Path] | None, typer.Option(help="Its time-stamp. Repeatable, in the order of --counter.")
    ] = None,
    counter_key: Annotated[
        Path | None, typer.Option(help="The other side's public key (PEM), where what they show has to be signed.")
    ] = None,
    counter_opening: Annotated[
        Path | None,
        typer.Option(help="Their opening of their claim: it is void if the suspect fails on its own queries."),
    ] = None,
    witness_key: Annotated[
        Path | None, typer.Option(help="Public key (PEM) of a witness who has to have cosigned the owner's log.")
    ] = None,
    family: Annotated[
        list[str] | None,
        typer.Option(help="Judge by these, one of each kind, in place of those opened to be judged. Repeatable."),
    ] = None,
    record: Annotated[
        Path | None,
        typer.Option(
            help="Keeps an endpoint's answers. It is asked everything opened, reserves too, among 500 pictures or as "
            "many as there are queries; --opened queries of each family in reserve is what these cost."
        ),
    ] = None,
    replay: Annotated[
        bool, typer.Option("--replay", help="Judge by the recorded answers, as by families that were in reserve.")
    ] = False,
    key: Annotated[Path | None, typer.Option(help="Your private key (PEM), to sign the judgment with.")] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Where to write the signed judgment.", callback=file_to_write)
    ] = None,
    report: Annotated[
        Path | None, typer.Option(help="Where to write a page of it (HTML).", callback=file_to_write)
    ] = None,
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
    jobs: Jobs = 0,
    cluster: Cluster = "",
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Judge a suspect by a claim and what was opened of it. Nothing that the owner says of other models counts.

    By a public claim the answer is "changed" or "no change shown", and the opening is the folder that was published.

    Example: whorl claim check mine.claim case.opening suspect.safetensors --victim mine.safetensors --nonce judge.nonce
    --owner-key owner.pub --null-recipe 'train(resnet8, digits)' --null-recipe 'train(vgg, digits)'
    """
    from whorl.attest.keys import read_public_key
    from whorl.claims.documents import Claim, Judgment, read_signed, write_signed
    from whorl.claims.opening import read_opening

    if suspects < 1:
        raise UsageError(f"a claim is held against one suspect at least, this one; --suspects is {suspects}")
    if (key is None) != (output is None):
        raise UsageError("a judgment is signed with your key: give --key and --output together")
    private = None if key is None else private_key(key)
    keys = [read_public_key(owner_key)]
    known = read_signed(claim, Claim, keys)
    options: dict[str, Any] = model_options(architecture, classes, shape, settings)
    options |= {"trust_code": trust_code, "trust_hosts": tuple(trust_host or ())}
    found: Judgment | IntegrityAnswer
    if known.body.mode == "public":
        judged = {
            "--null-recipe": null_recipe,
            "--twins": twins,
            "--count": count,
            "--victim": victim,
            "--nonce": nonce,
        }
        judged |= {"--stamp": stamp, "--suspect-stamp": suspect_stamp, "--suspect-since": suspect_since, "--log": log}
        judged |= {"--witness-key": witness_key, "--counter": counter, "--counter-opening": counter_opening}
        judged |= {"--alpha": alpha, "--data": data, "--family": family, "--replay": replay, "--report": report}
        if given := [option for option, value in judged.items() if value]:
            raise UsageError(
                "this claim is public, for integrity alone: no models are trained, nothing is drawn or dated, and "
                f"there is no page; leave out {', '.join(given)}"
            )
        found = _answer(known, opening, suspect, record, options)
    else:
        if twins is None and not null_recipe:
            raise UsageError("say whom the suspect is ranked among: --null-recipe RECIPE, or --twins N for a lineup")
        opened = read_opening(opening, known, keys)
        shown = Shown(claim, stamp, tsa_root, log, witness_key, suspects, nonce, suspect_since, alpha)
        theirs = Theirs(suspect_stamp, counter or (), counter_stamp or (), counter_key, counter_opening)
        case = case_of(known, keys, opened, suspect, shown, theirs, options)
        workers = cluster or jobs
        how = _How(null_recipe or (), count, twins, family or (), data or "", victim, record, replay, cache, workers)
        found = _judged(opened, suspect, case, how, options, quiet)
    if private is not None and output is not None:
        write_signed(found, known.victim, private, output)
    if report is not None and isinstance(found, Judgment):
        _write_page(report, found, known)
    _tell(found, as_json, quiet)
    decision = found.relation if isinstance(found, Judgment) else found.decision
    if fail_on is not None and decision == fail_on.value:
        raise typer.Exit(CODES[fail_on])


@dataclass(frozen=True)
class _How:
    """Whom a suspect is ranked among, and how it is asked."""

    recipes: Sequence[str]
    count: int | None
    twins: int | None
    families: Sequence[str]
    data: str
    victim: str | None
    record: Path | None
    replay: bool
    cache: Path | None
    workers: Workers


def _answer(
    known: Signed[Claim], folder: Path, suspect: str, record: Path | None, options: dict[str, Any]
) -> IntegrityAnswer:
    from whorl.claims.public import check_public

    return check_public(known, folder, suspect, record=record, **options)


def _judged(opened: OpenedClaim, suspect: str, case: Case, how: _How, options: dict[str, Any], quiet: bool) -> Judgment:
    from whorl.claims.audit import check_victim
    from whorl.claims.judging import check_suspect, chosen_families, judge, shared, train_strata
    from whorl.claims.twins import check_lineup, judge_lineup

    trust_code = bool(options["trust_code"])
    if how.families:
        opened = chosen_families(opened, how.families)
    if how.twins is None:
        check_suspect(opened, suspect, **options)  # before anything is trained
        if how.victim is not None:
            check_victim(opened, how.victim, **shared(options))
    else:
        check_lineup(opened, suspect, case=case, twins=how.twins, data=how.data, **options)
        if not quiet and opened.disclosed is not None:
            say(f"training here, as the owner says it was: {opened.disclosed.recipe}")
    with bar(quiet) as show:
        strata = train_strata(
            opened,
            how.recipes,
            tries=case.tries_of(opened),
            alpha=case.alpha,
            count=how.count,
            folder=how.cache,
            workers=how.workers,
            trust_code=trust_code,
            progress=show,
        )
        if how.twins is None:
            return judge(
                opened,
                suspect,
                strata,
                data=how.data,
                victim=how.victim,
                case=case,
                record=how.record,
                replay=how.replay,
                **options,
            )
        return judge_lineup(
            opened,
            suspect,
            case=case,
            data=how.data,
            twins=how.twins,
            strangers={name: model for of in strata.values() for name, model in of.items()},
            folder=how.cache,
            record=how.record,
            workers=how.workers,
            progress=show,
            **options,
        )


def _write_page(path: Path, found: Judgment, known: Signed[Claim]) -> None:
    from whorl.report.judgment import judgment_page
    from whorl.storage import write_whole

    write_whole(path, judgment_page(found, known))


def _tell(found: Judgment | IntegrityAnswer, as_json: bool, quiet: bool) -> None:
    from whorl.claims.documents import Judgment

    if as_json:
        print_json(found.model_dump())
    elif isinstance(found, Judgment):
        _show(found, quiet)
    else:
        show_integrity(found.model_dump(), quiet)


def _show(found: Judgment, quiet: bool) -> None:
    from whorl.claims.case import MADE_FROM, made_from

    colour = "bold red" if found.relation == "derived" else "bold yellow"
    out.print(f"[{colour}]{found.relation.upper()}[/]  grade {found.grade}  {foreign(found.suspect)}", highlight=False)
    out.print(
        f"relation     {found.relation}: p {found.p_value:.3g} (not below {found.p_value_floor:.3g}), alpha "
        f"{found.alpha:g}, {found.tries} tries",
        highlight=False,
    )
    out.print(f"priority     {found.priority}", highlight=False)
    unknown = ": related, direction unknown" if found.counterpart == "undecided" else ""
    out.print(f"counterpart  {found.counterpart}{unknown}", highlight=False)
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
            f"{len(each.models)} of {foreign(each.recipe)}: right {right:.2f} (suspect {found.accuracy or 0:.2f}); "
            f"{told}{'; void' if each.void else ''}",
            highlight=False,
        )
    if not quiet:
        for caveat in found.caveats:
            say(f"- {caveat}")
