"""``whorl schemes``, ``marks``, ``removals`` and ``inspections``: what there is, and what it needs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from whorl.cli import completion
from whorl.cli.console import foreign, grants_of, guarded, out, print_json
from whorl.cli.options import Json
from whorl.cli.table import Column, Table, show
from whorl.errors import UsageError
from whorl.types import told

if TYPE_CHECKING:
    from whorl.schemes.cards import SchemeCard
    from whorl.types import Grants

__all__ = ["inspections", "marks", "removals", "schemes"]

Level = Annotated[str | None, typer.Option(help="Only those that this access allows, as in labels or gradients.")]


@guarded
def schemes(
    name: Annotated[
        str | None, typer.Argument(help="A scheme, to see its card.", autocompletion=completion.schemes)
    ] = None,
    victim_access: Level = None,
    suspect_access: Level = None,
    grid: Annotated[
        bool, typer.Option("--grid", help="List queries+representation+similarity, and why some have no meaning.")
    ] = False,
    as_json: Json = False,
) -> None:
    """List the fingerprinting schemes, or print the card of one: idea, needs, blind spots, measured results.

    Example: whorl schemes ipguard
    """
    import dataclasses

    from whorl.schemes import SCHEMES
    from whorl.schemes.cards import card

    if grid and name is not None:
        raise UsageError("--grid lists every combination; leave out the name, or leave out --grid")
    if grid:
        _show_grid(as_json)
        return
    if name is not None:
        shown = card(name)
        if as_json:
            print_json(_plain(dataclasses.asdict(shown)))
        else:
            _show_card(shown)
        return
    able = [each for each in map(card, SCHEMES) if _allows(victim_access, each.victim)]
    able = [each for each in able if _allows(suspect_access, each.suspect)]
    if as_json:
        print_json([_plain(dataclasses.asdict(each)) for each in able])
        return
    for each in able:
        out.print(f"[bold]{each.name}[/]  [dim]{foreign(_line(each))}[/]", highlight=False)
        for text in (each.idea, f"Blind to {each.blind}.", each.paper):
            out.print(f"    {foreign(text)}", highlight=False)


@guarded
def marks(as_json: Json = False) -> None:
    """List the watermarks: what is drawn, what a suspect must grant, parameters, what each is blind to.

    Example: whorl marks --json
    """
    from whorl.schemes import MARKS

    rows: list[dict[str, Any]] = []
    for name in MARKS:
        mark: Any = MARKS[name]
        rows.append(
            {
                "name": name,
                "drawn": mark.kind if mark.null == "design" else "nothing",
                "suspect": told(mark.needs_suspect).lower(),
                "idea": mark.idea,
                "blind": mark.blind,
                "paper": mark.paper,
                "parameters": {key: _shown(value) for key, value in MARKS.parameters(name).items()},
            }
        )
    if as_json:
        print_json(rows)
        return
    for row in rows:
        facts = f"drawn: {row['drawn']}; suspect: {row['suspect']}"
        _describe(row, facts)


@guarded
def removals(as_json: Json = False) -> None:
    """List the removal attacks: family, access that the thief needs, parameters."""
    from whorl.removals import REMOVALS

    rows: list[dict[str, Any]] = []
    for name in REMOVALS:
        removal: Any = REMOVALS[name]
        parameters = {key: _shown(value) for key, value in REMOVALS.parameters(name).items()}
        rows.append({"name": name, "family": removal.family, "needs": removal.needs.name, "parameters": parameters})
    _print(rows, as_json)


@guarded
def inspections(as_json: Json = False) -> None:
    """List the statistics that look for trojans: what they judge, access, parameters, what each is blind to.

    Those that judge nets are for the verb inspect, those that judge pictures for the verb sift.

    Example: whorl inspections --json
    """
    from whorl.inspection import INSPECTIONS, SIEVES

    rows: list[dict[str, Any]] = []
    catalogs: list[tuple[str, Any]] = [("nets", INSPECTIONS), ("pictures", SIEVES)]
    for judges, catalog, name in [(judges, every, name) for judges, every in catalogs for name in every]:
        statistic: Any = catalog[name]
        rows.append(
            {
                "name": name,
                "judges": judges,
                "needs": told(statistic.needs).lower(),
                "pictures": statistic.clean if judges == "pictures" else statistic.pictures,
                "idea": statistic.idea,
                "blind": statistic.blind,
                "paper": statistic.paper,
                "parameters": {key: _shown(value) for key, value in catalog.parameters(name).items()},
            }
        )
    if as_json:
        print_json(rows)
        return
    for row in rows:
        facts = f"judges {row['judges']}; needs {row['needs']}; {row['pictures'] or 'no'} clean pictures"
        _describe(row, facts)


def _describe(row: dict[str, Any], facts: str) -> None:
    out.print(f"[bold]{row['name']}[/]  [dim]{foreign(facts)}[/]", highlight=False)
    settings = ", ".join(f"{key}={value}" for key, value in row["parameters"].items())
    for text in (row["idea"], f"Blind to {row['blind']}.", row["paper"], settings):
        out.print(f"    {foreign(text)}", highlight=False)


def _show_grid(as_json: bool) -> None:
    import dataclasses

    from whorl.schemes.grid import combinations

    every = list(combinations())
    if as_json:
        print_json([dataclasses.asdict(each) for each in every])
        return
    for each in every:
        out.print(f"{each.name}  [dim]{foreign(each.refusal or 'works')}[/]", highlight=False)


def _show_card(shown: SchemeCard) -> None:
    """Print the card of a scheme."""
    table = Table([Column("fact"), Column("value", prose=True)], header=False)
    for word, text in _facts(shown).items():
        table.add(word, text)
    show(table)


def _line(shown: SchemeCard) -> str:
    """What both sides must grant and what it costs, in a line."""
    parts = [
        f"victim: {told(shown.victim).lower()}{' + shadow models' if shown.shadows else ''}",
        f"suspect: {told(shown.suspect).lower()}",
    ]
    if shown.measured:
        power = shown.measured["power"]
        told_power = f"power {power['hits'] / power['count']:.2f} on {shown.suite} at alpha {shown.alpha:g}"
        parts += [f"{shown.measured['inputs']:,} inputs", told_power]
    return "; ".join(parts)


def _facts(shown: SchemeCard) -> dict[str, str]:
    facts = {
        "scheme": shown.name,
        "idea": shown.idea,
        "paper": shown.paper,
        "tasks": ", ".join(shown.tasks),
        "victim": told(shown.victim).lower() + (", and shadow models" if shown.shadows else ""),
        "suspect": told(shown.suspect).lower() + (", of any number of classes" if shown.any_classes else ""),
        "pictures": "yes" if shown.pictures else "none needed",
        "verdict": "all queries are asked at once" if shown.together else "stops as soon as it is sure",
        "blind to": shown.blind,
        "settings": ", ".join(f"{key}={_shown(value)}" for key, value in shown.parameters.items()),
    }
    return facts | (_measured(shown) if shown.measured else {"measured": "in no committed benchmark"})


def _measured(shown: SchemeCard) -> dict[str, str]:
    of = shown.measured
    families = ", ".join(f"{family} {value['value']:.2f}" for family, value in of["families"].items())
    return {
        "measured on": shown.suite,
        "power": f"{of['power']['hits']} of {of['power']['count']} copies called derived at alpha {shown.alpha:g}",
        "AUC": f"{of['auc']['value']:.2f} [{of['auc']['interval']['low']:.2f}, {of['auc']['interval']['high']:.2f}]"
        + (f" of the {of['answered']:.0%} of pairs that were answered" if of["answered"] < 1 else ""),
        "above all others": f"{of['tpr']['value']:.0%} of copies",
        "AUC by removal": families,
        "accused": f"{of['accused']['hits']} of {of['accused']['count']} verdicts on independent models",
        "costs": f"extraction {of['extraction_seconds']:.1f} s; {of['inputs']:,} inputs a suspect",
    }


def _plain(document: dict[str, Any]) -> dict[str, Any]:
    levels = {key: told(document[key]).lower() for key in ("victim", "suspect")}
    return document | levels | {"parameters": {key: _shown(value) for key, value in document["parameters"].items()}}


def _allows(given: str | None, needed: Grants) -> bool:
    return given is None or needed <= grants_of(given)


def _shown(value: Any) -> Any:
    return "required" if value is ... else str(value)


def _print(rows: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        print_json(rows)
        return
    table = Table([Column(key, prose=key == "parameters") for key in rows[0]])
    for row in rows:
        settings = ", ".join(f"{key}={each}" for key, each in row["parameters"].items())
        table.add(row["name"], row["family"], row["needs"], settings)
    show(table)
