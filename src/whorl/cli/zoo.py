"""``whorl zoo``: models built from recipes."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Annotated, Any

import typer

from whorl.cli.console import bar, checked_device, guarded, line, print_json, say
from whorl.cli.options import Cache, Cluster, Device, Fresh, Jobs, Json, Quiet, TrustCode, file_to_write
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
    from whorl.zoo import language
    from whorl.zoo.cache import Zoo
    from whorl.zoo.recipe import parse_recipe

    texts = [text for text in recipes if language.is_language(text)]
    zoo = Zoo(cache, device=checked_device(device))
    wanted = [parse_recipe(text, trust_code=trust_code) for text in recipes if text not in texts]
    spoken = [language.parse_language(text) for text in texts]
    place = language.kept_in(zoo.folder.parent)
    if fresh:
        zoo.forget(wanted)
        language.forget(spoken, place)
    missing = zoo.missing(wanted)
    with bar(quiet) as told:
        done = 0

        def built(_: object) -> None:
            nonlocal done
            done += 1
            told("models", done, len(missing))

        zoo.build(wanted, workers=cluster or jobs, progress=built)
        folders = language.build_all(
            spoken, place, workers=cluster or jobs, progress=lambda count, of: told("language models", count, of)
        )
    cards = [zoo.card(recipe).model_dump() for recipe in wanted]
    if as_json:
        print_json([*cards, *(language.card(folder) for folder in folders)])
        return
    for recipe, folder in zip(spoken, folders, strict=True):
        line(f"{recipe.digest}  {folder}")
    for card in cards:
        line(f"{card['digest']}  accuracy {card['accuracy']:.3f}  agreement {_share(card['agreement'])}{_attack(card)}")


@app.command("list")
@guarded
def listing(cache: Cache = None, as_json: Json = False) -> None:
    """List what is in the zoo, and which models older code made: those are not used any more."""
    from whorl.zoo import language
    from whorl.zoo.cache import UNKNOWN, Zoo

    zoo = Zoo(cache)
    cards, spoken = list(zoo.cards()), language.cards(language.kept_in(zoo.folder.parent))
    if as_json:
        print_json([*(card.model_dump() | {"older": card.older} for card in cards), *spoken])
        return
    if not cards and not spoken:
        say("no models yet. Type: whorl zoo build RECIPE")
        return
    trojans = ["attack success"] if any(card.attack_success is not None for card in cards) else []
    table = Table([Column(name) for name in ("digest", "accuracy", *trojans, "agreement", "recipe")])
    for card in cards:
        age = f" {UNKNOWN if card.older == UNKNOWN else 'older code'}" if card.older else ""
        marks = f"{' damaged' if card.damaged else ''}{age}"
        success = [_share(card.attack_success)] if trojans else []
        table.add(card.digest, f"{card.accuracy:.3f}{marks}", *success, _share(card.agreement), card.recipe)
    for told in spoken:
        age = "older code" if told["older"] else "-"
        table.add(told["digest"], age, *(["-"] if trojans else []), "-", told["recipe"])
    show(table)


@app.command("card")
@guarded
def card(recipe: RecipeText, trust_code: TrustCode = False, cache: Cache = None) -> None:
    """Print the card of one model as JSON."""
    from whorl.zoo import language
    from whorl.zoo.cache import Zoo
    from whorl.zoo.recipe import parse_recipe

    if language.is_language(recipe):
        place = language.kept_in(Zoo(cache).folder.parent)
        print_json(language.card(language.built(language.parse_language(recipe), place)))
        return
    print_json(Zoo(cache).card(parse_recipe(recipe, trust_code=trust_code)).model_dump())


@app.command("export")
@guarded
def export(
    recipe: RecipeText,
    output: Annotated[Path, typer.Option("--output", "-o", help="Where to write the model.", callback=file_to_write)],
    trust_code: TrustCode = False,
    cache: Cache = None,
) -> None:
    """Copy a built model out of the zoo; the file says which architecture it is. A language model is a folder."""
    from whorl.zoo import language
    from whorl.zoo.cache import Zoo
    from whorl.zoo.recipe import parse_recipe

    zoo = Zoo(cache)
    if language.is_language(recipe):
        made = language.built(language.parse_language(recipe), language.kept_in(zoo.folder.parent))
        if output.exists():
            raise UsageError(f"{output} is there already, and a language model is a folder of its own: give another -o")
        shutil.copytree(made, output)
        line(str(output))
        return
    wanted = parse_recipe(recipe, trust_code=trust_code)
    zoo.card(wanted)
    output.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(zoo.path(wanted), output)
    line(str(output))


def _attack(card: dict[str, Any]) -> str:
    """How well the trigger works that the recipe planted, if one did."""
    return "" if card["attack_success"] is None else f"  attack success {card['attack_success']:.3f}"


def _share(value: float | None) -> str:
    """A share, or a dash where there is none: the victim has other classes, or nothing planted a trigger."""
    return "-" if value is None else f"{value:.3f}"
