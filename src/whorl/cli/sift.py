"""``whorl sift``: which pictures of a training set look as if they carried a trigger?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from whorl.cli import completion
from whorl.cli.console import chatter, foreign, guarded, model_options, out, print_json
from whorl.cli.options import Architecture, Classes, Json, Quiet, Set, Shape, TrustCode
from whorl.cli.table import Column, Table, show

if TYPE_CHECKING:
    from whorl.inspection.sieve import Sifted

__all__ = ["sift"]


@guarded
def sift(
    net: Annotated[str, typer.Argument(help="The net: a file of weights, or a folder with model.toml.")],
    data: Annotated[
        str,
        typer.Option(
            help="The pictures to sift, as those that it was trained on: 'folder(./pictures, size=32)'.",
            autocompletion=completion.sources,
        ),
    ],
    part: Annotated[str, typer.Option(help="Part of the data, or several joined by +.")] = "victim",
    statistic: Annotated[
        str,
        typer.Option(
            help="How to look: one of whorl inspections that judges pictures.", autocompletion=completion.sieves
        ),
    ] = "activation_clusters",
    clean: Annotated[
        str | None,
        typer.Option(
            help="Clean pictures that it was not trained on, for layer_ranks alone.",
            autocompletion=completion.sources,
        ),
    ] = None,
    clean_part: Annotated[str, typer.Option(help="Part of the clean pictures.")] = "queries+test",
    seed: Annotated[int, typer.Option(min=0, help="Of what the statistic draws.")] = 0,
    architecture: Architecture = None,
    classes: Classes = None,
    shape: Shape = None,
    settings: Set = None,
    trust_code: TrustCode = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Look for pictures with a trigger among those that a net was trained on.

    It names pictures and judges no net, as the verb inspect does. That none is named does not show that there are none.

    Example: whorl sift net.safetensors --data 'poisoned(digits(size=8), rate=0.02)'
    """
    from whorl.data import SOURCES
    from whorl.inspection.sifting import sift as sifted

    pictures = SOURCES.make(data).load(part)
    options = {"trust_code": trust_code, **model_options(architecture, classes, shape, settings)}
    found = sifted(net, pictures, statistic=statistic, clean=clean, clean_part=clean_part, seed=seed, **options)
    document = _document(net, found, pictures.classes)
    if as_json:
        print_json(document)
    else:
        _show(document, quiet)


def _document(net: str, found: Sifted, names: tuple[str, ...]) -> dict[str, Any]:
    numbers = found.classes or [None] * len(names)
    return {
        "net": net,
        "digest": found.digest,
        "statistic": found.statistic,
        "pictures": len(found.values),
        "named": list(found.named),
        "rate_of_clean": found.rate,
        "classes_by": found.by,
        "classes": [
            {"class": label, "name": name, "named": named, "pictures": of, "number": number}
            for label, (name, (named, of), number) in enumerate(zip(names, found.counts, numbers, strict=True))
        ],
        "values": list(found.values),
        "queries": found.queries_spent,
        "seconds": found.seconds,
        "caveats": list(found.caveats),
    }


def _show(told: dict[str, Any], quiet: bool) -> None:
    rate = told["rate_of_clean"]
    stated = "the rule states no error rate" if rate is None else f"of clean pictures {rate:.0%} would be named"
    out.print(f"[bold]{len(told['named'])} of {told['pictures']} pictures named[/]; {stated}", highlight=False)
    numbered = told["classes"][0]["number"] is not None
    columns = [Column(f"class ({told['classes_by']})"), Column("named", right=True), Column("pictures", right=True)]
    table = Table([*columns, Column("number", right=True)] if numbered else columns)
    for each in told["classes"]:
        cells = [each["name"], str(each["named"]), str(each["pictures"])]
        table.add(*cells, *([f"{each['number']:.3f}"] if numbered else []))
    show(table)
    for caveat in () if quiet else told["caveats"]:
        chatter.print(f"[dim]·[/] {foreign(caveat)}", highlight=False)
