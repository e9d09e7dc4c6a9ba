"""``whorl mark``: embed a watermark into a model you own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from whorl.cli import completion
from whorl.cli.console import bar, guarded, line, model_options, print_json, say
from whorl.cli.options import (
    Architecture,
    Cache,
    Classes,
    Json,
    Quiet,
    Set,
    Shape,
    TrustCode,
    file_to_write,
)
from whorl.cli.paths import check_new_fingerprint
from whorl.errors import UsageError

if TYPE_CHECKING:
    from whorl.attest.draw import Draw
    from whorl.types import Fingerprint, Verdict

__all__ = ["mark"]


@guarded
def mark(
    model: Annotated[
        str, typer.Argument(help="Your model: a file, a folder with model.toml, or a recipe of whorl's zoo.")
    ],
    kind: Annotated[
        str | None,
        typer.Option(help="A mark, as in backdoor or 'uchida(strength=0.1)'.", autocompletion=completion.marks),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(help="Pictures that your model learned from, as in digits.", autocompletion=completion.sources),
    ] = None,
    count: Annotated[int, typer.Option("--count", "-n", help="How many labels or bits.")] = 100,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="The marked model, a .safetensors file.", callback=file_to_write),
    ] = None,
    fingerprint: Annotated[
        Path | None,
        typer.Option(help="What checks the mark. [OUTPUT with .fp]", callback=file_to_write),
    ] = None,
    prepare: Annotated[
        Path | None,
        typer.Option(help="Fix the inputs alone, for a draw with others (whorl claim draw).", callback=file_to_write),
    ] = None,
    prepared: Annotated[Path | None, typer.Option("--from", help="A mark that was prepared.")] = None,
    drawing: Annotated[Path | None, typer.Option("--draw", help="The finished draw for it.")] = None,
    service_log: Annotated[
        Path | None, typer.Option(help="What a service of this model altered: a log of whorl.oracles.dawn.Dawn.")
    ] = None,
    draws: Annotated[
        int, typer.Option(min=1, help="How often labels were drawn for this model, this time included.")
    ] = 1,
    seed: Annotated[int | None, typer.Option(help="Of the inputs. [a secret one]")] = None,
    architecture: Architecture = None,
    classes: Classes = None,
    shape: Shape = None,
    settings: Set = None,
    trust_code: TrustCode = False,
    cache: Cache = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Embed a watermark, whose labels or bits are drawn, and write the marked model and what checks it.

    Example: whorl mark mine.safetensors --kind backdoor --data digits -o marked.safetensors

    The fingerprint is checked like any other: whorl verify marked.fp suspect.safetensors

    So that others need not take your word for the draw, fix the inputs first, and draw with them: whorl mark
    mine.safetensors --kind backdoor --data digits --prepare mine.mark
    """
    from whorl.claims.drawing import finished
    from whorl.fingerprints.files import write_fingerprint
    from whorl.marks import making
    from whorl.marks.base import commitment_of
    from whorl.marks.dawn import service_mark
    from whorl.nets.files import write_like
    from whorl.oracles.dawn import read_alterations
    from whorl.schemes.opening import read_fingerprint

    options: dict[str, Any] = model_options(architecture, classes, shape, settings) | {"trust_code": trust_code}
    if service_log is not None:
        if fingerprint is None or output is not None or kind is not None or prepared is not None:
            raise UsageError("a service embeds nothing: give --service-log LOG and --fingerprint FILE alone")
        check_new_fingerprint(fingerprint)
        made = service_mark(read_alterations(service_log), _file_of(model, cache, trust_code), draws=draws, **options)
        write_fingerprint(made, fingerprint)
        _report(None, fingerprint, made, as_json, quiet)
        return
    _refuse(kind, data, output, prepare, prepared, drawing)
    for written in filter(None, (prepare, fingerprint or (output and output.with_suffix(".fp")))):
        check_new_fingerprint(written)
    path = _file_of(model, cache, trust_code)
    with bar(quiet) as show:
        if prepared is not None:
            known = read_fingerprint(prepared)
        else:
            show("choosing inputs", 0, 0)
            known = making.prepare(path, str(kind), str(data), count=count, seed=seed, **options)
        if prepare is not None:
            write_fingerprint(known, prepare)
            _report_prepared(prepare, commitment_of(known), as_json, quiet)
            _warn_of_few(known)
            return
        draw: Draw | None = finished(drawing)[1] if drawing is not None else None
        show("embedding", 0, 0)
        verdicts: list[Verdict] = []
        net, made = making.embed(known, path, data, draw=draw, draws=draws, told=verdicts.append, **options)
    assert output is not None
    target = fingerprint or output.with_suffix(".fp")
    write_like(net, Path(path), output)
    write_fingerprint(made, target)
    _report(output, target, made, as_json, quiet)
    for verdict in verdicts:
        _warn(verdict)


