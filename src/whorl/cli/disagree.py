"""``whorl disagree``: how often do two models disagree, and how near to ordinary inputs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from whorl.cli import completion
from whorl.cli.console import bar, guarded, model_options, out, print_json, say
from whorl.cli.options import Architecture, Classes, Json, Quiet, Set, Shape, TrustCode, TrustHost
from whorl.cli.table import Column, Table, show
from whorl.printable import counted

if TYPE_CHECKING:
    from whorl.explanations.disagreement import Disagreement

__all__ = ["disagree"]

SHOWN = 10  # pairs of classes; --json has them all


@guarded
def disagree(
    first: Annotated[str, typer.Argument(help="A model: a file, a folder with model.toml, or an address.")],
    second: Annotated[str, typer.Argument(help="Another model of the same classes.")],
    data: Annotated[
        str,
        typer.Option(
            help="What to ask both, as in digits or 'folder(./pictures, size=32)'.", autocompletion=completion.sources
        ),
    ],
    part: Annotated[str, typer.Option(help="Part of the data, or several joined by +.")] = "queries+test",
    most: Annotated[float, typer.Option(help="The rate of disagreement to refute.")] = 0.01,
    alpha: Annotated[float, typer.Option(help="At which level.")] = 0.05,
    inputs: Annotated[int, typer.Option(min=1, help="Inputs to search from.")] = 200,
    steps: Annotated[int, typer.Option(min=1, help="Steps from each, where both models give gradients.")] = 60,
    seed: Annotated[int, typer.Option(help="Of the order of the inputs.")] = 0,
    architecture: Architecture = None,
    classes: Classes = None,
    shape: Shape = None,
    settings: Set = None,
    trust_code: TrustCode = False,
    trust_host: TrustHost = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Say how often two models disagree, between which classes, and how near to ordinary inputs.

    Where both give gradients they are climbed; else labels alone are asked.

    Example: whorl disagree old.safetensors new.safetensors --data digits
    """
    import torch

    from whorl.data import SOURCES
    from whorl.explanations import Search
    from whorl.explanations import disagree as search
    from whorl.oracles.opening import open_oracle

    options = model_options(architecture, classes, shape, settings)
    one, other = (
        open_oracle(model, trust_code=trust_code, trust_hosts=trust_host or (), **options) for model in (first, second)
    )
    asked = SOURCES.make(data).load(part)
    with bar(quiet) as told:
        told("searching", 0, 0)
        how = Search(most=most, alpha=alpha, inputs=inputs, steps=steps)
        found = search(one, other, asked, generator=torch.Generator().manual_seed(seed), search=how)
    document = _document(found, asked.classes)
    if as_json:
        print_json(document)
        return
    _show(document)
    if not quiet:
        say(f"In rules: whorl explain {first} {second} --data {data!r}")


def _document(found: Disagreement, classes: tuple[str, ...]) -> dict[str, Any]:
    def named(label: int) -> str:
        return classes[label] if label < len(classes) else str(label)

    nearest = found.found.by_pair()
    near = {
        (one, other): distance
        for one, other, distance in zip(
            nearest.first.tolist(), nearest.second.tolist(), nearest.distances.tolist(), strict=True
        )
    }
    rate = found.rate
    pairs = sorted(found.pairs.keys() | near.keys(), key=lambda pair: (near.get(pair, float("inf")), pair))
    return {
        "differing": rate.differing,
        "asked": rate.asked,
        "interval": [rate.interval.low, rate.interval.high],
        "most": rate.most,
        "p_value": rate.p_value,
        "refuted_after": rate.needed,
        "by": found.by,
        "searched": found.searched,
        "found": len(found.found),
        "median_distance": float(found.found.distances.median()) if len(found.found) else None,
        "pairs": [
            {"first": named(one), "second": named(other), "inputs": found.pairs.get((one, other), 0)}
            | {"nearest": near.get((one, other))}
            for one, other in pairs
        ],
    }


def _show(document: dict[str, Any]) -> None:
    low, high = document["interval"]
    out.print(
        f"{document['differing']} of {document['asked']} inputs get different labels: {low:.2%} to {high:.2%} of such "
        "inputs, at 95% confidence",
        highlight=False,
    )
    after = document["refuted_after"]
    told = "is not refuted" if after is None else f"is refuted after {counted(after, 'input')}"
    p = f"p {document['p_value']:.2g}" if document["p_value"] else "p below 1e-300"  # it is never 0, but rounds to it
    out.print(f"a rate of at most {document['most']:g} {told} ({p})", highlight=False)
    median = (
        "" if document["median_distance"] is None else f", at a median distance of {document['median_distance']:.3g}"
    )
    out.print(
        f"searched by {document['by']} from {document['searched']} inputs on which both agree: {document['found']} "
        f"disagreements{median}",
        highlight=False,
    )
    table = Table(
        [Column("first says"), Column("second says"), Column("inputs", right=True), Column("nearest", right=True)]
    )
    for pair in document["pairs"][:SHOWN]:
        near = "-" if pair["nearest"] is None else f"{pair['nearest']:.3g}"
        table.add(pair["first"], pair["second"], str(pair["inputs"]), near)
    if document["pairs"]:
        show(table)
