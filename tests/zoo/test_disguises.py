"""Disguises change the weights and nothing else; what a family does not admit is refused."""

from __future__ import annotations

import pytest
import torch

from whorl.errors import UsageError
from whorl.expressions import parse
from whorl.zoo.causal import LanguageModel, Roles, logits
from whorl.zoo.disguises import _rotation, obfuscate
from whorl.zoo.steps import CHANGES

FAMILIES = ("llama", "gpt2", "neox", "mixtral")
EVERYWHERE = (
    *("permute_neurons", "permute_heads", "permute_residual", "rotate_residual", "scale_norms", "mix_values"),
    *("mix_queries", "flip_signs(of=values)", "obfuscate", "obfuscate(kind=zero)", "obfuscate(kind=clique)"),
    "obfuscate(kind=split)",
)
GATED = ("scale_neurons", "scale_neurons(signs=true)", "flip_signs", "flip_signs(of=residual)")
ADMITTED = [(family, step) for family in FAMILIES for step in EVERYWHERE]
ADMITTED += [(family, step) for family in ("llama", "mixtral") for step in GATED] + [("mixtral", "permute_experts")]
REFUSED = [(family, step) for family in ("gpt2", "neox") for step in GATED] + [("llama", "permute_experts")]


def disguised(model: LanguageModel, step: str, seed: int = 0) -> LanguageModel:
    return CHANGES.make(str(parse(step)), model=model) if seed == 0 else CHANGES[parse(step).name](model, seed=seed)


def difference(model: LanguageModel, other: LanguageModel, tokens: torch.Tensor) -> float:
    """The largest difference of scores, as a share of the largest score."""
    scores = logits(model, tokens)
    return float((logits(other, tokens) - scores).abs().max() / scores.abs().max())


@pytest.mark.parametrize(("family", "step"), ADMITTED)
def test_a_disguise_keeps_the_function_and_changes_the_weights(made, base, unseen, family, step):
    model = made(base(family))
    other = disguised(model, step)
    assert difference(model, other, unseen) < 1e-4
    changed = {name for name, value in model.tensors.items() if not torch.equal(value, other.tensors[name])}
    assert len(changed) >= 2


@pytest.mark.parametrize(("family", "step"), REFUSED)
def test_what_a_family_does_not_admit_is_refused_in_one_line(made, base, family, step):
    with pytest.raises(UsageError) as refusal:
        disguised(made(base(family)), step)
    assert len(str(refusal.value).splitlines()) == 1


def test_disguises_depend_on_their_seed_alone(made, base):
    model = made(base("llama"))
    for step in EVERYWHERE[:6]:
        first, again, other = disguised(model, step), disguised(model, step), disguised(model, step, seed=1)
        assert all(torch.equal(value, again.tensors[name]) for name, value in first.tensors.items()), step
        assert not all(torch.equal(value, other.tensors[name]) for name, value in first.tensors.items()), step


@pytest.mark.parametrize("family", FAMILIES)
def test_a_stack_of_disguises_keeps_the_function_and_leaves_no_matrix_alike(made, base, unseen, family):
    model = other = made(base(family))
    for step in ("mix_values", "permute_neurons", "permute_heads", "scale_norms", "mix_queries", "rotate_residual"):
        other = disguised(other, step, seed=5)
    assert difference(model, other, unseen) < 1e-4
    before, after = Roles(model), Roles(other)
    for key in before.keys("embedding", "query", "key", "value", "output", "gate", "up", "down"):
        one, two = before.get(key).flatten(), after.get(key).flatten()
        assert abs(float(torch.cosine_similarity(one, two, dim=0))) < 0.3, key


@pytest.mark.parametrize("kind", ["all", "zero", "clique", "split"])
def test_obfuscation_widens_by_the_share_asked_for(made, base, kind):
    for family in FAMILIES:
        model = made(base(family))
        before, after = Roles(model), Roles(obfuscate(model, share=0.25, kind=kind))
        for down in before.keys("down"):
            assert after.get(down).shape[1] == before.get(down).shape[1] * 5 // 4


def test_a_clique_cancels_and_a_split_adds_up(made, base):
    """Among the outputs of the added neurons, those of one input sum to what that input gave before."""
    model = made(base("gpt2"))
    for kind in ("clique", "split"):
        before, after = Roles(model), Roles(obfuscate(model, kind=kind))
        (up, *_), (down, *_) = before.keys("up"), before.keys("down")
        rows, columns = after.get(up), after.get(down).T
        inputs, place = rows.unique(dim=0, return_inverse=True)
        summed = torch.zeros(len(inputs), columns.shape[1]).index_add(0, place, columns)
        old = {tuple(row): column for row, column in zip(before.get(up).tolist(), before.get(down).T, strict=True)}
        for row, total in zip(inputs.tolist(), summed, strict=True):
            assert torch.allclose(total, old.get(tuple(row), torch.zeros_like(total)), atol=1e-5)
        assert len(inputs) == len(old) + (22 if kind == "clique" else 0)  # 64 neurons in cliques of three


def test_a_rotation_is_orthogonal_and_keeps_the_ones_where_it_should():
    ones = torch.ones(7, dtype=torch.float64)
    for keeps in (False, True):
        turning = _rotation(7, torch.Generator().manual_seed(3), keeps_ones=keeps)
        assert torch.allclose(turning @ turning.T, torch.eye(7, dtype=torch.float64))
        assert torch.allclose(turning @ ones, ones) == keeps


def test_scales_and_signs_are_those_asked_for(made, base):
    model = made(base("llama"))
    before, after = Roles(model), Roles(CHANGES["scale_neurons"](model, spread=1.0, signs=True))
    for up in before.keys("up"):
        ratio = after.get(up) / before.get(up)
        assert torch.allclose(ratio, ratio[:, :1].expand_as(ratio), rtol=1e-4)
        assert bool(((ratio.abs() >= 0.0999) & (ratio.abs() <= 10.01)).all())
        assert 0.3 < float((ratio[:, 0] < 0).float().mean()) < 0.7


def test_kinds_without_meaning_are_refused(made, base):
    model = made(base("llama"))
    for step in ("obfuscate(kind=merge)", "obfuscate(share=2)", "flip_signs(of=heads)"):
        with pytest.raises(UsageError):
            disguised(model, step)
