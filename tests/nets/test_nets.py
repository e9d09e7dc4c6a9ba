"""Every net of the catalog: shapes, reproducible builds, true hidden units, exact folding, files."""

from __future__ import annotations

import copy
import json

import pytest
import torch
from torch import nn

from whorl.errors import InvalidFile, UsageError
from whorl.nets import ESTIMATORS, NETS
from whorl.nets.autoencoded import Autoencoded
from whorl.nets.base import Predictor
from whorl.nets.capped import Capped
from whorl.nets.ensemble import Ensemble
from whorl.nets.files import read_model, write_model
from whorl.nets.generative import VAE
from whorl.nets.misinforming import Misinforming
from whorl.nets.timm import TimmNet
from whorl.nets.training import Schedule, _augment, build, fit, predict
from whorl.oracles.torch import frozen
from whorl.storage import read_tensors, write_tensors
from whorl.testing import tiny_data, tiny_net
from whorl.testing.unchanged import chance_unchanged, same_bytes

SHAPES = [(1, 8, 8), (3, 16, 16), (3, 32, 32)]
CLASSES = 7
# A decoder takes codes and nets of nets have no head of their own, timm's go by a name; they have tests of their own.
PREDICTORS = [name for name in NETS if NETS[name] not in (VAE, Ensemble, Autoencoded, Capped, Misinforming, TimmNet)]
SMALL = {
    "wrn22-4": "wrn(depth=10, widen=1)",
    "wrn": "wrn(depth=10, widen=1)",
    "resnet": "resnet(depth=8, width=4)",
    "vgg16": "vgg16(width=4)",
}


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def lively(name, shape=(3, 16, 16)):
    """A net with norms that are not the identity, so that carrying and folding them shows."""
    net = build(SMALL.get(name, name), shape, CLASSES, generator())
    chance = generator(1)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor, low, high in (
                (module.weight.data, 0.5, 1.5),
                (module.bias.data, -0.5, 0.5),
                (module.running_mean, -0.5, 0.5),
                (module.running_var, 0.5, 2),
            ):
                tensor.copy_(torch.rand(tensor.shape, generator=chance) * (high - low) + low)
    return net.eval()


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", PREDICTORS)
def test_shapes(name, shape):
    net = build(name, shape, CLASSES, generator()).eval()
    assert isinstance(net, Predictor)
    inputs = torch.rand(3, *shape, generator=generator())
    with torch.no_grad():
        logits, features = net(inputs), net.features(inputs)
        assert logits.shape == (3, CLASSES)
        assert features.shape == (3, net.head.in_features)
        assert torch.equal(net.head(features), logits)
    assert logits.isfinite().all()
    assert len(logits.unique(dim=0)) == 3
    assert (net.input_shape, net.classes) == (shape, CLASSES)


@pytest.mark.parametrize("name", PREDICTORS)
def test_build_is_deterministic_and_leaves_global_chance_alone(name):
    with chance_unchanged(name):
        first, again, other = (build(name, (3, 16, 16), CLASSES, generator(seed)) for seed in (0, 0, 1))
    for key, tensor in first.state_dict().items():
        assert same_bytes(tensor, again.state_dict()[key]), key
    assert not torch.equal(first.head.weight, other.head.weight)
    assert all(parameter.device.type == "cpu" for parameter in first.parameters())


@pytest.mark.parametrize("name", PREDICTORS)
@torch.no_grad()
def test_hidden_units_can_be_permuted(name):
    """Each layer's units in any order give the same function, which shows who makes, carries and reads them."""
    net = lively(name)
    inputs = torch.rand(4, 3, 16, 16, generator=generator(2))
    expected = net(inputs)
    assert net.hidden_units()
    for units in net.hidden_units():
        order = torch.randperm(units.count, generator=generator(3))
        for layer in (units.producer, *units.carriers):
            for tensor in (*layer.parameters(), *layer.buffers()):
                if tensor.ndim:
                    assert len(tensor) == units.count
                    tensor.copy_(tensor[order].clone())
        moved = net(inputs)
        assert not torch.allclose(moved, expected, rtol=1e-3), "the reader has not followed yet"
        weight = units.consumer.weight
        read = weight.view(len(weight), units.count, -1) if weight.ndim == 2 else weight
        read.copy_(read[:, order].clone())
        torch.testing.assert_close(net(inputs), expected, rtol=0, atol=1e-5 * float(expected.abs().max()))


@pytest.mark.parametrize("name", PREDICTORS)
@torch.no_grad()
def test_hidden_units_can_be_scaled(name):
    """A ReLU follows the last carrier, so a positive factor there can be undone in the reader."""
    net = lively(name)
    inputs = torch.rand(4, 3, 16, 16, generator=generator(2))
    expected = net(inputs)
    for units in net.hidden_units():
        norms = [layer for layer in units.carriers if isinstance(layer, nn.BatchNorm2d)]
        for tensor in (norms[-1] if norms else units.producer).parameters():
            tensor.mul_(3)
        units.consumer.weight.div_(3)
    torch.testing.assert_close(net(inputs), expected, rtol=0, atol=1e-5 * float(expected.abs().max()))


