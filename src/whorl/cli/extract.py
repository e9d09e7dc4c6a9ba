"""``whorl extract``: make the fingerprint of a model you own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from whorl.cli import completion
from whorl.cli.console import bar, grants_of, guarded, line, model_options, print_json, say
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
from whorl.cli.paths import check_new_fingerprint
from whorl.printable import counted

__all__ = ["extract"]

SHADOW_REMOVALS = ("fine_tune(all)", "retrain(all)", "prune_weights(1/2)")


@guarded
def extract(
    model: Annotated[str, typer.Argument(help="Your model: a file, a folder with model.toml, or an address.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Where to write the fingerprint.", callback=file_to_write)
    ],
    data: Annotated[
        str | None,
        typer.Option(
            help="Pictures, as in digits or 'folder(./pictures, size=32)'; some schemes need none.",
            autocompletion=completion.sources,
        ),
    ] = None,
    scheme: Annotated[
        str,
        typer.Option(
            help="A scheme, as in ipguard or 'ipguard(margin=10)', or auto: the best for what is at hand.",
            autocompletion=completion.scheme_or_auto,
        ),
    ] = "ipguard",
    suspect_access: Annotated[
        str, typer.Option(help="For --scheme auto: what suspects will grant, as in labels or probabilities.")
    ] = "labels",
    shadow: Annotated[
        list[str] | None,
        typer.Option(
            help="Recipe of independent shadow models, for a scheme that learns from them. Repeatable: each "
            "architecture is a group."
        ),
    ] = None,
    shadow_removal: Annotated[
        list[str] | None,
        typer.Option(
            help="A removal to make shadow copies with, as in 'fine_tune(all)'. Repeatable.",
            autocompletion=completion.removals,
        ),
    ] = None,
    shadows: Annotated[int, typer.Option(min=1, help="Shadow models of each recipe, and copies of each removal.")] = 4,
    part: Annotated[str | None, typer.Option(help="Part of the data to take seeds from. [the scheme's own]")] = None,
    budget: Annotated[int, typer.Option(help="Number of queries.")] = 100,
    seed: Annotated[int, typer.Option(help="Same seed, same bytes.")] = 0,
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
    """Make the fingerprint of a model you own.

    Example: whorl extract mine.safetensors --data digits -o mine.fp

    A scheme that learns from shadow models: whorl extract mine.safetensors --data digits --scheme metav
    --shadow 'train(resnet8, digits)' --shadow-removal 'fine_tune(all)' --shadow-removal quantise -o mine.fp
    """
    from whorl import ownership, populations
    from whorl.errors import UsageError
    from whorl.fingerprints.files import write_fingerprint
    from whorl.fingerprints.second import identity
    from whorl.schemes.cards import Needs, choose
    from whorl.schemes.controls import own_fault

    check_new_fingerprint(output)
    options = model_options(architecture, classes, shape, settings)
    oracle = ownership.owned(model, data, trust_code=trust_code, trust_hosts=trust_host or (), **options)
    provenance: dict[str, str] = {}
    if scheme == "auto":
        needs = Needs(oracle.grants, grants_of(suspect_access), oracle.task, bool(shadow), data is not None)
        scheme, reason = choose(needs)
        provenance["scheme"] = f"chosen by access: {reason}"
        if not quiet:
            say(reason)
    if shadow_removal and not shadow:
        raise UsageError("--shadow-removal makes copies beside shadow models: give --shadow RECIPE too")
    pool = None
    if shadow:
        if data is None:
            raise UsageError("--shadow copies your model on pictures: give --data too")
        removals = shadow_removal or list(SHADOW_REMOVALS)
        with bar(quiet) as show:
            pool = populations.shadows(
                oracle,
                shadow,
                removals,
                data=data,
                count=shadows,
                folder=cache,
                workers=cluster or jobs,
                progress=show,
                trust_code=trust_code,
            )
    with bar(quiet) as show:
        show(f"extracting {budget} queries", 0, 0)
        fingerprint = ownership.extract(
            oracle, data=data, scheme=scheme, part=part, budget=budget, seed=seed, pool=pool, provenance=provenance
        )
    write_fingerprint(fingerprint, output)
    document = {
        "fingerprint": str(output),
        "id": identity(fingerprint),
        "scheme": fingerprint.scheme,
        "victim": fingerprint.victim,
        "queries": len(fingerprint.queries),
        "seconds": round(fingerprint.seconds, 3),
        "bytes": output.stat().st_size,
        "notes": dict(fingerprint.queries.notes),
    }
    if fault := own_fault(fingerprint):
        say(fault)
    if as_json:
        print_json(document)
        return
    asked = counted(document["queries"], "query", "queries")
    line(f"{output}  {document['bytes']:,} bytes  {asked}  id {document['id']}")
    if not quiet:
        facts = [f"{key} {_shown(value)}" for key, value in document["notes"].items()]
        say("; ".join([f"{fingerprint.seconds:.1f} s", *facts]))
        say("The queries are secret: whoever has them can dodge them. Keep the file private.")
        say("A verdict needs twins of your model or independent models: whorl twins --help, whorl calibrate --help")


def _shown(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, int | float) else str(value)
