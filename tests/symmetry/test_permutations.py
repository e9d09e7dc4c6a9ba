"""Permutation symmetries read off graphs: the function is kept, and as much is permuted as can be."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import nn

from whorl.errors import UsageError
from whorl.nets import NETS
from whorl.nets.training import build
from whorl.symmetry.alignment.blocks import fixed, fresh, join, leaves, length, reshape
from whorl.symmetry.alignment.permutations import ABSENT, inverse, permute, random_permutations, take
from whorl.symmetry.alignment.tracing import permutation_spec

SHAPE = (3, 8, 8)
ARCHITECTURES = {
    "lenet5": 4,
    "mlp(depth=3)": 3,
    "mlp_regressor": 2,
    "vgg": 6,
    "vgg16(width=4)": 13,
    "mobilenet": 6,
    "resnet8": 6,
    "resnet14": 9,
    "resnet20": 12,
    "resnet(depth=8, width=24)": 6,
    "wrn(depth=10, widen=1)": 6,
    "wrn22-4": 13,
    "autoencoded": 8,
    "capped": 6,
    "ensemble": 18,
    "misinforming": 12,
}


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def lively(net):
    """Every vector drawn anew, so that a norm or bias in the wrong order shows."""
    for tensor in net.state_dict().values():
        if tensor.is_floating_point() and tensor.ndim == 1:
            tensor.copy_(torch.rand(tensor.shape, generator=generator(1)) + 0.5)
    return net.eval()


@torch.no_grad()
def check(net, *inputs):
    """The spec of a net whose function random permutations keep."""
    spec = permutation_spec(lively(net), inputs)
    before, answers = net.state_dict(), net(*inputs)
    moved = permute(before, spec, random_permutations(spec, generator()))
    net.load_state_dict({tensor: value.clone() for tensor, value in moved.items()})
    torch.testing.assert_close(net(*inputs), answers, rtol=0, atol=1e-5 * float(answers.abs().max()))
    return spec


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_function_is_kept(architecture):
    spec = check(build(architecture, SHAPE, 10, generator()), torch.rand(4, *SHAPE, generator=generator()))
    assert len(spec.sizes) == ARCHITECTURES[architecture]
    assert all(any(tensor in spec.learned for tensor, _ in places) for places in spec.places.values())


def test_every_architecture_of_the_catalog_is_here():
    families = {name.partition("(")[0] for name in ARCHITECTURES}
    assert set(NETS) - families == {"timm", "vae"}  # with tests of their own


def test_a_decoder_is_permuted_and_what_does_not_run_is_left_alone():
    net = NETS.make("vae", input_shape=(1, 1, 8), classes=64)
    spec = check(net, torch.rand(4, 1, 1, 8, generator=generator()))
    assert spec.sizes == {"hidden1": 64, "hidden2": 64}
    assert spec.axes("encoder.0.weight") == (None, None)


@pytest.mark.parametrize(
    ("name", "size", "permutations"),
    [
        ("resnet18", 32, 12),
        ("mobilenetv3_small_050", 32, 26),
        ("convnext_atto", 32, 16),
        ("vit_tiny_patch16_224", 0, 37),
    ],
)
def test_nets_of_timm(name, size, permutations):
    from whorl.nets.timm import import_timm

    timm = import_timm()
    net = timm.create_model(name, pretrained=False, num_classes=7, **({} if size else {"img_size": 32}))
    spec = check(net, torch.rand(2, 3, size or 32, size or 32, generator=generator()))
    assert len(spec.sizes) == permutations  # the stream and in each block the hidden layer, heads and places in them


def test_a_residual_stream_has_one_permutation():
    spec = permutation_spec(build("resnet8", SHAPE, 10, generator()))
    assert spec.axes("blocks.0.conv2.weight") == ("stem.0", "blocks.0.conv1", None, None)
    assert spec.axes("blocks.0.conv1.weight") == ("blocks.0.conv1", "stem.0", None, None)
    assert spec.axes("blocks.1.shortcut.0.weight")[0] == spec.axes("blocks.1.conv2.weight")[0]
    assert spec.axes("blocks.1.norm2.running_var") == ("blocks.1.conv2",)
    assert spec.axes("stem.0.weight")[1:] == (None, None, None)
    assert spec.axes("head.weight") == (None, "blocks.2.conv2")
    assert "blocks.1.norm2.running_var" not in spec.learned
    assert "blocks.1.norm2.weight" in spec.learned


def test_a_depthwise_convolution_carries_its_permutation():
    spec = permutation_spec(build("mobilenet", SHAPE, 10, generator()))
    assert spec.axes("blocks.1.depthwise.weight") == ("blocks.0.pointwise", None, None, None)
    assert spec.axes("blocks.1.pointwise.weight")[:2] == ("blocks.1.pointwise", "blocks.0.pointwise")


def test_flattening_keeps_places_together():
    net = build("lenet5", SHAPE, 10, generator())
    spec = permutation_spec(net)
    assert [tuple(block) for block in spec.layouts["hidden1.weight"][1]] == [(16, "conv2"), (4, None)]
    order = torch.randperm(16, generator=generator())
    moved = permute(net.state_dict(), spec, {"conv2": order})["hidden1.weight"]
    weight = net.state_dict()["hidden1.weight"]
    for place, unit in enumerate(order):
        assert torch.equal(moved[:, 4 * place : 4 * place + 4], weight[:, 4 * unit : 4 * unit + 4])


class Attention(nn.Module):
    """Query, key and value each by a layer of its own, written by hand, causal."""

    def __init__(self, width=24, heads=3):
        super().__init__()
        self.heads = heads
        self.embed = nn.Embedding(11, width)
        self.norm = nn.LayerNorm(width)
        self.query, self.key, self.value, self.output = (nn.Linear(width, width) for _ in range(4))
        self.head = nn.Linear(width, 5)

    def forward(self, tokens):
        stream = self.embed(tokens)
        x = self.norm(stream)
        query, key, value = (
            layer(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for layer in (self.query, self.key, self.value)
        )
        scores = query @ key.mT / 8**0.5 + torch.full((x.shape[1],) * 2, -torch.inf).triu(1)
        mixed = (scores.softmax(-1) @ value).transpose(1, 2).flatten(2)
        return self.head((stream + self.output(mixed)).mean(1))


def test_heads_are_permuted_as_blocks():
    torch.manual_seed(0)
    spec = check(Attention(), torch.randint(0, 11, (2, 6)))
    assert [tuple(block) for block in spec.layouts["query.weight"][0]] == [(3, "query"), (8, "query/1")]
    assert spec.axes("key.weight") == ("query*query/1", "norm")
    assert spec.axes("value.weight") == ("query*value", "norm")
    assert spec.axes("output.weight") == ("norm", "query*value")
    assert spec.axes("embed.weight") == (None, "norm")


@pytest.mark.parametrize("norm_first", [True, False])
def test_torch_attention(norm_first):
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True, norm_first=norm_first)
    net = nn.Sequential(nn.Linear(6, 16), layer, nn.Linear(16, 3))
    spec = check(net, torch.rand(2, 5, 6))
    assert spec.sizes["0"] == 16
    assert sorted(spec.sizes.values()) == [
        4,
        4,
        16,
        32,
    ]  # the heads and the places in them, the stream, the hidden layer
    assert [block.size for block in spec.layouts["1.self_attn.in_proj_weight"][0]] == [3, 4, 4]
    assert spec.axes("1.self_attn.out_proj.weight")[0] == "0"


class Assorted(nn.Module):
    """Groups, padding, slopes, concatenation, halves that gate each other, a shared and an unused weight."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 12, 3)
        self.grouped = nn.Conv2d(12, 6, 1, groups=2)
        self.norm = nn.GroupNorm(2, 12)
        self.side = nn.Conv2d(12, 5, 3, padding="same", padding_mode="reflect")
        self.bent = nn.PReLU(12)
        self.gated = nn.Linear(11, 16)
        self.inner = nn.Linear(8, 8)
        self.again = nn.Linear(8, 8)
        self.again.weight = self.inner.weight
        self.last = nn.Linear(8, 4)
        self.spare = nn.Parameter(torch.rand(9))

    def forward(self, x):
        x = self.bent(self.norm(self.stem(x)) - 1)
        x = torch.cat([self.grouped(x), self.side(x)], 1).mean((2, 3))
        left, right = self.gated(x).chunk(2, -1)
        x = left.sigmoid() * right
        x = self.again(self.inner(x).relu()) + x
        return self.last(x)