@pytest.mark.parametrize("name", PREDICTORS)
def test_frozen_copy_folds_norms(name):
    net = lively(name)
    inputs = torch.rand(4, 3, 16, 16, generator=generator(2))
    duplicate = frozen(net.train())  # its own mode must not matter, and stays
    assert net.training
    net.eval()
    norms = {
        kind: sum(isinstance(m, nn.BatchNorm2d) for m in each.modules())
        for kind, each in (("net", net), ("frozen", duplicate))
    }
    # A pre-activation net has norms that no convolution precedes; all others fold away.
    left = 0 if "wrn" not in name else norms["net"] - len(net.hidden_units())
    assert norms["frozen"] == left
    with torch.no_grad():
        expected = net(inputs)
    point = inputs.clone().requires_grad_()
    logits = duplicate(point)
    torch.testing.assert_close(logits.detach(), expected, rtol=0, atol=1e-4 * float(expected.abs().max()))
    logits.sum().backward()
    assert point.grad is not None
    assert bool((point.grad != 0).any())
    assert not any(parameter.requires_grad for parameter in duplicate.parameters())
    assert all(parameter.requires_grad and parameter.grad is None for parameter in net.parameters())


def test_frozen_copy_of_what_cannot_be_traced():
    class Branching(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = nn.BatchNorm2d(3)

        def forward(self, x):
            return self.norm(x).mean((2, 3)) if x.sum() > 0 else x.mean((2, 3))

    net, inputs = Branching().train(), torch.rand(4, 3, 8, 8, generator=generator())
    duplicate = frozen(net)
    assert not duplicate.training
    assert net.training
    assert torch.allclose(duplicate(inputs), copy.deepcopy(net).eval()(inputs))
    assert not any(parameter.requires_grad for parameter in duplicate.parameters())


def test_standardise_takes_mean_and_spread_of_each_channel():
    net = build("mlp", (2, 8, 8), CLASSES, generator())
    images = torch.rand(50, 2, 8, 8, generator=generator()) * torch.tensor([0.5, 0.0]).view(2, 1, 1) + 0.25
    net.standardise(images)
    assert net.mean.flatten().tolist() == pytest.approx([0.5, 0.25], abs=0.01)
    assert net.std.flatten().tolist() == pytest.approx(
        [0.5 / 12**0.5, 1e-3], abs=0.01
    )  # a flat channel: no division by 0


def test_training_learns_and_repeats():
    data, held_out = tiny_data("victim"), tiny_data("test")
    nets = [build("mlp(width=32)", (1, 8, 8), 10, generator()) for _ in range(2)]
    with chance_unchanged("fit"):
        for net in nets:
            fit(net, data, Schedule(epochs=10, learning_rate=0.1, policy="one-cycle"), generator=generator())
    assert same_bytes(nets[0].head.weight, nets[1].head.weight)
    correct = (predict(nets[0], held_out.inputs()).argmax(1) == held_out.labels).float().mean()
    assert correct > 0.7
    assert not nets[0].training
    assert all(parameter.grad is None for parameter in nets[0].parameters())


def test_training_a_part_moves_that_part_only():
    net = tiny_net()
    net.stem[0].weight.requires_grad_(False)
    before = {key: tensor.clone() for key, tensor in net.state_dict().items()}
    fit(
        net,
        tiny_data("attacker"),
        Schedule(epochs=1, learning_rate=0.1),
        generator=generator(),
        parameters=list(net.head.parameters()),
    )
    moved = {key for key, tensor in net.state_dict().items() if not same_bytes(tensor, before[key])}
    assert moved == {"head.weight", "head.bias"}, "norm statistics must stay, too"
    frozen_names = [name for name, parameter in net.named_parameters() if not parameter.requires_grad]
    assert frozen_names == ["stem.0.weight"], "flags are as before"


@pytest.mark.parametrize("depth", [2, 9, 15])
def test_depths_that_are_none(depth):
    with pytest.raises(UsageError, match="depth"):
        NETS.make(f"resnet(depth={depth})", input_shape=(3, 8, 8), classes=2)
    with pytest.raises(UsageError, match="depth"):
        NETS.make(f"wrn(depth={depth})", input_shape=(3, 8, 8), classes=2)


def test_random_forest_repeats():
    data, held_out = tiny_data("victim"), tiny_data("test")
    first, again = (ESTIMATORS.make("random_forest(trees=10)", seed=3) for _ in range(2))
    for forest in (first, again):
        forest.fit(data.inputs().flatten(1).numpy(), data.labels.numpy())
    inputs = held_out.inputs().flatten(1).numpy()
    assert (first.predict_proba(inputs) == again.predict_proba(inputs)).all()
    assert (first.predict(inputs) == held_out.labels.numpy()).mean() > 0.8


@pytest.mark.parametrize("name", PREDICTORS)
def test_file_round_trip(name, tmp_path):
    net, path = lively(name), tmp_path / "net.safetensors"
    architecture = SMALL.get(name, name)
    write_model(net, path, architecture=architecture, input_shape=(3, 16, 16))
    with chance_unchanged("read_model"):
        read, header = read_model(path)
    assert (header.architecture, header.input_shape, header.classes) == (architecture, (3, 16, 16), CLASSES)
    assert not read.training
    for key, tensor in net.state_dict().items():
        assert same_bytes(tensor, read.state_dict()[key]), key
    inputs = torch.rand(4, 3, 16, 16, generator=generator(2))
    torch.testing.assert_close(predict(read, inputs), predict(net, inputs))


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "net.safetensors"
    write_model(tiny_net(), path, architecture="resnet8(width=4)", input_shape=(1, 8, 8))
    return path


def rewrite(path, tensors=None, **header):
    """The same file with other tensors or header fields."""
    old, metadata = read_tensors(path)
    document = json.loads(metadata["whorl-model"]) | header
    write_tensors(path, old if tensors is None else tensors(old), {"whorl-model": json.dumps(document)})


@pytest.mark.parametrize(
    "header",
    [
        *(
            {"architecture": text}
            for text in (
                "resnet8(width=8)",
                "resnet8(width=-1)",
                "resnet8(width=none)",
                "resnet8(width=0.5)",
                "mobilenet(width=0)",
                "mlp(depth=1000000000)",
                "mlp(width=99999999999999999999)",
                "resnet(depth=6000000002)",
                "wrn(depth=6000000004)",
                "resnet8(width=4) -> quantise",
                "resnet8(",
                "nosuch",
                "os.system(x)",
                "",
                "x" * 2000,
            )
        ),
        {"input_shape": [3, 8, 8]},
        {"input_shape": [-1, 8, 8]},
        {"input_shape": [1, 8]},
        {"input_shape": [10**12, 8, 8]},
        {"classes": 3},
        {"classes": 10**12},
        {"classes": None},
        {"format": 2},
        {"code": "import os"},
    ],
    ids=lambda header: str(header)[:60],
)
def test_lying_headers_are_refused(saved, header):
    rewrite(saved, **header)
    with pytest.raises(InvalidFile) as caught:
        read_model(saved)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "tensors",
    [
        lambda old: {key: value for key, value in old.items() if key != "head.bias"},
        lambda old: old | {"more": torch.zeros(3)},
        lambda old: old | {"head.bias": torch.zeros(3)},
        lambda old: {key: value.to(torch.int32) for key, value in old.items()},
    ],
    ids=["missing", "unknown", "shape", "integers"],
)
def test_tensors_that_do_not_fit_are_refused(saved, tensors):
    rewrite(saved, tensors)
    with pytest.raises(InvalidFile, match="does not fit") as caught:
        read_model(saved)
    assert "\n" not in str(caught.value)