def _warn_of_few(known: Fingerprint) -> None:
    """Say before the draw, which counts, that there is too little to draw."""
    from whorl.detection.drawn import least_count
    from whorl.marks.making import USUAL
    from whorl.schemes import MARKS

    mark: Any = MARKS.make(known.scheme)
    if mark.null == "design":
        least = least_count(mark.choices(known.queries, known.classes), USUAL)
        if (count := len(known.queries)) < least:
            say(
                f"warning: {count} {mark.kind} are too few: where all of them match, p is still above {USUAL:g}. "
                f"Prepare {least} or more (--count {least}) before you draw"
            )


def _warn(verdict: Verdict) -> None:
    """Say where the marked model itself is not found, which no quiet owner may overlook."""
    if verdict.decision == "derived":
        return
    from whorl.detection.drawn import least_count

    design = verdict.null["design"]
    more = "more epochs (--kind 'MARK(epochs=...)'), or more labels or bits (--count)"
    if verdict.p_value_floor > verdict.alpha:  # however well it learned these
        more = f"--count {least_count(design['choices'], verdict.alpha, design['draws'] + 1)} or more"
    say(
        f"warning: the marked model itself would not be found: {design['matches']} of {design['of']} {design['kind']} "
        f"match, p {verdict.p_value:.2g} is above {verdict.alpha:g}. Mark again with {more}, and count this draw too "
        "(--draws)"
    )


def _refuse(
    kind: str | None,
    data: str | None,
    output: Path | None,
    prepare: Path | None,
    prepared: Path | None,
    drawing: Path | None,
) -> None:
    if kind is None and prepared is None:
        raise UsageError("say which mark (--kind backdoor), or take one that was prepared (--from mine.mark)")
    if kind is not None and prepared is not None:
        raise UsageError(f"{prepared} says which mark it is: leave out --kind")
    if prepared is None and data is None:
        raise UsageError("a mark is learned beside the task: give the pictures that your model learned from (--data)")
    if prepare is not None and (prepared is not None or output is not None):
        raise UsageError("--prepare fixes the inputs and embeds nothing: leave out --output and --from")
    if prepare is None and output is None:
        raise UsageError("where does the marked model go? Give --output marked.safetensors")
    if drawing is not None and prepared is None:
        raise UsageError("a draw is for inputs that were fixed before it: whorl mark --prepare, then --from and --draw")
    if output is not None and output.suffix.lower() != ".safetensors":
        raise UsageError(f"a marked model is written as safetensors; {output} has another suffix")


def _file_of(model: str, cache: Path | None, trust_code: bool) -> str:
    """The model's own file; that of the zoo, where a recipe is given, trained now unless it is there."""
    if "(" not in model or Path(model).exists():
        return model
    from whorl.zoo.cache import Zoo
    from whorl.zoo.recipe import parse_recipe

    zoo, recipe = Zoo(cache), parse_recipe(model, trust_code=trust_code)
    zoo.build([recipe])
    return str(zoo.path(recipe))


def _report_prepared(path: Path, commitment: str, as_json: bool, quiet: bool) -> None:
    if as_json:
        print_json({"mark": str(path), "commitment": commitment})
        return
    line(f"{path}  inputs are fixed  SHA-256 {commitment}")
    if not quiet:
        say("Keep it private. Whoever draws with you begins, from a copy of it:")
        say(f"whorl claim draw mark.draw --as judge --nonce judge.nonce --mark {path}")
        say(f"When the draw has ended: whorl mark MODEL --from {path} --draw mark.draw -o marked.safetensors")


def _report(output: Path | None, target: Path, made: Fingerprint, as_json: bool, quiet: bool) -> None:
    from whorl.fingerprints.second import identity
    from whorl.schemes import SCHEMES

    design = SCHEMES.make(made.scheme).design(made)
    document = {
        "model": str(output) if output is not None else "",
        "fingerprint": str(target),
        "id": identity(made),
        "mark": made.scheme,
        "victim": made.victim,
        "count": len(made.queries),
        "draws": design.tries if design is not None else 0,
        "drawn_with_others": design is not None and not design.why,
    }
    if as_json:
        print_json(document)
        return
    if output is not None:
        line(f"{output}  {document['mark']}  {document['count']} {made.mark.kind if made.mark else 'keys'}")
    line(f"{target}  id {document['id']}")
    if not quiet:
        say("Keep the fingerprint private: whoever has it can remove the mark.")
        if design is None:
            say("Nothing is drawn for this mark, so a verdict needs models made without it: whorl calibrate --help")
        elif design.why:
            say(
                "The labels came from the service's key: before others that is your word (grade D)"
                if output is None
                else "The labels were drawn here alone: before others that is your word. To draw with them: --prepare"
            )
