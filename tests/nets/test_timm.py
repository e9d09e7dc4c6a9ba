"""timm's architectures as nets: timm's own function, pictures of any size, named filters, files, one-line refusals."""

from __future__ import annotations

import copy
import sys

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from whorl.errors import InvalidFile, MissingExtra, UsageError
from whorl.nets import NETS
from whorl.nets.files import read_model, write_model
from whorl.nets.timm import TimmNet, import_timm, make_timm
from whorl.nets.training import Schedule, accuracy, build, fit
from whorl.oracles.torch import TorchOracle, frozen
from whorl.removals import REMOVALS
from whorl.testing import tiny_data
from whorl.testing.unchanged import chance_unchanged

SHAPE = (3, 16, 16)
CONVOLUTIONAL = ["test_resnet", "test_efficientnet", "test_byobnet"]


def random_weights(module: nn.Module, seed: int = 0) -> nn.Module:
    """Weights and norms of a trained net's sizes, without touching global chance."""
    chance = torch.Generator().manual_seed(seed)
    module.to_empty(device="cpu")
    with torch.no_grad():
        for name, value in module.state_dict().items():
            drawn = torch.randn(value.shape, generator=chance) / max(1, value[0].numel() if value.ndim else 1) ** 0.5
            value.copy_(torch.rand(value.shape, generator=chance) + 0.5 if name.endswith("var") else drawn)
    return module.eval()


def of_timm(name: str, classes: int = 5) -> nn.Module:
    with torch.device("meta"):
        made = make_timm(name, channels=3, classes=classes)
    return random_weights(made)


def filled(name: str, weights: dict[str, Tensor], shape: tuple[int, int, int] = SHAPE) -> TimmNet:
    with torch.device("meta"):
        net = NETS.make(f"timm(name={name})", input_shape=shape, classes=5)
    assert isinstance(net, TimmNet)
    net.to_empty(device="cpu").load_state_dict(net.own_weights(weights))
    return net.eval()


