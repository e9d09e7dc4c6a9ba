"""Logs of training are replayed: honest ones pass on any order of sums, forged and altered ones do not."""

from __future__ import annotations

import shutil

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from whorl.attest.training import read_log
from whorl.data import SOURCES
from whorl.errors import InvalidFile, UsageError
from whorl.nets.training import build
from whorl.storage import digest_tensors, read_tensors, write_tensors
from whorl.zoo.log_check import Tolerance, check_log, initial_weights, tolerance_of
from whorl.zoo.logged import Recorder, State, log_training
from whorl.zoo.original_rule import original_rule
from whorl.zoo.recipe import parse_recipe
from whorl.zoo.replay import deviation, net_of, replay, segment_of
from whorl.zoo.spoofs import SPOOFS, Forger
from whorl.zoo.training import train_net

DATA = SOURCES.make("digits(size=8)").load("victim")
RECIPE = "train(mlp(width=16), digits(size=8), epochs=12, batch=40, seed={})"
EVERY = 9
NONCE = bytes(range(32))


@pytest.fixture(scope="module")
def logs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("logs")
    for seed in (0, 1):
        log_training(parse_recipe(RECIPE.format(seed)), folder / str(seed), every=EVERY)
    return folder


@pytest.fixture(scope="module")
def tolerance(logs):
    return tolerance_of([read_log(logs / "1")], generator=torch.Generator().manual_seed(0))


@pytest.fixture
def altered(logs, tmp_path):
    """A copy of a log that may be damaged."""
    return shutil.copytree(logs / "0", tmp_path / "altered")


def test_the_logged_net_is_the_zoo_s_own_and_its_log_is_consistent(logs, tolerance):
    recipe = parse_recipe(RECIPE.format(0))
    model = digest_tensors(train_net(recipe).state_dict())
    log = read_log(logs / "0")
    assert log.entries[-1].weights == model
    found = check_log(log, tolerance, recipe=recipe, model=model, nonce=NONCE)
    assert found.faults == ()
    assert found.consistent
    assert found.initial is not None
    assert found.initial > 0.01
    assert found.bound == pytest.approx(10 / (10 + tolerance.segments))
    assert {each.segment for each in found.replayed} <= set(range(log.segments))
    again = check_log(log, tolerance, recipe=recipe, model=model, nonce=NONCE)
    assert [each.segment for each in again.replayed] == [each.segment for each in found.replayed]
    other = check_log(log, tolerance, recipe=parse_recipe(RECIPE.format(1)), model="0" * 64, nonce=NONCE)
    told = " ".join(other.faults)
    assert "claims another recipe" in told
    assert "initial weights are not those" in told
    assert "step 1 was fed another batch" in told
    assert "ends in other weights" in told


def test_sums_in_another_order_move_little_and_another_batch_much(logs):
    log = read_log(logs / "0")
    net, segment = net_of(log), segment_of(log, 3)
    exact = deviation(replay(net, segment, log.header), segment.after, segment.before)
    assert exact.relative == 0
    turned = replay(net, segment, log.header, torch.Generator().manual_seed(0))
    rounded = deviation(turned, segment.after, segment.before)
    assert 0 < rounded.relative < 1e-4
    elsewhere = segment_of(log, 4)
    swapped = replay(net, type(segment)(segment.before, segment.after, elsewhere.batches, segment.entry), log.header)
    assert deviation(swapped, segment.after, segment.before).relative > 0.1


def recorded(folder, seed, make, *, every=9, steps=180, net=None):
    """Any PyTorch loop: a log in three calls."""
    chance = torch.Generator().manual_seed(seed)
    net = net or build("mlp(width=16)", DATA.input_shape, 10, chance)
    optimiser = make(net.parameters())
    recorder = Recorder(folder, net, optimiser, every=every, batch=40, architecture="mlp(width=16)")
    net.train()
    for _ in range(steps):
        index = torch.randint(len(DATA), (40,), generator=chance)
        inputs, labels = DATA.inputs(index), DATA.labels[index]
        loss = cross_entropy(net(inputs), labels)
        recorder.fed(inputs, labels, loss)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        recorder.stepped()
    recorder.ended()
    return read_log(folder)


@pytest.mark.parametrize(
    "make",
    [
        lambda weights: torch.optim.SGD(weights, lr=0.05, momentum=0.9, nesterov=True),
        lambda weights: torch.optim.Adam(weights, lr=1e-3),
        lambda weights: torch.optim.AdamW(weights, lr=1e-3, amsgrad=True),
    ],
)
def test_any_loop_is_replayed_to_the_bit(tmp_path, make):
    log = recorded(tmp_path / "log", 5, make, steps=27)
    net = net_of(log)
    for number in range(log.segments):
        segment = segment_of(log, number)
        assert deviation(replay(net, segment, log.header), segment.after, segment.before).relative == 0
    found = check_log(log, Tolerance(1e-3), nonce=NONCE)
    assert found.faults == ()
    assert "no recipe was given" in " ".join(found.caveats)
    assert found.bound is None


