"""The suites at the sizes of papers: sound recipes, the paper's own steps and figures, and a scaled-down run."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from few_pictures import few_rows
from hub_server import Hub, running_hub
from rich.console import Console
from safetensors.torch import save

from whorl.bench.result import Result, read_result, write_result
from whorl.bench.runner import run
from whorl.bench.summary import summarise
from whorl.cli.suite_table import suite_table
from whorl.expressions import parse
from whorl.nets.timm import import_timm, make_timm
from whorl.suites.paper import NULL, ZOO, downloaded
from whorl.suites.suite import SUITES, Suite
from whorl.zoo.pretrained import Pretrained
from whorl.zoo.recipe import Recipe, Train, parse_recipe

TABLES = ("ipguard/paper-cifar10", "ipguard/paper-cifar100", "ipguard/paper-imagenet")
TUNED = ["FTLL", "FTAL", "RTLL", "RTAL"]
IMAGENET = "someone/imagenet-validation"
CLASSES = 4


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """The stand-in of the hub."""
    with running_hub(tmp_path, monkeypatch) as server:
        yield server


def arguments(removal: str) -> dict[str, object]:
    return dict(parse_recipe(f"train(lenet5, digits) -> {removal}").chain.steps[-1].kwargs)


@pytest.mark.parametrize("name", TABLES)
def test_every_model_has_a_recipe_of_its_own(name: str) -> None:
    recipes = SUITES[name]().recipes()
    assert len({recipe.digest for recipe in recipes}) == len(recipes) > 60
    assert all(parse_recipe(str(recipe)) == recipe for recipe in recipes)


@pytest.mark.parametrize(("name", "weights", "filters"), list(zip(TABLES, (4, 5, 5), (7, 5, 3), strict=True)))
def test_pruning_takes_the_papers_steps(name: str, weights: int, filters: int) -> None:
    suite = SUITES[name]()
    taken = {row.label: arguments(row.removal)["amount"] for row in suite.derived if "prune" in row.removal}
    expected = {f"WP p=.{p}": p / 10 for p in range(1, weights + 1)}
    expected |= {f"FP c={c}/16": c / 16 for c in range(1, filters + 1)}
    assert {label: float(amount) for label, amount in taken.items()} == pytest.approx(expected)
    assert [row.label for row in suite.derived] == [*TUNED, *expected]


def test_the_papers_victims_and_negatives() -> None:
    first, second, third = (SUITES[name]() for name in TABLES)
    assert [parse(suite.victims[0].first.architecture).name for suite in (first, second)] == ["resnet20", "wrn22-4"]
    for suite, data in ((first, "cifar10"), (second, "cifar100")):
        nets = {group: parse(group_of[0].first.architecture).name for group, group_of in suite.independents.items()}
        same = parse(suite.victims[0].first.architecture).name
        assert nets == {
            "same architecture": same,
            "VGG-16": "vgg16",
            "LeNet-5": "lenet5",
            "random forest": "random_forest",
        }
        assert f'hf("uoft-cs/{data}")' == suite.data
    assert _timm_name(third.victims[0]) == "resnet50.tv_in1k"
    assert [_timm_name(model) for group in third.independents.values() for model in group] == list(ZOO.values())


@pytest.mark.parametrize("name", TABLES)
def test_thieves_and_queries_have_pictures_of_their_own(name: str) -> None:
    suite = SUITES[name]()
    for recipe in (*suite.victims, *suite.null):
        first = recipe.first
        assert not isinstance(first, Train) or first.part == "victim+calibration"
    assert {arguments(row.removal)["part"] for row in suite.derived} == {"attacker"}


@pytest.mark.parametrize("name", TABLES)
def test_the_papers_figures_stand_beside_what_they_are_of(name: str) -> None:
    suite = SUITES[name]()
    rows = [row.label for row in suite.derived]
    assert set(suite.paper_accuracy) == {"victim", *rows, *suite.independents}
    assert set(suite.paper) - {"extraction seconds"} <= {*rows, *suite.independents}
    for figures in suite.paper.values():
        assert set(figures) <= set(suite.schemes)
    assert set(suite.paper["extraction seconds"]) == {"random", "fgsm", "igsm", "cw-l2", "ipguard"}
    assert suite.budget == 100
    if name == TABLES[0]:
        assert (suite.paper_accuracy["FP c=7/16"], suite.paper["FP c=7/16"]["cw-l2"]) == (".88", ".71")
        assert suite.paper["VGG-16"]["ipguard"] == "[0, .01]"


def test_timm_has_weights_under_these_names() -> None:
    suite = SUITES["ipguard/paper-imagenet"]()
    named = {_timm_name(recipe) for recipe in suite.recipes() if recipe.parent is None}
    timm = import_timm()
    known = set(timm.list_models(pretrained=True))
    assert named <= known
    assert named == {"resnet50.tv_in1k", *ZOO.values(), *NULL}
    for name in named:
        assert timm.models.get_pretrained_cfg(name).num_classes == 1000, name
    assert len(NULL) >= 19, "with fewer there is no verdict at alpha .05"


def _timm_name(recipe: Recipe) -> str:
    assert isinstance(recipe.first, Pretrained)
    call = parse(recipe.first.architecture)
    assert (call.name, recipe.first.checkpoint) == ("timm", "")
    return str(dict(call.kwargs)["name"])


def test_imagenet_may_lie_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    usual = SUITES[TABLES[2]]()
    monkeypatch.setenv("WHORL_IMAGENET", 'folder("pictures", size=224)')
    suite = SUITES[TABLES[2]]()
    assert suite.data == 'folder("pictures", size=224)'
    assert {recipe.data for recipe in suite.recipes()} == {"folder(path=pictures, size=224, seed=0)"}
    assert not {recipe.digest for recipe in suite.recipes()} & {recipe.digest for recipe in usual.recipes()}


def put_weights(hub: Hub, name: str, seed: int) -> None:
    """Random weights of a small net of timm, where the hub keeps the true ones."""
    with torch.device("meta"):
        net = make_timm(name, channels=3, classes=CLASSES)
    chance = torch.Generator().manual_seed(seed)
    drawn = {key: torch.randn(value.shape, generator=chance) / 10 for key, value in net.state_dict().items()}
    drawn |= {key: value.abs() + 0.5 for key, value in drawn.items() if key.endswith("running_var")}
    hub.repositories[net.pretrained_cfg["hf_hub_id"]] = {"model.safetensors": save(drawn)}


def scaled_down(hub: Hub) -> Suite:
    """The third table with nets of half a million weights, and fewer of everything."""
    hub.repositories[IMAGENET] = {"data/train-00000-of-00001.parquet": few_rows(classes=CLASSES, each=20)}
    nets = ("test_resnet", "test_efficientnet", "test_vit", "test_byobnet", "test_convnext")
    for seed, name in enumerate(nets):
        put_weights(hub, name, seed)
    data = f'hf("{IMAGENET}", size=16)'
    victim, first, second, *null = (parse_recipe(f"pretrained(timm(name={name}), data={data})") for name in nets)
    zoo = {"ResNet-152": (first,), "Inception v3": (second,)}
    whole = downloaded(TABLES[2], data, victim=(victim,), zoo=zoo, null=tuple(null))
    schemes = {"random": "random", "fgsm": "fgsm", "ipguard": "ipguard(margin=0.1, iterations=5)"}
    return replace(
        whole.attacked("FTLL,WP p=.5,FP c=3/16"), known=whole.known[:1], schemes=schemes, budget=6, alpha=0.4
    )


def test_a_scaled_down_copy_runs_from_the_hub_to_the_table(hub: Hub, tmp_path: Path) -> None:
    suite = scaled_down(hub)
    result = run(suite, folder=tmp_path / "zoo", workers=1)
    assert len(result.cells) == (3 + 2) * 3
    assert result.null_size == 2
    assert {model.role for model in result.models} == {"victim", *result.rows, *result.groups}
    copies = [cell.similarity for cell in result.cells if cell.kind == "derived" and cell.suspect == "WP p=.5"]
    assert min(copies) >= 0.5
    fetched = [asked for asked in hub.asked if asked.startswith("GET") and asked.endswith("safetensors")]
    assert len(fetched) == 5, "each checkpoint once"
    write_result(result, tmp_path / "result.json")
    again = read_result(tmp_path / "result.json")
    assert again.paper_accuracy == dict(suite.paper_accuracy)
    shown = printed(again)
    assert "victim" in shown
    for label, figure in (("victim", "(.75)"), ("FP c=3/16", "(.72)"), ("independent: Inception v3", "(.78)")):
        assert any(label in line and figure in line for line in shown.splitlines()), label
    plain = printed(again.model_copy(update={"paper_accuracy": {}}))
    assert "accuracy" not in plain.splitlines()[1]


def printed(result: Result) -> str:
    console = Console(file=io.StringIO(), width=200)
    for part in suite_table(result, summarise(result)):
        console.print(part)
    text = console.file
    assert isinstance(text, io.StringIO)
    return text.getvalue()
