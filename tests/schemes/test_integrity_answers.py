"""The answer of an integrity check: changed, or no change shown with a bound that holds."""

from __future__ import annotations

import copy
import json
from dataclasses import replace

import pytest
import torch
from torch import nn
from typer.testing import CliRunner

import whorl
from whorl.cli.app import app
from whorl.detection.integrity import Counted, upper_bound
from whorl.errors import AccessRefused, UsageError
from whorl.nets.files import write_model
from whorl.oracles.keyed import KeyedSwitch
from whorl.oracles.learned_switch import LearnedSwitch, stamped
from whorl.oracles.reordered import Reordered
from whorl.oracles.torch import TorchOracle
from whorl.oracles.wrappers import LabelsOnly, Rounded, TopK
from whorl.queries.sensitive import sensitivity
from whorl.schemes.calibration import probes_of
from whorl.schemes.changes import check_unchanged
from whorl.testing import tiny_data, tiny_net, tiny_victim
from whorl.types import Rule

NET = "mlp(width=12)"
SCORES = "sensitive-samples(candidates=60, iterations=20)"
LABELS = "sensitive-samples-labels(candidates=60, iterations=2)"
NEAR = "near-boundary"


def served(module, **settings):
    return TorchOracle(module, input_shape=(1, 8, 8), classes=10, **settings)


@pytest.fixture(scope="module")
def declared():
    return tiny_victim(architecture=NET)


@pytest.fixture(scope="module")
def fingerprints(declared):
    pictures = tiny_data("test")
    return {each: whorl.extract(declared, data=pictures, scheme=each, budget=20) for each in (SCORES, LABELS, NEAR)}


def moved(module, scale, seed=0):
    """The model with each weight changed by a share of its layer's spread."""
    generator = torch.Generator().manual_seed(seed)
    changed = copy.deepcopy(module)
    with torch.no_grad():
        for weight in changed.parameters():
            weight += scale * weight.std() * torch.randn(weight.shape, generator=generator)
    return changed


class Half(nn.Module):
    """A net that computes in double precision, as another runtime rounds otherwise."""

    def __init__(self, inner):
        super().__init__()
        self.inner = copy.deepcopy(inner).double()

    def forward(self, inputs):
        return self.inner(inputs.double()).float()


def benign(module):
    """Twenty ways to serve one model that change no answer beyond rounding."""
    for batch in (1, 2, 3, 5, 7, 16, 33, 64, 100, 256):
        yield served(copy.deepcopy(module), batch=batch)
    yield served(Half(module))
    yield served(torch.jit.trace(copy.deepcopy(module).eval(), torch.zeros(1, 1, 8, 8)))
    yield served(nn.Sequential(copy.deepcopy(module), nn.Identity()))
    for factor in (2.0, 0.5, 3.0):  # a layer and its inverse, which sums in another way
        scaled = copy.deepcopy(module)
        scaled.layers[0].weight.data *= factor
        scaled.layers[0].bias.data *= factor
        scaled.head.weight.data /= factor
        yield served(scaled)
    permuted = copy.deepcopy(module)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(0))
    permuted.layers[0].weight.data, permuted.layers[0].bias.data = (
        each.data[order] for each in (module.layers[0].weight, module.layers[0].bias)
    )
    permuted.head.weight.data = module.head.weight.data[:, order]
    yield served(permuted)
    yield Rounded(served(module), decimals=2)
    yield Rounded(served(module), decimals=4)
    yield TopK(served(module), k=5)


@pytest.mark.parametrize("scheme", [SCORES, LABELS, NEAR])
def test_no_benign_variant_is_called_changed(declared, fingerprints, scheme):
    variants = list(benign(declared.module))
    assert len(variants) == 20
    for variant in variants:
        found = whorl.verify(fingerprints[scheme], variant)
        assert (found.decision, found.changed) == ("no change shown", 0)
        assert "never show that a model is unchanged" in found.caveats[0]