def test_dropout_and_norms_are_replayed_as_they_were(tmp_path):
    class Noisy(nn.Sequential):
        input_shape, classes = (1, 8, 8), 10

    net = Noisy(nn.Flatten(), nn.Linear(64, 20), nn.BatchNorm1d(20), nn.ReLU(), nn.Dropout(0.5), nn.Linear(20, 10))
    log = recorded(tmp_path / "log", 6, lambda weights: torch.optim.SGD(weights, lr=0.05), steps=27, net=net)
    for number in range(log.segments):
        segment = segment_of(log, number)
        made = replay(net, segment, log.header)
        assert deviation(made, segment.after, segment.before).relative == 0
        statistics = {name: each + ("running" in name) for name, each in segment.after.weights.items()}
        moved = State(statistics, segment.after.optimiser, segment.after.random)
        assert deviation(made, moved, segment.before).relative > 0.1, "buffers count too"


@pytest.mark.parametrize("name", list(SPOOFS))
def test_forged_logs_are_told_and_the_published_rule_accepts_those_it_is_known_to(tmp_path, name):
    chance = torch.Generator().manual_seed(11)
    stolen = build("mlp(width=16)", DATA.input_shape, 10, chance)
    kept = net_of(recorded(tmp_path / "stolen", 12, lambda weights: torch.optim.SGD(weights, lr=0.1), net=stolen))
    forger = Forger(stolen=stolen, architecture="mlp(width=16)", data=DATA, generator=chance, segments=20, every=9)
    SPOOFS[name](forger, tmp_path / "forged", **({"effort": 3} if name == "crafted_batches" else {}))
    log = read_log(tmp_path / "forged")
    kept.load_state_dict(dict(State.read(log.state(log.steps)).weights))
    ahead = [
        float((one - other).detach().abs().max())
        for one, other in zip(kept.parameters(), stolen.parameters(), strict=True)
    ]
    fresh = build("mlp(width=16)", DATA.input_shape, 10, torch.Generator().manual_seed(13))
    reference = sum((a - b).square().sum() for a, b in zip(fresh.parameters(), stolen.parameters(), strict=True)).sqrt()
    found = check_log(log, Tolerance(0.01), draws=10, nonce=NONCE)
    if name == "drifting":  # an imitation that trains in earnest passes a wide tolerance, and does not arrive
        assert max(ahead) > 0.1
        return
    assert max(ahead) < 1e-4, "the forged log ends in the stolen net"
    assert not found.consistent
    assert "replay with a relative error" in " ".join(found.faults)
    if name in ("straight_line", "coasting_line"):
        assert original_rule(log, delta=0.1 * float(reference.detach())).valid
    if name == "where_looked":
        assert original_rule(log, delta=0.001 * float(reference.detach())).valid


def test_a_momentum_along_the_line_is_seen_by_moments_alone(tmp_path):
    chance = torch.Generator().manual_seed(11)
    stolen = build("mlp(width=16)", DATA.input_shape, 10, chance)
    forger = Forger(stolen=stolen, architecture="mlp(width=16)", data=DATA, generator=chance, segments=20, every=9)
    SPOOFS["coasting_line"](forger, tmp_path / "forged")
    log = read_log(tmp_path / "forged")
    net, segment = net_of(log), segment_of(log, 5)
    made = replay(net, segment, log.header)
    weights = [State(each.weights, {}, each.random) for each in (made, segment.after, segment.before)]
    assert deviation(*weights).relative < 0.01
    assert deviation(made, segment.after, segment.before).relative > 0.1


def rewritten(path, change):
    tensors, _ = read_tensors(path)
    change(tensors)
    write_tensors(path, tensors, {})


@pytest.mark.parametrize("step", [0, 9, 18])
def test_a_rewritten_or_missing_checkpoint_is_an_invalid_file(altered, step):
    log, everything = read_log(altered), Tolerance(0.1)
    rewritten(log.state(step), lambda tensors: tensors["weights/head.weight"].mul_(1.001))
    with pytest.raises(InvalidFile, match="not the checkpoint that the log states"):
        check_log(log, everything, draws=10**6)
    log.state(step).write_bytes(log.state(step).read_bytes()[:500])
    with pytest.raises(InvalidFile):
        check_log(log, everything, draws=10**6)
    log.state(step).unlink()
    with pytest.raises(InvalidFile, match="torn"):
        check_log(log, everything, draws=10**6)


