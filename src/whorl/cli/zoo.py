"""``whorl zoo``: models built from recipes."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Annotated

import typer

from whorl.cli.console import bar, checked_device, guarded, line, print_json, say
from whorl.cli.options import Cache, CacheRead, Cluster, Device, Fresh, Jobs, Json, Quiet, TrustCode, file_to_write
from whorl.cli.table import Column, Table, show
from whorl.errors import UsageError

__all__ = ["app"]

app = typer.Typer(help="Models built from recipes, cached by content.", no_args_is_help=True)

RecipeText = Annotated[str, typer.Argument(help="As in 'train(resnet8(width=8), digits) -> prune_filters(4/16)'.")]


@app.command("build")
@guarded
def build(
    recipes: Annotated[list[str], typer.Argument(help="Recipes; ancestors are built first.")],
    jobs: Jobs = 0,
    cluster: Cluster = "",
    device: Device = "cpu",
    trust_code: TrustCode = False,
    cache: Cache = None,
    fresh: Fresh = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Build models over the cores. A build that is killed goes on where it stopped."""
    from whorl.zoo.cache import Zoo
    from whorl.zoo.recipe import parse_recipe

    zoo = Zoo(cache, device=checked_device(device))
    wanted = [parse_recipe(text, kind=None, trust_code=trust_code) for text in recipes]
    with bar(quiet) as show:
        zoo.build(wanted, workers=cluster or jobs, fresh=fresh, progress=show)
    cards = [zoo.card(recipe) for recipe in wanted]
    if as_json:
        print_json([card.model_dump() for card in cards])
        return
    for card in cards:
        success = "" if card.attack_success is None else f"  attack success {card.attack_success:.3f}"
        line(f"{card.digest}  accuracy {_share(card.accuracy)}  agreement {_share(card.agreement)}{success}")


@app.command("list")
@guarded
def listing(cache: CacheRead = None, as_json: Json = False) -> None:
    """List what is in the zoo, and which models older code made: those are not used any more."""
    from whorl.zoo.cache import UNKNOWN, Zoo

    cards = list(Zoo(cache).cards())
    if as_json:
        print_json([card.model_dump() | {"older": card.older} for card in cards])
        return
    if not cards:
        say("no models yet. Type: whorl zoo build RECIPE")
        return
    trojans = ["attack success"] if any(card.attack_success is not None for card in cards) else []
    table = Table([Column(name) for name in ("digest", "accuracy", *trojans, "agreement", "recipe")])
    for card in cards:
        age = f" {UNKNOWN if card.older == UNKNOWN else 'older code'}" if card.older else ""
        marks = f"{' damaged' if card.damaged else ''}{age}"
        success = [_share(card.attack_success)] if trojans else []
        table.add(card.digest, f"{_share(card.accuracy)}{marks}", *success, _share(card.agreement), card.recipe)
    show(table)


@app.command("card")
@guarded
def card(recipe: RecipeText, trust_code: TrustCode = False, cache: CacheRead = None) -> None:
    """Print the card of one model as JSON."""
    from whorl.zoo.cache import Zoo
    from whorl.zoo.recipe import parse_recipe

    print_json(Zoo(cache).card(parse_recipe(recipe, kind=None, trust_code=trust_code)).model_dump())


@app.command("export")
@guarded
def export(
    recipe: RecipeText,
    output: Annotated[Path, typer.Option("--output", "-o", help="Where to write the model.", callback=file_to_write)],
    trust_code: TrustCode = False,
    cache: CacheRead = None,
) -> None:
    """Copy a built model out of the zoo; the file says which architecture it is. A language model is a folder."""
    from whorl.storage import replacing
    from whorl.zoo.cache import Zoo
    from whorl.zoo.recipe import parse_recipe

    zoo, wanted = Zoo(cache), parse_recipe(recipe, kind=None, trust_code=trust_code)
    zoo.card(wanted)
    made = zoo.path(wanted)
    if made.is_dir():
        if output.exists():
            raise UsageError(f"{output} is there already, and a language model is a folder of its own: give another -o")
        with replacing(output) as temporary:
            temporary.mkdir()
            for each in made.glob("[!.]*"):  # what begins with a dot a killed build left
                shutil.copyfile(each, temporary / each.name)
    else:
        with replacing(output) as temporary:
            shutil.copyfile(made, temporary)
    line(str(output))


def _share(value: float | None) -> str:
    """A share, or a dash where there is none: of a language model, of other classes, or where no trigger is."""
    return "-" if value is None else f"{value:.3f}"
