"""``whorl explain``: where do two models differ, in rules."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from whorl.cli import completion
from whorl.cli.console import bar, guarded, model_options, out, print_json
from whorl.cli.options import Architecture, Classes, Json, Quiet, Set, Shape, TrustCode, TrustHost
from whorl.cli.table import Column, Table, show

if TYPE_CHECKING:
    from whorl.explanations import Explanation

__all__ = ["explain"]

SHOWN = 6  # rules of the disagreement; --json has them all


@guarded
def explain(
    first: Annotated[str, typer.Argument(help="A model: a file, a folder with model.toml, or an address.")],
    second: Annotated[str, typer.Argument(help="Another model of the same classes.")],
    data: Annotated[
        str,
        typer.Option(
            help="What to ask both, as in breast_cancer or 'folder(./pictures, size=32)'.",
            autocompletion=completion.sources,
        ),
    ],
    part: Annotated[str, typer.Option(help="Part of the data, or several joined by +.")] = "queries+test",
    regions: Annotated[int, typer.Option(min=1, help="Superpixels, where the data are pictures.")] = 16,
    depth: Annotated[int, typer.Option(min=1, help="Bounds in a rule, at most.")] = 4,
    seed: Annotated[int, typer.Option(help="Of the division into rows that make rules and rows that judge them.")] = 0,
    architecture: Architecture = None,
    classes: Classes = None,
    shape: Shape = None,
    settings: Set = None,
    trust_code: TrustCode = False,
    trust_host: TrustHost = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Say in rules where two models differ, and which rule of the one became which of the other.

    Both are asked for labels only. Precision and recall are those of rows that did not make the rules.

    Example: whorl explain old.safetensors new.safetensors --data breast_cancer
    """
    from whorl.data import SOURCES
    from whorl.explanations import explain as compare
    from whorl.oracles.opening import open_oracle

    options = model_options(architecture, classes, shape, settings)
    one, other = (
        open_oracle(model, trust_code=trust_code, trust_hosts=trust_host or (), **options) for model in (first, second)
    )
    with bar(quiet) as told:
        told("comparing", 0, 0)
        found = compare(one, other, SOURCES.make(data).load(part), regions=regions, depth=depth, seed=seed)
    if as_json:
        print_json(_document(found))
    else:
        _show(found)


def _document(found: Explanation) -> dict[str, Any]:
    delta, comparison, names = found.delta, found.comparison, found.names
    return {
        "rows": delta.rows,
        "disagreement": delta.disagreement,
        "precision": delta.precision,
        "recall": delta.recall,
        "rules": [
            {
                "rule": each.rule.describe(names),
                "covered": each.covered,
                "precision": each.precision,
                "recall": each.recall,
            }
            for each in delta.found
        ],
        "change": comparison.score,
        "fidelity": list(comparison.fidelity),
        "changes_cover": comparison.covered,
        "changes_precision": comparison.precision,
        "changes": [
            {
                "kind": each.kind,
                "class": found.classes[each.label] if each.label < len(found.classes) else str(each.label),
                "before": each.before.describe(names) if each.before else None,
                "after": each.after.describe(names) if each.after else None,
                "similarity": each.similarity,
            }
            for each in comparison.changes
        ],
    }


def _show(found: Explanation) -> None:
    document = _document(found)
    out.print(f"{document['disagreement']:.1%} of {document['rows']} rows get different labels", highlight=False)
    if document["rules"]:
        out.print(
            f"\n[bold]Where they differ[/]  the rules hold for {_percent(document['recall'])} of all differences, and "
            f"where one holds {_percent(document['precision'])} of rows differ",
            highlight=False,
        )
        table = Table([Column("of differences", right=True), Column("of rows there", right=True), Column("rule")])
        for rule in document["rules"][:SHOWN]:
            table.add(_percent(rule["recall"]), _percent(rule["precision"]), rule["rule"])
        show(table)
    out.print(
        f"\n[bold]What changed[/]  score {document['change']:.2f}; the rules say what each model says on "
        f"{document['fidelity'][0]:.0%} and {document['fidelity'][1]:.0%} of rows; changed rules cover "
        f"{_percent(document['changes_cover'])} of the differences",
        highlight=False,
    )
    table = Table([Column(name) for name in ("", "class", "before", "after")])
    for change in document["changes"]:
        table.add(*(change[key] or "" for key in ("kind", "class", "before", "after")))
    show(table)


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.0%}"
