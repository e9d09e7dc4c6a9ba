"""Removals of trojans: a trigger that is found is unlearned, and ceilings stand on what clean pictures need."""

from __future__ import annotations

import copy

import pytest
import torch

from whorl.errors import UsageError
from whorl.nets.capped import Capped
from whorl.nets.files import read_model, write_model
from whorl.nets.training import accuracy, predict
from whorl.removals import REMOVALS
from whorl.removals.base import opened
from whorl.testing import tiny_data, tiny_net, tiny_victim
from whorl.testing.nets import ARCHITECTURE
from whorl.zoo.cache import Zoo
from whorl.zoo.recipe import parse_recipe


def trojaned(seed):
    return parse_recipe(f"train(mlp, poisoned(digits(size=8)), epochs=10, seed={seed})")


@pytest.fixture(scope="module")
def zoo(tmp_path_factory):
    """Three trojaned perceptrons, tuned with and without the inverted trigger."""
    zoo = Zoo(tmp_path_factory.mktemp("zoo"))
    steps = ("unlearn_trigger(seed=5)", "fine_tune(all, epochs=5, seed=5)")
    zoo.build([trojaned(seed).then(step) for seed in range(3) for step in steps], workers=1)
    return zoo


def test_unlearning_the_inverted_trigger_removes_it(zoo):
    """Below .2 for at most five points, where tuning as long leaves more, for each of three victims."""
    for seed in range(3):
        before, tuned = zoo.card(trojaned(seed)), zoo.card(trojaned(seed).then("fine_tune(all, epochs=5, seed=5)"))
        after = zoo.card(trojaned(seed).then("unlearn_trigger(seed=5)"))
        assert before.attack_success > 0.5
        assert after.attack_success < 0.2 < tuned.attack_success
        assert after.accuracy > before.accuracy - 0.05


def test_the_trigger_is_that_of_the_planted_class(zoo):
    victim = zoo.oracle(trojaned(0))
    found = REMOVALS.make("unlearn_trigger").trigger(
        victim, parse_recipe(str(trojaned(0))).source.load("attacker"), generator=torch.Generator().manual_seed(0)
    )
    assert found.target == 0  # what poisoned() plants unless told otherwise


def test_ceilings_keep_what_they_promise():
    victim, data = tiny_victim(), tiny_data("attacker")
    net = REMOVALS.make("clip_activations(kept=0.95, steps=100)")(
        victim, data, generator=torch.Generator().manual_seed(0)
    )
    kept = accuracy(net, data) / accuracy(victim.module, data)
    assert kept > 0.9  # .95 of a batch of a hundred
    lowered = list(net.ceilings.values())
    assert all((each >= 0).all() for each in lowered)
    assert torch.cat(lowered).mean() < 8
    ours, theirs = (sorted(parameter.norm().item() for parameter in each.parameters()) for each in (net, victim.module))
    assert ours == theirs  # the weights are the victim's


def capped(height):
    net = Capped.of(tiny_net())
    for ceiling in net.ceilings.values():
        ceiling.fill_(height)
    return net


def test_no_hidden_unit_passes_its_ceiling():
    seen, net = [], tiny_net()
    net.hidden_units()[0].consumer.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
    net = Capped.of(net)
    for ceiling in net.ceilings.values():
        ceiling.fill_(0.25)
    predict(net, tiny_data("test").inputs())
    assert max(float(each.max()) for each in seen) == 0.25


def test_a_copy_has_ceilings_of_its_own():
    net, inputs = capped(8.0), tiny_data("test").inputs()
    other = copy.deepcopy(net)
    for ceiling in other.ceilings.values():
        ceiling.fill_(0.0)
    torch.testing.assert_close(predict(net, inputs), predict(tiny_net(), inputs))
    assert not torch.allclose(predict(other, inputs), predict(net, inputs))


def test_gradients_and_files_see_the_ceilings(tmp_path):
    net, inputs = capped(0.25), tiny_data("test").inputs()
    oracle = opened(net, tiny_victim(), name="capped")
    torch.testing.assert_close(oracle.differentiable()(inputs), predict(net, inputs), rtol=1e-4, atol=1e-4)
    write_model(
        net, tmp_path / "net.safetensors", architecture=f"capped(member='{ARCHITECTURE}')", input_shape=(1, 8, 8)
    )
    torch.testing.assert_close(predict(read_model(tmp_path / "net.safetensors")[0], inputs), predict(net, inputs))


def test_ceilings_on_ceilings_are_refused():
    with pytest.raises(UsageError, match="ceilings"):
        Capped((1, 8, 8), 10, member="capped(member=mlp)")
    capped = opened(Capped.of(tiny_net()), tiny_victim(), name="capped")
    with pytest.raises(UsageError, match="ceilings"):
        REMOVALS.make("clip_activations")(capped, tiny_data("attacker"), generator=torch.Generator())
