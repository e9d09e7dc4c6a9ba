"""``whorl guard``: what guards cost the clients and the thieves of your service, and whom they suspect."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from whorl.cli import completion
from whorl.cli.console import bar, guarded, model_options, print_json
from whorl.cli.options import Architecture, Cache, Classes, Json, Quiet, Set, Shape, TrustCode, Wide
from whorl.cli.table import Column, Table, show

if TYPE_CHECKING:
    from pathlib import Path

    from whorl.oracles.base import Oracle

__all__ = ["guard"]


@guarded
def guard(
    service: Annotated[str, typer.Argument(help="Your service's model, or its recipe: 'train(resnet8, digits)'.")],
    data: Annotated[
        str, typer.Option(help="Pictures that it is asked about, as in digits.", autocompletion=completion.sources)
    ],
    guards: Annotated[
        list[str] | None,
        typer.Option(
            "--guard",
            help="A guard, as in 'answer_poisoned(epsilon=1.0)'. Repeatable. [nine of them]",
            autocompletion=completion.removals,
        ),
    ] = None,
    thief: Annotated[
        list[str] | None,
        typer.Option(
            help="A thief, as in 'knockoff(mlp, probabilities)'. Repeatable. [knockoff, jacobian, data_free]",
            autocompletion=completion.removals,
        ),
    ] = None,
    clients: Annotated[int, typer.Option(help="Honest clients, among whom thieves are ranked.")] = 20,
    length: Annotated[int, typer.Option(min=1, help="Questions of each client.")] = 300,
    alpha: Annotated[float, typer.Option(help="Rate of the watch that never ends.")] = 0.01,
    seed: Annotated[int, typer.Option(min=0, help="Of thieves, guards and clients.")] = 0,
    architecture: Architecture = None,
    classes: Classes = None,
    shape: Shape = None,
    settings: Set = None,
    trust_code: TrustCode = False,
    cache: Cache = None,
    wide: Wide = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Steal your own service, behind each guard and without one, and see what honest clients would have noticed.

    Takes minutes; what is finished is kept, and the same command goes on.

    Example: whorl guard mine.safetensors --data 'digits(size=16)' --guard answer_labels --guard detect_queries

    From a recipe: whorl guard 'train(resnet8, digits)' --data digits --json
    """
    from whorl.guards.table import GUARDS, THIEVES, GuardSettings, guard_table
    from whorl.zoo.cache import default_cache

    chosen = tuple((each.partition("(")[0], each) for each in thief or ()) or tuple(THIEVES.items())
    names = [name for name, _ in chosen]
    if len(set(names)) < len(names):
        chosen = tuple((each, each) for _, each in chosen)
    wanted = GuardSettings(data, tuple(guards or GUARDS), chosen, clients, length, alpha, seed)
    folder = cache or default_cache()
    options = model_options(architecture, classes, shape, settings) | {"trust_code": trust_code}
    with bar(quiet) as told:
        found = guard_table(_opened(service, folder, options, told), wanted, folder=folder, progress=told)
    if as_json:
        print_json(found)
    else:
        _show(found, wide)


def _opened(service: str, folder: Path, options: dict[str, Any], told: Any) -> Oracle:
    from whorl.oracles.opening import open_oracle
    from whorl.zoo.cache import Zoo
    from whorl.zoo.recipe import parse_recipe

    if not service.startswith("train("):
        return open_oracle(service, **options)
    recipe, zoo = parse_recipe(service, trust_code=options["trust_code"]), Zoo(folder)
    zoo.build([recipe], workers=1, progress=told)
    return zoo.oracle(recipe)


def _show(found: dict[str, Any], wide: bool) -> None:
    thieves = list(found["guards"][0]["thieves"])
    columns = [Column("guard"), Column("accuracy", right=True), *(Column(name, right=True) for name in thieves)]
    table = Table(columns, title="what honest clients get, and how often a thief's copy answers like the service")
    for row in found["guards"]:
        table.add(row["guard"], f"{row['accuracy']:.3f}", *(_cell(row["thieves"][name]) for name in thieves))
    show(table, wide=wide)
    columns = [Column("watch"), Column("asks"), Column("suspected after", right=True), Column("rank p", right=True)]
    table = Table(columns, title="who is suspected")
    for watch, known in found["watches"].items():
        for name, each in known["thieves"].items():
            table.add(watch, name, str(each["detected"] or "never"), f"{each['p']:.3f}")
        for kind in dict.fromkeys(client["kind"] for client in known["clients"]):
            alarms = [client["detected"] is not None for client in known["clients"] if client["kind"] == kind]
            table.add(watch, f"honest: {kind}", f"{sum(alarms)} of {len(alarms)} clients", "")
    show(table, wide=wide)


def _cell(cell: dict[str, Any]) -> str:
    if cell["fidelity"] is None:
        return "refused"
    marked = f" p 1e{cell['log10_p']:.0f}" if "log10_p" in cell else ""
    noticed = f" after {cell['detected']}" if cell["detected"] else ""
    return f"{cell['fidelity']:.3f}{noticed}{marked}"
