"""Models that come from elsewhere: one text a meaning, timm's function, thieves behind them, refusals in one line."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from few_pictures import few_pictures
from hub_server import COMMIT, Hub, point_at, running_hub
from safetensors.torch import save, save_file
from torch import Tensor, nn

from whorl.data import SOURCES
from whorl.errors import InvalidFile, UsageError, WhorlError
from whorl.nets.files import read_model, write_model
from whorl.nets.timm import TimmNet, make_timm
from whorl.nets.training import accuracy
from whorl.testing import tiny_net
from whorl.zoo.cache import Zoo
from whorl.zoo.pretrained import Pretrained, load_pretrained
from whorl.zoo.recipe import parse_recipe

CLASSES = 4
DATA = SOURCES.make("digits").load("test").subset(slice(0, 3))
DATA = replace(DATA, images=torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(0)), classes=tuple("abcd"))
NET = "timm(name=test_resnet)"


def checkpoint(classes: int = CLASSES, name: str = "test_resnet") -> dict[str, Tensor]:
    """Weights under timm's names."""
    with torch.device("meta"):
        shapes = make_timm(name, channels=3, classes=classes).state_dict()
    chance = torch.Generator().manual_seed(0)
    drawn = {key: torch.randn(value.shape, generator=chance) / 10 for key, value in shapes.items()}
    for key in drawn:
        if key.endswith("running_var"):
            drawn[key] = drawn[key].abs() + 0.5
        elif key.endswith("num_batches_tracked"):
            drawn[key] = torch.tensor(7)
    return drawn


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """The stand-in of the hub."""
    with running_hub(tmp_path, monkeypatch) as server:
        yield server


def loaded(where: str = "", architecture: str = NET, **options: int) -> nn.Module:
    return load_pretrained(Pretrained(architecture=architecture, checkpoint=where, data="few"), DATA, **options)


def one_line(told: pytest.ExceptionInfo[Exception]) -> None:
    assert str(told.value).isprintable()


def test_equal_meaning_has_equal_text() -> None:
    recipe = parse_recipe("pretrained(timm(test_resnet), data=digits)")
    assert recipe == parse_recipe(f'pretrained({NET}, "", digits)') == parse_recipe(str(recipe))
    assert recipe.digest != parse_recipe(f'pretrained({NET}, "hub:timm/other", digits)').digest
    assert recipe.first == Pretrained(architecture=NET, data=str(SOURCES.bind("digits")))
    assert (recipe.parent, recipe.victim, recipe.is_estimator) == (None, recipe, False)
    pruned = recipe.then("prune_filters(1/16)")
    assert pruned.root == pruned.parent == recipe
    assert pruned == parse_recipe(str(pruned))


def test_a_downloaded_model_has_no_seed() -> None:
    recipe = parse_recipe(f"pretrained({NET}, data=digits)")
    with pytest.raises(UsageError, match="the same for every seed"):
        recipe.with_seed(3)
    assert recipe.then("fine_tune(all)").with_seed(3) == recipe.then("fine_tune(all, seed=3)")
    thief = recipe.then(f"extract({NET}, labels)")  # a thief with seed 0 begins elsewhere
    assert parse_recipe(str(thief)) == thief


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("pretrained(resnet20, data=digits)", "resnet20.* has no checkpoint of its own"),
        (f"pretrained({NET})", "needs data"),
        (f"pretrained({NET}, data=digits, seed=3)", "no parameter 'seed'. Known: architecture, checkpoint, data"),
        ("pretrained(timm, data=digits)", "needs name"),
        ('pretrained(resnet20, "model.pt", digits)', "no .safetensors file, and no other is loaded"),
        ('pretrained(resnet20, "hub:a/b/model.bin", digits)', "no .safetensors file"),
        ('pretrained(resnet20, "hub:a", digits)', "does not name a checkpoint"),
        ('pretrained(resnet20, "hub:a/b/../../c.safetensors", digits)', "does not name a checkpoint"),
        ('pretrained(resnet20, "hub:a/b/x y.safetensors", digits)', "does not name a checkpoint"),
        ('pretrained(random_forest, "forest.safetensors", digits)', "is no net"),
        ('pretrained(mlp_regressor, "net.safetensors", digits)', "does regression"),
        ("distilled(resnet20, digits)", "begins with train.*, pretrained"),
    ],
)
def test_mistakes_are_told_before_anything_is_fetched(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as told:
        parse_recipe(text)
    one_line(told)


def test_the_weights_of_a_file_answer(tmp_path: Path) -> None:
    weights = checkpoint()
    save_file(weights, tmp_path / "net.safetensors")
    net = loaded(str(tmp_path / "net.safetensors"))
    assert isinstance(net, TimmNet)
    assert torch.equal(net.head.weight, weights["fc.weight"])
    assert torch.equal(net.body.layer1[0].conv1.weight, weights["layer1.0.conv1.weight"])
    assert net.mean.flatten().tolist() == net.std.flatten().tolist() == [0.5, 0.5, 0.5]
    assert not net.training


def test_names_of_timm_and_of_whorl_are_both_read(tmp_path: Path) -> None:
    save_file(checkpoint(), tmp_path / "timm.safetensors")
    net = loaded(str(tmp_path / "timm.safetensors"))
    net.mean.fill_(0.25)
    write_model(net, tmp_path / "own.safetensors", architecture=NET, input_shape=(3, 16, 16))
    again = loaded(str(tmp_path / "own.safetensors"))
    assert again.state_dict().keys() == net.state_dict().keys()
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in net.state_dict().items())