def pictures(count: int, shape: tuple[int, int, int] = SHAPE) -> Tensor:
    return torch.rand(count, *shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", [*CONVOLUTIONAL, "test_vit", "test_convnext", "resnetv2_50.a1h_in1k"])
@torch.no_grad()
def test_it_is_timms_function_of_resized_normalised_pictures(name: str) -> None:
    """The last one's classifier is a convolution, whose weight loses its two axes of one."""
    theirs = of_timm(name)
    net = filled(name, theirs.state_dict())
    configuration = theirs.pretrained_cfg
    mean, std = (torch.tensor(configuration[key]).view(3, 1, 1) for key in ("mean", "std"))
    inputs = pictures(2)
    size = configuration["input_size"][1:]
    # The other order: normalising after resizing is the same, as both are affine.
    expected = theirs((interpolate(inputs, size, mode="bicubic", antialias=True) - mean) / std)
    torch.testing.assert_close(net(inputs), expected, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(net.head(net.features(inputs)), net(inputs))


@torch.no_grad()
def test_pictures_of_the_right_size_stay_as_they_are() -> None:
    theirs = of_timm("test_resnet")
    net = filled("test_resnet", theirs.state_dict(), (3, 160, 160))
    inputs = pictures(1, (3, 160, 160))
    assert torch.equal(net.embed(inputs), net.body(inputs))


@pytest.mark.parametrize("name", CONVOLUTIONAL)
@torch.no_grad()
def test_filters_can_be_permuted_and_scaled(name: str) -> None:
    net = filled(name, of_timm(name).state_dict())
    units = net.hidden_units()
    assert len(units) >= 4
    assert all(one.count == one.consumer.weight.shape[1] for one in units)
    removal = REMOVALS.make("reparametrise")
    oracle = TorchOracle(net, input_shape=SHAPE, classes=5)
    made = removal(oracle, tiny_data("victim"), generator=torch.Generator().manual_seed(0))
    assert isinstance(made, nn.Module)
    assert not torch.equal(made.state_dict()[_first(made)], net.state_dict()[_first(net)])
    torch.testing.assert_close(made(pictures(3)), net(pictures(3)), rtol=1e-3, atol=1e-3)


def _first(net: nn.Module) -> str:
    units = net.hidden_units()[0]
    return next(name for name, value in net.named_parameters() if value is units.producer.weight)


@torch.no_grad()
def test_a_zeroed_filter_is_not_read() -> None:
    """Filter pruning relies on it: what carries a zeroed filter gives nothing, so it is not read."""
    net = filled("test_resnet", of_timm("test_resnet").state_dict())
    for units in net.hidden_units():
        units.producer.weight[0] = 0
        for layer in (units.producer, *units.carriers):
            for vector in (each for each in layer.parameters() if each.ndim == 1):
                vector[0] = 0
    other = copy.deepcopy(net)
    for units in other.hidden_units():
        units.consumer.weight[:, 0] += 5
    assert torch.equal(net(pictures(2)), other(pictures(2)))


def test_activations_that_are_not_relu_carry_no_units() -> None:
    with pytest.raises(UsageError, match="no filters are found"):
        filled("test_vit", of_timm("test_vit").state_dict()).hidden_units()
    with torch.device("meta"):
        relu6 = NETS.make("timm(name=mobilenetv1_100)", input_shape=SHAPE, classes=5)
    with pytest.raises(UsageError, match="no filters are found"):
        relu6.hidden_units()


@torch.no_grad()
def test_the_frozen_copy_answers_alike() -> None:
    net = filled("test_resnet", of_timm("test_resnet").state_dict())
    torch.testing.assert_close(frozen(net)(pictures(2)), net(pictures(2)), rtol=1e-4, atol=1e-4)


def test_the_victims_gradient_reaches_the_picture() -> None:
    inputs = pictures(1).requires_grad_()
    filled("test_vit", of_timm("test_vit").state_dict())(inputs).sum().backward()
    assert inputs.grad is not None
    assert inputs.grad.abs().sum() > 0


def test_built_from_nothing_it_learns_and_leaves_global_chance_alone() -> None:
    digits = tiny_data("victim")
    data = digits.subset((digits.labels < 2).nonzero().flatten())
    with chance_unchanged("timm"):
        net = build("timm(name=test_resnet)", data.input_shape, len(data.classes), torch.Generator().manual_seed(0))
    net.standardise(data.inputs())
    schedule = Schedule(epochs=2, learning_rate=0.02, batch=10, policy="one-cycle")
    fit(net, data, schedule, generator=torch.Generator().manual_seed(0))
    assert accuracy(net, data) > 0.8


def test_weights_that_whorl_does_not_draw_are_refused() -> None:
    with pytest.raises(
        UsageError, match=r"test_vit.* can't be trained from nothing: whorl draws no weights of"
    ) as told:
        build("timm(name=test_vit)", SHAPE, 5, torch.Generator())
    assert len(str(told.value).splitlines()) == 1


@torch.no_grad()
@pytest.mark.parametrize("name", ["test_resnet", "test_vit"])
def test_file_round_trip(name: str, tmp_path) -> None:
    net = filled(name, of_timm(name).state_dict())
    write_model(net, tmp_path / "net.safetensors", architecture=f"timm(name={name})", input_shape=SHAPE)
    again, header = read_model(tmp_path / "net.safetensors")
    assert header.classes == 5
    torch.testing.assert_close(again(pictures(2)), net(pictures(2)))


@pytest.mark.parametrize(
    "name", ["hf-hub:evil/model", "local-dir:/etc", "resnet50;x", "nothing_like_it", "../resnet50"]
)
def test_names_that_cannot_be(name: str, tmp_path) -> None:
    with pytest.raises(UsageError, match=r"not the name of a timm architecture|timm can't make") as told:
        NETS.make(f'timm(name="{name}")', input_shape=SHAPE, classes=5)
    assert len(str(told.value).splitlines()) == 1
    net = filled("test_resnet", of_timm("test_resnet").state_dict())
    path = tmp_path / "lying.safetensors"
    write_model(net, path, architecture=f'timm(name="{name}")', input_shape=SHAPE)
    with pytest.raises(InvalidFile, match="that whorl cannot build"):
        read_model(path)


@pytest.mark.parametrize(
    ("name", "message"),
    [("swin_tiny_patch4_window7_224", "outside of its weights"), ("levit_128", "a linear classifier is needed")],
)
def test_architectures_that_do_not_fit(name: str, message: str) -> None:
    with torch.device("meta"), pytest.raises(UsageError, match=message):
        NETS.make(f"timm(name={name})", input_shape=SHAPE, classes=5)


def test_without_timm_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(MissingExtra, match=r"whorl\[hub\]"):
        import_timm()


def test_where_timm_keeps_its_weights() -> None:
    with torch.device("meta"):
        made = [
            NETS.make(f"timm(name={name})", input_shape=SHAPE, classes=5)
            for name in ("resnet50.tv_in1k", "legacy_xception", "test_resnet")
        ]
    assert [net.repository for net in made] == [
        "timm/resnet50.tv_in1k",
        "timm/legacy_xception.tf_in1k",  # timm itself names an address of another site
        "timm/test_resnet.r160_in1k",
    ]