def test_changes_are_seen(declared, fingerprints):
    """All relative changes of weights of .1 % and more by scores; classes alone see what turns one."""
    module = declared.module
    for scale in (1e-3, 3e-3, 1e-2, 0.1):
        for seed in range(3):
            changed = whorl.verify(fingerprints[SCORES], served(moved(module, scale, seed)))
            assert changed.decision == "changed"
    for scheme in (LABELS, NEAR):
        found = whorl.verify(fingerprints[scheme], served(moved(module, 0.3)))
        assert found.changed > found.drawn_changed
    assert whorl.verify(fingerprints[SCORES], Reordered(declared, [*range(1, 10), 0])).decision == "changed"


def test_another_model_is_changed_though_the_queries_are_nearly_natural(fingerprints):
    """Two steps leave natural pictures, on which good models agree; the control pictures tell them all the same."""
    for seed in (1, 2, 3):
        found = whorl.verify(fingerprints[LABELS], tiny_net(seed=seed, architecture=NET))
        assert found.decision == "changed"
        assert found.drawn_changed > 0


def test_the_bound_is_that_of_clopper_and_pearson(declared, fingerprints):
    found = whorl.verify(fingerprints[SCORES], declared)
    assert found.asked == 20 + found.drawn
    assert found.upper == pytest.approx(1 - 0.05 ** (1 / found.drawn))
    assert whorl.verify(fingerprints[SCORES], declared, alpha=0.01).upper == pytest.approx(
        1 - 0.01 ** (1 / found.drawn)
    )
    assert "bit for bit" in found.caveats[-1]
    without = whorl.verify(replace(fingerprints[SCORES], probes=None), declared)
    assert (without.drawn, without.upper, without.distribution) == (0, 1.0, "")
    assert "no input was drawn" in without.caveats[-1]


@pytest.mark.parametrize("share", [0.1, 0.25, 0.5])
def test_the_bound_holds_for_a_learned_switch_at_its_frequency(declared, fingerprints, share):
    """Of 200 checks by other draws each, the rate lies above the bound in .05 of them and few more, by chance."""
    generator = torch.Generator().manual_seed(3)
    pool = tiny_data("test")
    pictures, hidden = pool.inputs(), tiny_victim(seed=1, architecture=NET)
    switch = LearnedSwitch(declared, hidden, pictures, generator=generator)
    marked = torch.rand(len(pictures), generator=generator) < share
    asked = torch.where(marked[:, None, None, None], stamped(pictures), pictures)
    turned = switch.labels(asked) != declared.labels(asked)
    rate, missed, seen = float(turned.double().mean()), 0, 0
    assert rate > 0
    n = 60
    for _ in range(200):
        k = int(turned[torch.randint(len(turned), (n,), generator=generator)].sum())
        missed += upper_bound(Counted(k, n), 0.05) < rate
        seen += k > 0
    assert missed <= 200 * 0.05 + 3 * (200 * 0.05 * 0.95) ** 0.5
    expected = 1 - (1 - rate) ** n
    assert abs(seen / 200 - expected) < 4 * (expected * (1 - expected) / 200) ** 0.5 + 0.005
    known = replace(fingerprints[SCORES], probes=probes_of(declared, replace(pool, images=asked)))
    scheme = whorl.SCHEMES.make(SCORES)
    found = check_unchanged(scheme, known, switch, Rule(0.05))
    assert found.decision == "changed"
    assert found.upper >= rate


def test_without_the_pattern_or_the_key_nothing_shows(declared, fingerprints):
    hidden = tiny_victim(seed=1, architecture=NET)
    keyed = KeyedSwitch(declared, hidden, bytes(range(32)))
    found = whorl.verify(fingerprints[SCORES], keyed)
    assert found.decision == "no change shown"
    assert not any("bit for bit" in each for each in found.caveats), "its weights are not seen"
    pictures = tiny_data("test").inputs()
    learned = LearnedSwitch(declared, hidden, pictures, generator=torch.Generator().manual_seed(0))
    assert float(learned.switched(stamped(pictures)).double().mean()) > 0.95
    assert float(learned.switched(pictures).double().mean()) < 0.05
    with pytest.raises(UsageError, match="does not fit"):
        stamped(pictures, 9)