def test_a_rewritten_batch_or_label_is_an_invalid_file(altered):
    log = read_log(altered)
    rewritten(log.fed(9), lambda tensors: tensors["3/labels"][:1].add_(1))
    with pytest.raises(InvalidFile, match="batch 3 is not the one"):
        segment_of(log, 0)
    rewritten(log.fed(9), lambda tensors: tensors.pop("3/labels"))
    with pytest.raises(InvalidFile, match="does not hold the 9 batches"):
        segment_of(log, 0)


def test_a_log_of_too_short_moves_cannot_be_checked_and_fails(tmp_path):
    log = recorded(tmp_path / "log", 5, lambda weights: torch.optim.SGD(weights, lr=1e-9), steps=90)
    found = check_log(log, Tolerance(0.1, absolute=1e-5, segments=19), nonce=NONCE)
    assert {each.verdict for each in found.replayed} == {"too short"}
    assert not found.consistent


def test_initial_weights_of_another_law_are_told_and_honest_ones_are_at_the_level():
    """Over 100 seeds: the level is .01 but for chance, and weights of another law are refused."""
    nets = [build("mlp(width=16, depth=3)", (1, 8, 8), 10, torch.Generator().manual_seed(seed)) for seed in range(100)]
    refused = sum(initial_weights(net, State(net.state_dict(), {}, {})) < 0.01 for net in nets)
    assert refused <= 5  # of binomial(100, .01), more come once in 1,700
    wide = {name: 1.3 * each for name, each in nets[0].state_dict().items()}
    assert initial_weights(nets[0], State(wide, {}, {})) < 0.01
    lost = {name: each * float("nan") for name, each in nets[0].state_dict().items()}
    assert initial_weights(nets[0], State(lost, {}, {})) == 0


def test_what_cannot_be_logged_or_checked_is_refused_in_one_line(logs, tmp_path):
    net = build("mlp(width=8)", (1, 8, 8), 10, torch.Generator())
    for optimiser in (torch.optim.RMSprop(net.parameters()), torch.optim.SGD(list(net.parameters())[:1], lr=0.1)):
        with pytest.raises(UsageError, match="one group of all weights"):
            Recorder(tmp_path / "x", net, optimiser, batch=4)
    with pytest.raises(UsageError, match="batch=50"):
        Recorder(tmp_path / "y", net, torch.optim.SGD(net.parameters(), lr=0.1))
    with pytest.raises(UsageError, match="first step alone"):
        log_training(parse_recipe(f"{RECIPE.format(0)} -> quantise(int8)"), tmp_path / "z")
    with pytest.raises(UsageError, match="can't be replayed"):
        log_training(parse_recipe("train(random_forest, digits(size=8))"), tmp_path / "z")
    with pytest.raises(UsageError, match="too few"):
        tolerance_of([], generator=torch.Generator())
    with pytest.raises(UsageError, match=r"relative is a number from 0 to 0\.1"):
        Tolerance(0.2)


def test_a_training_that_diverges_ends_in_one_line(tmp_path):
    recipe = parse_recipe("train(mlp(width=8), digits(size=8), epochs=2, batch=40, learning_rate=1000000)")
    with pytest.raises(UsageError, match=r"the loss of step \d+ is (nan|inf).*lower learning rate"):
        log_training(recipe, tmp_path / "log", every=5)


def test_a_step_that_was_fed_more_than_is_claimed_is_told(tmp_path):
    for claimed in (20, 40):
        net = build("mlp(width=16)", DATA.input_shape, 10, torch.Generator().manual_seed(0)).train()
        optimiser = torch.optim.SGD(net.parameters(), lr=0.05)
        folder = tmp_path / str(claimed)
        recorder = Recorder(folder, net, optimiser, every=2, batch=claimed, architecture="mlp(width=16)")
        for step in range(4):
            inputs, labels = DATA.inputs(slice(step * 40, step * 40 + 40)), DATA.labels[step * 40 : step * 40 + 40]
            optimiser.zero_grad()
            loss = cross_entropy(net(inputs), labels)
            recorder.fed(inputs, labels, loss)
            loss.backward()
            optimiser.step()
            recorder.stepped()
        recorder.ended()
    assert check_log(read_log(tmp_path / "40"), Tolerance(0.01)).consistent
    with pytest.raises(InvalidFile, match="was fed 40 inputs, and the log claims at most 20"):
        check_log(read_log(tmp_path / "20"), Tolerance(0.01))


@pytest.mark.parametrize(("name", "told"), [("net.safetensors", "other files"), ("root.json", "a log")])
def test_a_log_takes_no_folder_that_holds_something(tmp_path, name, told):
    (tmp_path / name).write_text("{}")
    with pytest.raises(UsageError, match=f"holds {told} already"):
        log_training(parse_recipe("train(mlp(width=8), digits(size=8), epochs=1)"), tmp_path)
    assert [each.name for each in tmp_path.iterdir()] == [name]
