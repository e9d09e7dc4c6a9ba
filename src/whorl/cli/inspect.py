"""``whorl inspect``: does a net look trojaned beside clean ones?"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from whorl.cli import completion
from whorl.cli.console import bar, chatter, counter, foreign, guarded, model_options, out, print_json, say
from whorl.cli.folders import models_in
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
    file_to_write,
)
from whorl.cli.table import Column, Table, show
from whorl.errors import UsageError

if TYPE_CHECKING:
    from whorl.inspection.inspecting import Inspected

__all__ = ["FailOn", "inspect"]

COLOURS = {"trojaned": "bold red", "inconclusive": "bold yellow", None: "bold"}


class FailOn(StrEnum):
    """Decisions that may turn into an exit code."""

    trojaned = "trojaned"
    inconclusive = "inconclusive"


CODES = {FailOn.trojaned: 3, FailOn.inconclusive: 4}


@guarded
def inspect(
    net: Annotated[str, typer.Argument(help="The net: a file of weights, or a folder with model.toml.")],
    data: Annotated[
        str,
        typer.Option(
            help="Clean pictures that it was not trained on, as in 'folder(./pictures, size=32)'.",
            autocompletion=completion.sources,
        ),
    ],
    part: Annotated[str, typer.Option(help="Part of the data, or several joined by +.")] = "queries+test",
    statistic: Annotated[
        str,
        typer.Option(
            help="What to look at: one of whorl inspections that judges nets.", autocompletion=completion.inspections
        ),
    ] = "neural_cleanse",
    clean_null: Annotated[
        str | None,
        typer.Option(help="Train clean nets to rank it among from this recipe: the net's own, on clean pictures."),
    ] = None,
    count: Annotated[int, typer.Option(min=19, help="How many to train.")] = 19,
    first_seed: Annotated[int, typer.Option(min=0, help="Seed of the first of them.")] = 1000,
    clean: Annotated[
        list[str] | None,
        typer.Option(help="A net that is known to be clean, or a folder of them: 19 at least. Repeatable."),
    ] = None,
    alpha: Annotated[float, typer.Option(help="Accepted chance of calling a clean net trojaned.")] = 0.05,
    seed: Annotated[int, typer.Option(min=0, help="Of the statistic's random starts.")] = 0,
    report: Annotated[
        Path | None,
        typer.Option(help="Also write an HTML page, with the trigger that was found.", callback=file_to_write),
    ] = None,
    fail_on: Annotated[FailOn | None, typer.Option(help="Exit with 3 on trojaned, with 4 on inconclusive.")] = None,
    architecture: Architecture = None,
    classes: Classes = None,
    shape: Shape = None,
    settings: Set = None,
    trust_code: TrustCode = False,
    cache: Cache = None,
    jobs: Jobs = 0,
    cluster: Cluster = "",
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Look for a trojan: give each class a number, and rank how far one sticks out among clean nets.

    Without clean nets (--clean-null or --clean) there are numbers and no verdict. That nothing is found does not show
    that a net is clean.

    Example: whorl inspect net.safetensors --data 'digits(size=8)' --clean-null 'train(mlp, digits(size=8))'
    """
    from whorl import populations
    from whorl.data import SOURCES
    from whorl.inspection import naming
    from whorl.inspection.inspecting import inspect as inspected
    from whorl.oracles.opening import open_oracle

    if clean_null and clean:
        raise UsageError("clean nets are trained (--clean-null) or given (--clean): leave out one of them")
    options = {"trust_code": trust_code, **model_options(architecture, classes, shape, settings)}
    suspect = open_oracle(net, **options)
    asked, pictures = naming.statistic(statistic), SOURCES.make(data).load(part)
    asked.check(suspect, pictures)  # before hours of training
    given, skipped = models_in(clean or [], lambda model: open_oracle(model, **options))
    for path, reason in {} if quiet else skipped.items():
        say(f"skipped: {path}: {reason}")
    with bar(quiet) as told:
        if clean_null:
            populations.untrained(clean_null, trust_code=trust_code)
            given = populations.strangers(
                clean_null,
                count,
                folder=cache,
                first_seed=first_seed,
                workers=cluster or jobs,
                trust_code=trust_code,
                progress=told,
            )
        found = inspected(
            suspect,
            pictures,
            statistic=asked,
            clean=given,
            alpha=alpha,
            seed=seed,
            chooser="whorl" if clean_null else "user",
            made=clean_null or "",
            progress=counter(told, "inspecting", 1 + len(given)),
        )
    document = _document(net, found, pictures.classes)
    if as_json:
        print_json(document)
    else:
        _show(document, quiet)
    if report is not None:  # after the result, which a page that can't be written must not cost
        from whorl.report.inspection import inspection_page
        from whorl.storage import write_whole

        write_whole(report, inspection_page(document, found.inspection.trigger, pictures))
        if not quiet:
            say(f"page: {report}")
    if fail_on is not None and found.verdict.decision == fail_on.value:
        raise typer.Exit(CODES[fail_on])


def _document(net: str, found: Inspected, names: tuple[str, ...]) -> dict[str, Any]:
    seen, verdict = found.inspection, found.verdict
    return {
        "net": net,
        "digest": seen.digest,
        "decision": verdict.decision,
        "statistic": seen.statistic,
        "culprit": {"class": seen.culprit, "name": names[seen.culprit]},
        "log_ratio": seen.log_ratio,
        "p_value": verdict.p_value,
        "p_value_floor": verdict.p_value_floor,
        "alpha": verdict.alpha,
        "rests_on": verdict.rests_on,
        "index_of_the_paper": dict(verdict.index),
        "worse": seen.worse,
        "scores": dict(zip(names, seen.scores, strict=True)),
        "accuracy": seen.accuracy,
        "trigger_success": seen.success,
        "clean": [{"name": name, "log_ratio": each.log_ratio} for name, each in found.clean.items()],
        "queries": seen.queries_spent,
        "seconds": seen.seconds,
        "caveats": list(verdict.caveats),
    }


def _show(told: dict[str, Any], quiet: bool) -> None:
    decision = told["decision"]
    number = "" if told["p_value"] is None else f"p-value {told['p_value']:.3f}, alpha {told['alpha']:g}; "
    out.print(
        f"[{COLOURS[decision]}]{(decision or 'no verdict').upper()}[/]  {number}rests on {foreign(told['rests_on'])}",
        highlight=False,
    )
    culprit = foreign(told["culprit"]["name"])
    success = "" if told["trigger_success"] is None else f"; its trigger moves {told['trigger_success']:.0%} of others"
    out.print(f"class {culprit} sticks out, log ratio {told['log_ratio']:.2f}{success}", highlight=False)
    table = Table([Column("class"), Column(f"score ({told['worse']} is bad)", right=True)])
    for name, score in told["scores"].items():
        table.add(name, f"{score:.3f}")
    show(table)
    for caveat in () if quiet else told["caveats"]:
        chatter.print(f"[dim]·[/] {foreign(caveat)}", highlight=False)