def test_old_and_half_precision_files_are_read(tmp_path: Path) -> None:
    weights = {name: value.half() for name, value in checkpoint().items() if "num_batches" not in name}
    save_file(weights, tmp_path / "half.safetensors")
    net = loaded(str(tmp_path / "half.safetensors"))
    assert {value.dtype for value in net.parameters()} == {torch.float32}
    assert int(dict(net.named_buffers())["body.bn1.num_batches_tracked"]) == 0
    assert torch.equal(net.head.weight, weights["fc.weight"].float())


def test_nets_of_whorl_come_from_files_too(tmp_path: Path) -> None:
    net = tiny_net()
    write_model(net, tmp_path / "net.safetensors", architecture="resnet8(width=4)", input_shape=net.input_shape)
    recipe = parse_recipe(f'pretrained(resnet8(width=4), "{tmp_path}/net.safetensors", digits(size=8))')
    zoo = Zoo(tmp_path)
    zoo.build([recipe], workers=1)
    card = zoo.card(recipe)
    assert card.accuracy == accuracy(net, SOURCES.make("digits(size=8)").load("test")) > 0.8
    assert (card.part, card.seed, card.agreement, card.damaged, card.served) == ("", 0, 1.0, False, False)


def test_the_zoo_keeps_them_and_thieves_take_them(tmp_path: Path) -> None:
    save_file(checkpoint(), tmp_path / "net.safetensors")
    pictures = few_pictures(tmp_path, classes=CLASSES)
    victim = parse_recipe(f'pretrained({NET}, "{tmp_path}/net.safetensors", {pictures})')
    rows = [
        victim.then(removal)
        for removal in ("fine_tune(last, epochs=1)", "prune_filters(4/16, epochs=1)", "quantise(int8)")
    ]
    zoo = Zoo(tmp_path)
    zoo.build(rows, workers=1)
    (tmp_path / "net.safetensors").unlink()  # the zoo's copy is whole
    assert zoo.card(rows[0]).parents == [victim.digest]
    assert read_model(zoo.path(rows[1]))[1].architecture == NET
    answers = zoo.oracle(victim).logits(DATA.inputs())
    assert answers.shape == (len(DATA), CLASSES)
    for row in rows:
        assert 0 <= zoo.card(row).accuracy <= 1
        assert not torch.equal(zoo.oracle(row).logits(DATA.inputs()), answers)
    pruned, _ = read_model(zoo.path(rows[1]))
    assert isinstance(pruned, TimmNet)
    for units in pruned.hidden_units():
        silent = units.producer.weight.flatten(1).abs().sum(1) == 0
        assert int(silent.sum()) == round(units.count / 4)


