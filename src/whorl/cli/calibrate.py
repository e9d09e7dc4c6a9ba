"""``whorl calibrate``: give a fingerprint the null that a verdict needs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from whorl.cli import completion
from whorl.cli.console import bar, counter, guarded, line, model_options, print_json, say
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
    TrustHost,
    file_to_write,
)
from whorl.errors import UsageError
from whorl.printable import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from whorl.oracles.base import Oracle
    from whorl.types import Fingerprint

__all__ = ["calibrate"]


@guarded
def calibrate(
    fingerprint: Annotated[Path, typer.Argument(help="A fingerprint made by whorl extract.")],
    independent: Annotated[
        list[str] | None,
        typer.Option(help="A model trained without the victim, or a folder of them, sub-folders too. Repeatable."),
    ] = None,
    train: Annotated[
        list[str] | None,
        typer.Option(
            help="Recipe to train independent models from: your model's own, on the same pictures, as in "
            "'train(resnet8, digits)', or with --trust-code 'train(my_nets:make, folder(./pictures))'. Seeds differ. "
            "Repeatable: each architecture is a group."
        ),
    ] = None,
    count: Annotated[int, typer.Option(min=1, help="How many to train of each recipe.")] = 99,
    first_seed: Annotated[
        int, typer.Option(help="Seed of the first of them; choose settings on other models than those that decide.")
    ] = 1000,
    derived: Annotated[
        list[str] | None, typer.Option(help="REMOVAL=MODEL: a known copy of the victim, to measure power. Repeatable.")
    ] = None,
    victim: Annotated[str | None, typer.Option(help="Your model, to make known copies of with --removal.")] = None,
    removal: Annotated[
        list[str] | None,
        typer.Option(
            help="A removal to make copies with, as in 'fine_tune(all)'. Repeatable.",
            autocompletion=completion.removals,
        ),
    ] = None,
    copies: Annotated[
        int,
        typer.Option(
            min=1,
            help="Copies per --removal. A removal without chance has one copy; with --train it is measured on so many "
            "other victims of the first recipe, each against its own fingerprint.",
        ),
    ] = 20,
    data: Annotated[
        str | None,
        typer.Option(help="Pictures for --removal (their calibration part).", autocompletion=completion.sources),
    ] = None,
    pool: Annotated[str, typer.Option(help="Who the independent models are, in words; verdicts quote it.")] = "",
    interface: Annotated[
        list[str] | None,
        typer.Option(
            help="How suspects treat their answers, as in TopK(k=10), beside the usual ways; steps are joined by ->. "
            "Repeatable."
        ),
    ] = None,
    allow_unlike: Annotated[
        bool, typer.Option(help="Take models that are far less often right than yours; any good model stands out.")
    ] = False,
    siblings: Annotated[int, typer.Option(min=0, help="How many of them share a public ancestor with the victim.")] = 0,
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
    """Give a fingerprint its null: the similarities of independent models, and of known copies.

    At alpha .01 a verdict of derived needs 99 independent models, at .05 it needs 19. The error rate holds for
    strangers like them, so train them as your model was trained, on the same pictures, with other seeds.

    Example: whorl calibrate mine.fp --train 'train(resnet8(width=8), digits)' --count 99
    """
    from whorl import ownership, populations
    from whorl.detection.groups import families
    from whorl.fingerprints.files import write_fingerprint
    from whorl.schemes import SCHEMES
    from whorl.schemes.asking import check_kind
    from whorl.schemes.calibration import check_models, doubts, sees_probabilities
    from whorl.schemes.opening import read_fingerprint
    from whorl.suspects import one_of
    from whorl.zoo.cache import Zoo, default_cache
    from whorl.zoo.recipe import parse_recipe

    options, known = model_options(architecture, classes, shape, settings), read_fingerprint(fingerprint)
    scheme = SCHEMES.make(known.scheme)

    def opened(model: str) -> Oracle:
        return one_of(known, model, trust_code=trust_code, trust_hosts=trust_host or (), **options)

    models, skipped = models_in(independent or [], opened)
    _say_all((f"skipped: {path}: {reason}" for path, reason in skipped.items()), quiet)
    if not models and not train:
        raise UsageError(
            "calibration needs independent models: give --independent MODEL (repeatable) or --train RECIPE"
        )
    _check_copies(removal, victim, data)
    power = _copies(derived or [], opened)
    # All that can be refused is refused now: training takes hours.
    if mine := opened(victim) if victim else None:
        check_kind(scheme, known, mine)
    pictures = populations.removal_data(mine, removal, data) if mine and removal and data else None
    future = {recipe: populations.untrained(recipe, trust_code=trust_code) for recipe in train or []}
    check_models(scheme, known, models | future, [each for given in power.values() for each in given], interface or ())
    told = f"--interface changes nothing: {scheme.name} does not compare probabilities, which interfaces treat"
    _say_all([told] if interface and not sees_probabilities(scheme) else [], quiet)
    with bar(quiet) as show:
        trained: dict[str, Oracle] = {}
        for recipe in train or []:
            trained |= populations.strangers(
                recipe,
                count,
                folder=cache,
                first_seed=first_seed,
                workers=cluster or jobs,
                trust_code=trust_code,
                progress=show,
            )
        if mine and removal and pictures:
            own = populations.copies(mine, removal, data=pictures, count=copies, progress=show)
            training = {"folder": cache, "workers": cluster or jobs, "trust_code": trust_code}
            power |= _elsewhere(known, own, train or [], copies, training, show)
        total = len(models) + len(trained) + sum(map(len, power.values()))
        calibrated = ownership.calibrate(
            known,
            models | trained,
            pool="; ".join(filter(None, (pool, _describe(list(models), train or [], count)))),
            siblings=siblings,
            derived=power,
            about={recipe: Zoo(cache).stranger(parse_recipe(recipe)) for recipe in trained},
            interfaces=interface or (),
            allow_unlike=allow_unlike,
            log=(cache or default_cache()) / "calibrations",
            progress=counter(show, "asking", total),
        )
    target = output or fingerprint
    write_fingerprint(calibrated, target)
    assert calibrated.calibration is not None
    null, doubted = calibrated.calibration.null, doubts(scheme, calibrated)
    _say_all(doubted, quiet)
    document = {
        "fingerprint": str(target),
        "null": {"pool": null.pool, "size": len(null), "siblings": null.siblings, "max": max(null.similarities)},
        "smallest_alpha": 1 / (len(families(null)) + 1),
        "skipped": skipped,
        "doubts": list(doubted),
        "derived": {name: list(values) for name, values in calibrated.calibration.derived.items()},
    }
    if as_json:
        print_json(document)
        return
    line(f"{target}  null of {counted(len(null), 'model')}, largest similarity {max(null.similarities):.3f}")
    _say_all([f"smallest alpha that it allows: {document['smallest_alpha']:.4f}"], quiet)


def _say_all(told: Iterable[str], quiet: bool) -> None:
    for each in () if quiet else told:
        say(each)


def _check_copies(removal: list[str] | None, victim: str | None, data: str | None) -> None:
    if removal and not (victim and data):
        raise UsageError("--removal makes copies of your model: give --victim MODEL and --data PICTURES too")
    if (victim or data) and not removal:
        raise UsageError("--victim and --data serve to make copies: give --removal REMOVAL too, or leave them out")


def _elsewhere(
    known: Fingerprint,
    power: dict[str, list[Any]],
    train: list[str],
    copies: int,
    settings: dict[str, Any],
    show: Callable[[str, int, int], None],
) -> dict[str, list[Any]]:
    """Copies of other victims, for removals that make one and the same copy of one victim whatever the seed."""

    alone = [name for name, made in power.items() if len(made) < copies]
    if not alone:
        return power
    if not train:
        say(
            f"{' and '.join(alone)}: one copy whatever the seed. Give --train RECIPE too, and copies of other victims "
            "of that recipe are measured"
        )
        return power
    from whorl import populations

    fewest = copies - min(len(power[name]) for name in alone)
    found = populations.power_elsewhere(known, train[0], alone, count=fewest, progress=show, **settings)
    return power | {name: [*power[name], *found[name]] for name in alone}


def _copies(derived: list[str], opened: Callable[[str], Oracle]) -> dict[str, list[Any]]:
    """The known copies that were given, by removal."""
    found: dict[str, list[Any]] = {}
    for given in derived:
        name, mark, path = given.partition("=")
        if not mark:
            raise UsageError(f"--derived takes REMOVAL=MODEL, as in fine-tune=copy.safetensors; this is {given!r}")
        found.setdefault(name, []).append(opened(path))
    return found


def _describe(models: list[str], train: list[str], count: int) -> str:
    parts = [f"{counted(len(models), 'model')} given by the owner"] if models else []
    parts += [f"{counted(count, 'model')} of {recipe}" for recipe in train]
    return " and ".join(parts)