def test_half_precision_is_read_as_float32(saved):
    rewrite(
        saved, lambda old: {key: value.half() if value.is_floating_point() else value for key, value in old.items()}
    )
    net, _ = read_model(saved)
    inputs = tiny_data("test").inputs()
    torch.testing.assert_close(predict(net, inputs), predict(tiny_net(), inputs), rtol=0, atol=0.1)


def test_damaged_files_are_refused(saved):
    whole = saved.read_bytes()
    for damaged in (whole[:-100], whole[100:], b"", whole.replace(b"whorl-model", b"whorl-mudel")):
        saved.write_bytes(damaged)
        with pytest.raises(InvalidFile):
            read_model(saved)
    saved.write_bytes(whole.replace(b"resnet8", b"resnet\xff"))
    with pytest.raises(InvalidFile):
        read_model(saved)


def test_augmentation_moves_and_mirrors_within_reach():
    """A single bright pixel is found at most ``shift`` away, on either side when pictures are mirrored."""
    images = torch.zeros(2000, 1, 9, 9)
    images[:, :, 4, 2] = 1
    moved = _augment(images, Schedule(epochs=1, learning_rate=1, shift=2, flip=True), generator())
    places = {(int(y), int(x)) for y, x in moved[:, 0].nonzero()[:, 1:]}
    assert len(moved[:, 0].nonzero()) == 2000
    assert places == {(y, x) for y in range(2, 7) for x in (*range(5), *range(4, 9))}
    assert torch.equal(_augment(images, Schedule(epochs=1, learning_rate=1, shift=0), generator()), images)