@pytest.mark.parametrize(
    ("wrap", "says"),
    [
        (lambda each: Rounded(each, decimals=1), r"shows 1 decimals, and 2 are compared.*digits=1"),
        (lambda each: TopK(each, k=2), r"shows 2 classes, and 5 are compared.*top=2"),
    ],
)
def test_an_interface_that_shows_less_is_no_change(declared, fingerprints, wrap, says):
    with pytest.raises(UsageError, match=says):
        whorl.verify(fingerprints[SCORES], wrap(declared))
    assert whorl.verify(fingerprints[LABELS], wrap(declared)).decision == "no change shown"
    with pytest.raises(AccessRefused):
        whorl.verify(fingerprints[SCORES], LabelsOnly(declared))


def test_what_belongs_to_origin_is_refused(declared, fingerprints):
    for wrong in ({"rule": "population"}, {"group": "cnn"}, {"match_labels": True}):
        with pytest.raises(UsageError, match="tells every change"):
            whorl.verify(fingerprints[SCORES], declared, **wrong)
    with pytest.raises(UsageError, match=r"alpha is 0\.7"):
        whorl.verify(fingerprints[SCORES], declared, alpha=0.7)
    with pytest.raises(UsageError, match="one query at least"):
        whorl.verify(fingerprints[SCORES], declared, budget=0)
    assert whorl.verify(fingerprints[SCORES], declared, budget=7).queries["spent"] == 7
    with pytest.raises(UsageError, match="nothing of origin"):
        whorl.verify_all([fingerprints[SCORES], fingerprints[LABELS]], declared)


def test_no_sensitivity_is_negative():
    """A saturated softmax has none, and doubles that cancel once gave -2e-14, which the file's own bounds refuse."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    generator = torch.Generator().manual_seed(0)
    for weight in net.parameters():
        weight.data = 300 * torch.randn(weight.shape, generator=generator)
    pictures = torch.rand(500, 1, 8, 8, generator=generator)
    assert float(sensitivity(net, "last", generator)(pictures).detach().min()) >= 0


def test_on_the_command_line(declared, fingerprints, tmp_path):
    path, mine, other = (tmp_path / name for name in ("mine.fp", "mine.safetensors", "other.safetensors"))
    whorl.write_fingerprint(fingerprints[SCORES], path)
    for net, where in ((declared.module, mine), (tiny_net(seed=1, architecture=NET), other)):
        write_model(net, where, architecture=NET, input_shape=(1, 8, 8))

    def run(*given, code=0):
        cache = ["--cache", str(tmp_path / "cache")]
        found = CliRunner().invoke(app, ["verify", *map(str, given), *cache], env={"COLUMNS": "200"})
        assert found.exit_code == code, found.output
        return found.output

    told = run(path, mine)
    assert told.startswith("NO CHANGE SHOWN")
    assert "are answered otherwise, at 95% confidence" in told
    told = run(path, other, "--fail-on", "changed", code=3)
    assert told.startswith("CHANGED")
    assert "asked 1 times before" in told, "the look before is logged"
    document = json.loads(run(path, other, "--json", "-q"))
    assert document["decision"] == "changed"
    assert 0 < document["drawn_changed"] <= document["drawn"]
    page = tmp_path / "page.html"
    run(path, other, "--report", page)
    assert "Changed" in page.read_text()
    assert "no pictures" in run(path, other, "--report", page, "--pictures", code=2)
    assert "by it alone" in run(path, mine, "--also", other, code=2)
