"""``whorl log``: log how a net is trained, and check whether a log is consistent with its recipe."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from whorl.cli.console import bar, foreign, guarded, line, out, print_json, say
from whorl.cli.options import Json, Quiet, TrustCode, file_to_write, folder_to_write
from whorl.errors import UsageError
from whorl.printable import counted

if TYPE_CHECKING:
    from whorl.attest.training import TrainingLog
    from whorl.zoo.log_check import LogCheck

__all__ = ["app"]

app = typer.Typer(help="Logs of training: how a net came to be.", no_args_is_help=True, rich_markup_mode="rich")


class FailOn(StrEnum):
    """What may end in exit code 3."""

    inconsistent = "inconsistent"


@app.command("make")
@guarded
def make(
    recipe: Annotated[str, typer.Argument(help="One training, as in 'train(resnet8(width=8), digits, seed=0)'.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="A new folder for the log.", callback=folder_to_write)],
    model: Annotated[
        Path | None, typer.Option(help="Where to write the trained model as well.", callback=file_to_write)
    ] = None,
    every: Annotated[int, typer.Option(min=1, help="Steps between two checkpoints, all of which are kept.")] = 14,
    trust_code: TrustCode = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train the net of a recipe, the same that the zoo builds, and log it.

    Copy LOG/root.json while it trains and have each copy stamped: whorl claim stamp root.json --request root.tsq

    Example: whorl log make "train(mlp(width=32), digits(size=8), epochs=20)" -o mine.log --model mine.safetensors
    """
    from whorl.attest.training import read_log
    from whorl.nets.files import write_model
    from whorl.zoo.logged import log_training
    from whorl.zoo.recipe import parse_recipe

    read = parse_recipe(recipe, trust_code=trust_code)
    with bar(quiet) as told:
        told("training", 0, 0)
        net = log_training(read, output, every=every)
    log = read_log(output)
    if model is not None:
        write_model(net, model, architecture=log.header.architecture, input_shape=log.header.input_shape)
    if as_json:
        print_json({"log": str(output), "root": log.root, "steps": log.steps, "segments": log.segments})
        return
    line(f"{output}  {counted(log.steps, 'step')} in {counted(log.segments, 'segment')}  root {log.root}")
    if not quiet:
        say(f"Who checks it replays drawn segments: whorl log verify {output} --own LOG --recipe RECIPE")