def test_an_empty_checkpoint_is_timms_own(hub: Hub) -> None:
    hub.repositories["timm/test_resnet.r160_in1k"] = {"model.safetensors": save(checkpoint())}
    net = loaded()
    assert torch.equal(net.head.weight, checkpoint()["fc.weight"])
    loaded()
    gets = [asked for asked in hub.asked if asked.startswith("GET") and "resolve" in asked]
    assert gets == [f"GET /timm/test_resnet.r160_in1k/resolve/{COMMIT}/model.safetensors"]


@pytest.mark.parametrize("named", ["", "/model.safetensors", f"@{COMMIT}", "/model.safetensors@main"])
def test_the_hub_is_named_in_one_word(hub: Hub, named: str) -> None:
    hub.repositories["someone/net"] = {"model.safetensors": save(checkpoint()), "a/other.safetensors": b"other"}
    assert torch.equal(loaded(f"hub:someone/net{named}").head.weight, checkpoint()["fc.weight"])


def test_what_the_hub_does_not_have_is_said_in_one_line(hub: Hub) -> None:
    hub.repositories["a/net"] = {"pytorch_model.bin": b"pickle", "b.safetensors": b""}
    hub.repositories["a/pickles"] = {"pytorch_model.bin": b"pickle"}
    for where, reason in {
        "hub:a/absent": "no model 'a/absent' that you may read",
        "hub:a/net": "has no file model.safetensors; it has b.safetensors",
        "hub:a/pickles": "has no file model.safetensors; it has no .safetensors file",
        "hub:a/net/b.safetensors@yesterday": "no model 'a/net' .*that you may read",
        "hub:-a/net": "is no name of a model",
    }.items():
        with pytest.raises(UsageError, match=reason) as told:
            loaded(where)
        one_line(told)
    assert not any("resolve" in asked for asked in hub.asked)


def test_the_network_may_be_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hub: Hub) -> None:
    hub.plain["a/odd"] = (200, b"<html>Log in to this network</html>")
    with pytest.raises(WhorlError, match=r"cannot get 'a/odd' .* or fetch model.safetensors elsewhere") as told:
        loaded("hub:a/odd")
    one_line(told)
    hub.shutdown()
    hub.server_close()
    point_at(hub.server_port, tmp_path, monkeypatch)
    with pytest.raises(WhorlError, match=r"cannot get 'a/far' .* Check the network") as told:
        loaded("hub:a/far")
    one_line(told)


def test_a_file_that_is_too_large_is_not_fetched(hub: Hub) -> None:
    hub.repositories["a/huge"] = {"model.safetensors": b""}
    hub.sizes["model.safetensors"] = 2**40
    with pytest.raises(InvalidFile, match="of the hub's a/huge has 1,099,511,627,776 bytes; at most") as told:
        loaded("hub:a/huge")
    one_line(told)
    assert not any("resolve" in asked for asked in hub.asked)


def test_hostile_and_wrong_files_are_refused(tmp_path: Path) -> None:
    weights = checkpoint()
    files = {
        "pickle": (b"\x80\x02cos\nsystem\n.", "not a whole safetensors file"),
        "cut": (save(weights)[:5000], "not a whole safetensors file"),
        "other": (save(checkpoint(name="test_vit")), "does not fit the architecture: missing"),
        "classes": (save(checkpoint(classes=7)), r"head.weight \[7, 96\] instead of \[4, 96\]"),
        "extra": (save(weights | {"evil\nname": torch.zeros(2)}), "unexpected body.evil name"),
        "nan": (save(weights | {"fc.bias": torch.full((CLASSES,), float("nan"))}), "NaN or an infinity in 'fc.bias'"),
    }
    for name, (content, message) in files.items():
        path = tmp_path / f"{name}.safetensors"
        path.write_bytes(content)
        with pytest.raises(InvalidFile, match=message) as told:
            loaded(str(path))
        one_line(told)
    with pytest.raises(UsageError, match="no such file"):
        loaded(str(tmp_path / "absent.safetensors"))
    (tmp_path / "net.safetensors").write_bytes(save(weights))
    with pytest.raises(InvalidFile, match="at most 1,000 are read"):
        loaded(str(tmp_path / "net.safetensors"), max_bytes=1000)
    with pytest.raises(UsageError, match="timm can't make"):
        loaded(str(tmp_path / "net.safetensors"), "timm(name=unheard_of)")
