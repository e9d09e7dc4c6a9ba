"""Disguises change the weights and nothing else; what a family does not admit is refused."""

from __future__ import annotations

import pytest
import torch

from whorl.errors import UsageError
from whorl.expressions import parse
from whorl.zoo.causal import Model, logits
from whorl.zoo.language import STEPS

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


def disguised(model: Model, step: str, seed: int = 0) -> Model:
    return STEPS.make(str(parse(step)), model=model) if seed == 0 else STEPS[parse(step).name](model, seed=seed)


def difference(model: Model, other: Model, tokens: torch.Tensor) -> float:
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