@app.command("verify")
@guarded
def verify(
    log: Annotated[Path, typer.Argument(help="The log, a folder.")],
    own: Annotated[
        list[Path] | None,
        typer.Option(help="A log that you made yourself of the recipe, with another seed. Repeatable."),
    ] = None,
    rho: Annotated[
        float | None, typer.Option(min=0, max=0.1, help="Accepted relative error of a replay, in place of --own.")
    ] = None,
    recipe: Annotated[str | None, typer.Option(help="What the log is to be of; a log's own words are not run.")] = None,
    model: Annotated[Path | None, typer.Option(help="The model at hand, which the log has to end in.")] = None,
    anchor: Annotated[
        list[Path] | None, typer.Option(help="A root.json that was kept while the net trained. Repeatable.")
    ] = None,
    draws: Annotated[int, typer.Option(min=1, help="Segments to draw and replay.")] = 10,
    nonce: Annotated[
        str | None, typer.Option(help="64 hexadecimal digits of an earlier check, to repeat its draw.")
    ] = None,
    original: Annotated[
        float | None,
        typer.Option(help="Also tell the rule as published, with this distance; it accepts forged logs."),
    ] = None,
    fail_on: Annotated[FailOn | None, typer.Option(help="Exit with 3 on this answer.")] = None,
    trust_code: TrustCode = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Check whether a log is consistent with its recipe: segments are drawn and replayed.

    It never proves ownership, and a log that is torn or was rewritten ends with exit code 7.

    Example: whorl log verify theirs.log --own mine.log --recipe "train(mlp(width=32), digits(size=8), epochs=20)"
    """
    import torch

    from whorl.attest.training import read_anchor, read_log
    from whorl.zoo.log_check import Tolerance, check_log, tolerance_of
    from whorl.zoo.recipe import parse_recipe

    if (rho is None) == (not own):
        raise UsageError("give --own LOG, made by whorl log make with another seed, or --rho NUMBER of at most 0.1")
    found = read_log(log)
    anchors = [read_anchor(each) for each in anchor or ()]
    with bar(quiet) as told:
        told("replaying", 0, 0)
        generator = torch.Generator().manual_seed(0)
        tolerance = (
            tolerance_of([read_log(each) for each in own], generator=generator)
            if own
            else Tolerance(rho if rho is not None else 0.0)
        )
        checked = check_log(
            found,
            tolerance,
            draws=draws,
            recipe=parse_recipe(recipe, trust_code=trust_code) if recipe else None,
            model=_digest(model),
            anchors=anchors,
            nonce=_nonce(nonce),
        )
        published = _original(found, original)
    document = _document(checked, found.header.recipe) | published
    if as_json:
        print_json(document)
    else:
        _show(document, quiet)
    if fail_on is not None and not checked.consistent:
        raise typer.Exit(3)


def _digest(model: Path | None) -> str:
    from whorl.storage import digest_tensors, read_tensors

    return "" if model is None else digest_tensors(read_tensors(model)[0])


def _nonce(text: str | None) -> bytes:
    if text is None:
        return b""
    try:
        found = bytes.fromhex(text)
    except ValueError:
        found = b""
    if len(found) != 32:
        raise UsageError("--nonce is the 64 hexadecimal digits that a check printed; leave it out for a fresh draw")
    return found


def _original(log: TrainingLog, delta: float | None) -> dict[str, Any]:
    from whorl.zoo.original_rule import original_rule

    if delta is None:
        return {}
    found = original_rule(log, delta=delta)
    return {"original": {"valid": found.valid, "worst": found.worst, "delta": delta, "decides": False}}


def _document(checked: LogCheck, claimed: str) -> dict[str, Any]:
    return {
        "decision": "consistent with this recipe" if checked.consistent else "inconsistent",
        "root": checked.root,
        "steps": checked.steps,
        "segments": checked.segments,
        "rho": checked.tolerance.relative,
        "own_segments": checked.tolerance.segments,
        "honest_fails_at_most": checked.bound,
        "initial_p": checked.initial,
        "recipe": checked.recipe,
        "claimed": claimed,
        "nonce": checked.nonce,
        "replayed": [
            {"steps_up_to": each.step, "verdict": each.verdict, "movement": _finite(each.found.movement)}
            | {"relative_error": _finite(each.found.relative)}
            for each in checked.replayed
        ],
        "faults": list(checked.faults),
        "caveats": list(checked.caveats),
    }


def _finite(value: float) -> float | None:
    return value if abs(value) < float("inf") else None


def _show(document: dict[str, Any], quiet: bool) -> None:
    sound = not document["faults"]
    told = "CONSISTENT with this recipe" if document["recipe"] else "CONSISTENT with what it claims"
    out.print(f"[bold {'green' if sound else 'red'}]{told if sound else 'INCONSISTENT'}[/]", highlight=False)
    out.print(f"recipe   {foreign(document['recipe'] or document['claimed'] or 'none')}", highlight=False)
    passed = sum(each["verdict"] == "replayed" for each in document["replayed"])
    drawn = len(document["replayed"])
    bound = document["honest_fails_at_most"]
    chance = "" if bound is None else f"; an honest log fails with a chance of at most {bound:.2g}"
    out.print(
        f"replayed {passed} of {drawn} drawn segments of {document['segments']} within a relative error of "
        f"{document['rho']:.2g}{chance}",
        highlight=False,
    )
    out.print(f"root     {document['root']}", highlight=False)
    out.print(f"nonce    {document['nonce']}", highlight=False)
    if "original" in document:
        rule = document["original"]
        said = "passes" if rule["valid"] else "fails"
        out.print(f"as published  {said}: distances up to {rule['worst']:.2g} of {rule['delta']:g}", highlight=False)
    for fault in document["faults"]:
        out.print(f"- {foreign(fault)}", highlight=False)
    if not quiet:
        for caveat in document["caveats"]:
            say(f"- {caveat}")