def test_what_is_cut_or_joined_keeps_the_function():
    torch.manual_seed(0)
    spec = check(Assorted(), torch.rand(3, 3, 6, 6))
    assert [tuple(block) for block in spec.layouts["stem.weight"][0]] == [(2, None), (6, "stem")]
    assert spec.axes("side.weight")[0] is None  # concatenated
    assert [tuple(block) for block in spec.layouts["gated.weight"][0]] == [(2, None), (8, "gated")]
    assert spec.axes("inner.weight") == spec.axes("again.weight") == ("gated", "gated")
    assert spec.axes("spare") == (None,)


def test_an_unknown_operation_fixes_what_it_touches():
    class Sorted(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two, self.head = nn.Linear(4, 6), nn.Linear(6, 6), nn.Linear(6, 2)

        def forward(self, x):
            return self.head(self.two(self.one(x).sort(1).values).relu())

    spec = check(Sorted(), torch.rand(3, 4))
    assert spec.sizes == {"two": 6}


def test_the_net_is_left_as_it_was():
    net = build("resnet8", SHAPE, 10, generator()).train()
    net.norm = net.stem[1].eval()
    permutation_spec(net)
    assert net.training
    assert not net.stem[1].training


def test_inverse_undoes():
    net = lively(build("resnet8", SHAPE, 10, generator()))
    spec = permutation_spec(net)
    drawn = random_permutations(spec, generator())
    back = permute(permute(net.state_dict(), spec, drawn), spec, inverse(drawn))
    assert all(torch.equal(back[tensor], value) for tensor, value in net.state_dict().items())


def test_an_absent_unit_is_zero():
    value = torch.arange(6.0).view(2, 3)
    assert take(value, 1, torch.tensor([2, ABSENT, 0, 1])).tolist() == [[2, 0, 0, 1], [5, 0, 3, 4]]
    net = build("mlp", SHAPE, 10, generator())
    index = torch.tensor([3, ABSENT, 1])
    thin = permute(net.state_dict(), permutation_spec(net), {"layers.0": index})
    assert thin["layers.0.weight"].shape == (3, 192)
    assert thin["head.weight"][:, 1].eq(0).all()


def test_blocks_of_axes():
    one, other = fresh(12), (*fresh(3), *fresh(4))
    join(one, other)
    assert [unit.size for unit in leaves(one)] == [3, 4]
    assert leaves(one) == leaves(other)
    again = reshape([fixed(2), one], [6, 2, 2])
    assert [length(axis) for axis in again] == [6, 2, 2]
    assert [unit.size for unit in leaves(one)] == [3, 2, 2]
    odd = reshape([fresh(4), fresh(6)], [3, 8])  # 3 does not divide 4
    assert all(unit.fixed for axis in odd for unit in axis)
    misfit = (*fresh(4), *fresh(9))
    join(misfit, fresh(36))
    assert not any(unit.fixed for unit in leaves(misfit))
    join((*fresh(4), *fresh(9)), beside := (*fresh(6), *fresh(6)))
    assert all(unit.fixed for unit in leaves(beside))
    for a, b in pairwise([fresh(5), fixed(5)]):
        join(a, b)
        assert leaves(a)[0].fixed


def test_refusals():
    net = build("mlp", SHAPE, 10, generator())
    spec = permutation_spec(net)
    with pytest.raises(UsageError, match="no permutation 'nothing'"):
        permute(net.state_dict(), spec, {"nothing": torch.arange(3)})
    with pytest.raises(UsageError, match="has no tensor 'more'"):
        permute({"more": torch.zeros(2)}, spec, {})
    with pytest.raises(UsageError, match=r"head\.weight is"):
        permute({"head.weight": torch.zeros(2, 2)}, spec, {"layers.0": torch.arange(64)})
    with pytest.raises(UsageError, match="give an example of its inputs"):
        permutation_spec(nn.Linear(2, 2))

    class Branching(nn.Module):
        def forward(self, x):
            return x if x.sum() > 0 else -x

    with pytest.raises(UsageError, match="can't be traced"):
        permutation_spec(Branching(), (torch.rand(2),))
