"""``whorl twins``: train your model's twins, and put the lineup into its fingerprint."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from whorl.cli import completion
from whorl.cli.console import bar, counter, guarded, line, model_options, print_json, say
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
from whorl.errors import UsageError
from whorl.printable import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from whorl.lineups.commands import Run

__all__ = ["twins"]


@guarded
def twins(
    fingerprint: Annotated[Path, typer.Argument(help="A fingerprint of your model, made by whorl extract.")],
    victim: Annotated[str | None, typer.Option(help="Your model.")] = None,
    command: Annotated[
        str | None,
        typer.Option(
            help="Your training script, as in 'python train.py --seed {seed} --out {out}'. {seed} is a secret number "
            "of 128 bits, {seed63} and {seed32} its lowest bits, {out} where the model goes."
        ),
    ] = None,
    recipe: Annotated[
        str | None, typer.Option(help="Your model's recipe, where whorl trained it: 'train(resnet8, digits)'.")
    ] = None,
    twin: Annotated[list[str] | None, typer.Option(help="A twin that is there already. Repeatable.")] = None,
    count: Annotated[int, typer.Option("--count", "-n", help="How many to train; 19 allow alpha .05, 99 .01.")] = 19,
    data: Annotated[
        str | None,
        typer.Option(help="Pictures to choose questions from. [the fingerprint's]", autocompletion=completion.sources),
    ] = None,
    questions: Annotated[int, typer.Option(min=2, max=100_000, help="How many questions the lineup holds.")] = 1000,
    by: Annotated[
        str,
        typer.Option(
            help="A scheme, as in 'ipguard(margin=7)': each candidate has a fingerprint of its own by it, and these "
            "share the questions. [all are asked the same]",
            autocompletion=completion.schemes,
        ),
    ] = "",
    alpha: Annotated[
        float | None, typer.Option(help="Accepted chance of naming your model wrongly. [.01 with 99 twins, else .05]")
    ] = None,
    victim_seed: Annotated[
        str | None,
        typer.Option(help="Your model's own seed; not kept. Without one of 64 bits or more nothing is called exact."),
    ] = None,
    hypothesis: Annotated[
        str, typer.Option(help="What is tested, where twins share a part of your model's history, as a checkpoint.")
    ] = "",
    reason: Annotated[
        list[str] | None,
        typer.Option(
            help="FIGURE=TEXT, once the lineup is made: why your model may stand among its twins although this figure, "
            "as in accuracy='...', sets it apart. Every verdict quotes it. Repeatable."
        ),
    ] = None,
    stranger: Annotated[
        list[str] | None, typer.Option(help="A model made without yours, public ancestors above all. Repeatable.")
    ] = None,
    removal: Annotated[
        list[str] | None,
        typer.Option(
            help="Measure power on copies of this removal, as in 'fine_tune(all)'. Repeatable.",
            autocompletion=completion.removals,
        ),
    ] = None,
    copies: Annotated[int, typer.Option(min=1, help="Copies per --removal.")] = 20,
    made_from: Annotated[
        list[Path] | None,
        typer.Option(help="A file or folder that the command reads; all twins are made from the same. Repeatable."),
    ] = None,
    suffix: Annotated[str, typer.Option(help="How the command names a model, as in .pt.")] = ".safetensors",
    folder: Annotated[Path | None, typer.Option(help="Where twins are kept, in secret. [FINGERPRINT.twins]")] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Where to write. [in place]", callback=file_to_write)
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
    """Train your model's recipe again with secret seeds, and line your model up with these twins.

    A suspect that was made without your model resembles it no more than its twins, whatever the suspect is: the
    error rate is 1/(N + 1). Keep FINGERPRINT.secret and the twins to yourself.

    Example: whorl twins mine.fp --victim mine.safetensors --command 'python train.py --seed {seed} --out {out}' -n 19
    """
    from whorl import ownership, populations
    from whorl.data import SOURCES
    from whorl.fingerprints.files import write_fingerprint
    from whorl.fingerprints.looks import looks_path
    from whorl.fingerprints.secret import read_secret, secret_path, write_secret
    from whorl.lineups.by import scheme_of
    from whorl.lineups.commands import run_twins, secret_seeds
    from whorl.lineups.making import check_twin, fixed_terms
    from whorl.removals import REMOVALS
    from whorl.schemes.opening import read_fingerprint
    from whorl.suspects import one_of, opened_for

    target = output or fingerprint
    _refuse(command, recipe, twin, victim, reason, target)
    if reason:
        reasoned = ownership.give_reasons(fingerprint, _reasons(reason), cache=cache)
        secret = read_secret(secret_path(fingerprint))
        write_fingerprint(reasoned, target)
        write_secret(secret, secret_path(target))
        _report(reasoned, secret.place, target, as_json, quiet)
        return
    known, place = read_fingerprint(fingerprint), folder or Path(f"{fingerprint}.twins")
    if looks_path(target).exists():
        raise UsageError(
            f"{target} was held against suspects already ({looks_path(target)}), and a lineup is fixed before the "
            "first look; write it elsewhere with -o"
        )
    options = model_options(architecture, classes, shape, settings)
    options |= {"trust_code": trust_code, "trust_hosts": trust_host or ()}
    several, seed = len(twin) if twin else count, _whole(victim_seed)
    # Whatever can be wrong is said before hours of training.
    fixed_terms(several, alpha=alpha, victim_seed=seed, hypothesis=hypothesis, by=by)
    mine, source = ownership.candidate(known, victim, data=data, **options)
    if by:
        scheme_of(by, mine, questions=questions, candidates=several + 1)
    SOURCES.make(str(source))
    for expression in removal or []:
        REMOVALS.make(expression)
    strangers = {each: opened_for(known, each, **options) for each in stranger or []}
    if not quiet:
        least = f"1/{several + 1} = {1 / (several + 1):.4f}"
        say(f"{counted(several, 'twin')}, one training each; the smallest alpha is {least}")
    with bar(quiet) as show:
        made: dict[str, Any]
        if command is not None:
            told = _teller(several, quiet)

            def check(path: Path) -> None:
                made_now = one_of(known, path, **options)
                made_now.name = str(path)
                check_twin(known, mine, made_now)

            paths = run_twins(command, count, place, suffix=suffix, inputs=made_from or (), check=check, progress=told)
            made = {str(path): path for path in paths}
        elif recipe is not None:
            seeds = secret_seeds(place, count)
            made = populations.twins(
                recipe, seeds, folder=cache, workers=cluster or jobs, trust_code=trust_code, progress=show
            )
        else:
            made = {each: each for each in twin or []}
        power: dict[str, Any] = {}
        if removal:
            power = populations.copies(mine, removal, data=data or known.data, count=copies, progress=show)
        asked = (several + 1) * (2 if by else 1) + len(stranger or []) + sum(map(len, power.values()))
        lined_up, secret = ownership.line_up(
            known,
            mine,
            made,
            data=data,
            size=questions,
            alpha=alpha,
            by=by,
            recipe=recipe or command or "",
            victim_seed=seed,
            hypothesis=hypothesis or _narrower(recipe),
            strangers=strangers,
            copies=power,
            cache=cache,
            progress=counter(show, "asking", asked),
            **options,
        )
    write_fingerprint(lined_up, target)
    write_secret(secret, secret_path(target))
    _report(lined_up, secret.place, target, as_json, quiet)


def _refuse(
    command: str | None,
    recipe: str | None,
    twin: Sequence[str] | None,
    victim: str | None,
    reason: Sequence[str] | None,
    target: Path,
) -> None:
    """Refuse what does not go together, before anything is read."""
    ways = sum(each is not None for each in (command, recipe, twin))
    if reason and ways:
        raise UsageError(
            "a reason is given when it is known which figures set your model apart: leave --reason out, and where the "
            f"lineup needs one type: whorl twins {target} --reason FIGURE='...'"
        )
    if reason:
        return
    if ways != 1:
        raise UsageError("say how twins are made: --command 'SCRIPT {seed} {out}', --recipe RECIPE, or --twin FILE ...")
    if victim is None:
        raise UsageError("twins are those of your model: give it as --victim")
    paths = [Path(each) for each in twin or []]
    if twice := [each for place, each in enumerate(paths) if each in paths[:place]]:
        raise UsageError(f"{twice[0]} is given twice: each twin counts once")


def _teller(count: int, quiet: bool) -> Callable[[int, Run], None]:
    """Says of each twin how long it took, and how long the others may take."""
    started = time.monotonic()

    def told(number: int, run: Run) -> None:
        if not quiet:
            left = (time.monotonic() - started) / (number + 1) * (count - number - 1)
            say(f"twin {number + 1} of {count}: {run.seconds:.0f} s, about {left / 60:.1f} min left")

    return told


def _whole(seed: str | None) -> int | None:
    if seed is None:
        return None
    try:
        return int(seed, 0)
    except ValueError:
        raise UsageError("--victim-seed is a whole number, as in 123 or 0x7b; this is none") from None


def _reasons(given: list[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for each in given:
        name, mark, text = each.partition("=")
        if not mark:
            raise UsageError(f"--reason takes FIGURE=TEXT, as in accuracy='...'; this is {each[:60]!r}")
        if name.strip() in found:
            raise UsageError(f"--reason is given twice for {name.strip()}; give one")
        found[name.strip()] = text.strip()
    return found


def _narrower(recipe: str | None) -> str:
    """What a recipe of several steps tests: its last stage alone is drawn anew."""
    return (
        "made without your model's last stage; twins and victim share what came before"
        if "->" in (recipe or "")
        else ""
    )


def _report(lined_up: Any, place: int, target: Path, as_json: bool, quiet: bool) -> None:
    from whorl.detection.lineup import outermost, told_apart
    from whorl.fingerprints.secret import secret_path
    from whorl.fingerprints.terms import terms_of

    lineup = lined_up.candidates
    terms = terms_of(lineup, lined_up.task)
    outside = outermost(terms.figures, place)
    named = sum(each == place for each in terms.strangers.values())
    document = {
        "fingerprint": str(target),
        "secret": str(secret_path(target)),
        "twins": len(lineup.digests) - 1,
        "questions": len(lineup.inputs),
        "by": terms.by,
        "alpha": terms.alpha,
        "smallest_alpha": 1 / len(lineup.digests),
        "outermost": outside,
        "reasons": dict(terms.reasons),
        "strangers": {"asked": len(terms.strangers), "named_the_victim": named},
        "copies": {removal: {"caught": caught, "copies": count} for removal, (caught, count) in terms.copies.items()},
    }
    if as_json:
        print_json(document)
        return
    by = f" by {terms.by}" if terms.by else ""
    size, asked = counted(document["twins"], "twin"), counted(document["questions"], "question")
    line(f"{target}  lineup of your model and {size}, {asked}{by}")
    for removal, (caught, count) in terms.copies.items():
        line(f"{removal}: {caught} of {count} known copies name your model")
    if quiet:
        return
    say(f"secret: {document['secret']} says which candidate is yours; whoever asks the suspect need not have it")
    for name, which in outside.items():
        if name not in terms.reasons:
            say(
                f"of all candidates your model has {told_apart({name: which})}: a verdict will be inconclusive. Look "
                f"why, and where you know, type: whorl twins {target} --reason {name}='...'"
            )
