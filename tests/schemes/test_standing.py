"""Who may stand in a null, who may be under test, and how a suspect has to answer before it is judged."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from model_server import ModelServer
from torch import nn

import whorl
from whorl import SCHEMES, ownership, populations
from whorl.detection.groups import families
from whorl.errors import AccessRefused, UsageError
from whorl.fingerprints.files import write_fingerprint
from whorl.nets.training import Schedule, build, fit
from whorl.oracles.base import Oracle
from whorl.oracles.interface import USUAL, OneHot, treated, treatment_of
from whorl.oracles.torch import TorchOracle
from whorl.oracles.wrappers import LabelsOnly, Rounded, TopK, Wrapper
from whorl.removals import REMOVALS
from whorl.schemes.calibration import doubts
from whorl.schemes.controls import own_fault
from whorl.schemes.opening import read_fingerprint
from whorl.testing import tiny_data, tiny_net, tiny_victim
from whorl.types import Access, NullModel

ALPHA, MLP, QUERIES = 0.05, "mlp(width=32)", 40
DATA = "digits(size=8)"
TUNED = "fine_tune(all, epochs=2)"


def net(seed, part="victim"):
    return tiny_net(seed=seed, part=part, architecture=MLP)


def oracle(module, access=Access.WEIGHTS, name="net"):
    return TorchOracle(module, input_shape=(1, 8, 8), classes=10, access=access, name=name)


def made(scheme, **options):
    """A fingerprint with a null of 21 twins, and 14 copies that measure power."""
    victim = tiny_victim(architecture=MLP)
    bare = whorl.extract(victim, data=DATA, scheme=scheme, budget=QUERIES)
    null = {f"twin {seed}": net(seed) for seed in range(100, 121)}
    known = populations.copies(victim, [TUNED], data=DATA, count=14)
    return ownership.calibrate(bare, null, pool="21 twins", derived=known, **options)


@pytest.fixture(scope="module")
def labelled():
    return made("ipguard(margin=2, learning_rate=0.01, iterations=200)")


@pytest.fixture(scope="module")
def scored():
    return made("tafa")


@pytest.fixture(scope="module")
def bare(labelled):
    return dataclasses.replace(labelled, calibration=None)


def test_one_model_under_two_names_is_refused(bare):
    twice = {"a.pt": net(100), "b.pt": net(100)}
    with pytest.raises(UsageError, match=r"b\.pt and a\.pt are one and the same model"):
        ownership.calibrate(bare, twice, pool="one")


def test_one_model_in_two_forms_is_refused(bare):
    twice = {"a.pt": net(100), "b.onnx": nn.Sequential(net(100), nn.Identity()), "c.pt": net(101)}
    with pytest.raises(UsageError, match=r"b\.onnx and a\.pt answer every probe alike"):
        ownership.calibrate(bare, twice, pool="two in three")


def test_the_victim_stands_in_no_null(bare):
    victim = tiny_victim(architecture=MLP).module
    with pytest.raises(UsageError, match="own victim"):
        ownership.calibrate(bare, {"mine": victim, "other": net(100)}, pool="me")
    with pytest.raises(UsageError, match="victim in another form"):
        ownership.calibrate(bare, {"mine": nn.Sequential(victim), "other": net(100)}, pool="me")


def test_a_shadow_model_stands_in_no_null(bare):
    shadow = net(100)
    learned = dataclasses.replace(bare, pool=(oracle(shadow).digest,))
    with pytest.raises(UsageError, match="shadow model"):
        ownership.calibrate(learned, {"shadow": shadow, "other": net(101)}, pool="two")


def test_a_model_of_the_null_is_not_under_test(labelled):
    with pytest.raises(UsageError, match="twin 103 of the null, by its weights"):
        whorl.verify(labelled, net(103), alpha=ALPHA)
    with pytest.raises(UsageError, match="twin 103 of the null, by its answers"):
        whorl.verify(labelled, nn.Sequential(net(103)), alpha=ALPHA)


def test_a_family_of_tunes_counts_as_one_model(bare):
    """By the most alike of its members, so that no p-value is below what as many families allow."""
    tune = REMOVALS.make("fine_tune(last, epochs=1, learning_rate=0.001)")
    null = {}
    for seed in range(100, 107):
        for again in range(3):
            generator = torch.Generator().manual_seed(again)
            null[f"{seed} {again}"] = tune(oracle(net(seed)), tiny_data("attacker"), generator=generator)
    known = ownership.calibrate(bare, null, pool="7 models, tuned three times each")
    assert any("count as 7" in doubt for doubt in doubts(SCHEMES.make(known.scheme), known))
    values = np.reshape(known.calibration.null.similarities, (7, 3)).max(1)
    stolen = tune(tiny_victim(architecture=MLP), tiny_data("attacker"), generator=torch.Generator().manual_seed(9))
    for suspect in (net(200), stolen):
        verdict = whorl.verify(known, suspect, alpha=0.1)
        assert verdict.decision == "inconclusive"
        assert verdict.null["size"] == 7
        assert len(verdict.null["models"]) == 21
        assert verdict.p_value_floor >= 1 / 8
        assert verdict.p_value >= (1 + (values >= verdict.similarity).sum()) / 8
        assert any("count as 7 (the largest 3 are one)" in caveat for caveat in verdict.caveats)


def test_a_null_that_is_one_family_counts_as_one_model(bare, tmp_path):
    """Each is as far from the victim as their ancestor is, so a stranger exceeds all of them or none."""
    base = oracle(net(300))
    tunes = REMOVALS.make("fine_tune(all, epochs=3)"), tiny_data("calibration")
    null = {f"{seed}": tunes[0](base, tunes[1], generator=torch.Generator().manual_seed(seed)) for seed in range(21)}
    known = ownership.calibrate(bare, null, pool="21 tunes of one net")
    write_fingerprint(known, tmp_path / "a.fp")
    known = read_fingerprint(tmp_path / "a.fp")
    assert {model.family for model in known.calibration.null.models} == {"0"}
    assert any("all count as 1:" in doubt for doubt in doubts(SCHEMES.make(known.scheme), known))
    stolen = populations.copies(tiny_victim(architecture=MLP), [TUNED], data=DATA, count=1)[TUNED][0]
    for suspect in (stolen, net(200)):
        verdict = whorl.verify(known, suspect, alpha=0.2)
        assert (verdict.decision, verdict.null["size"]) == ("inconclusive", 1)
        assert verdict.p_value_floor >= 1 / 2
    # Siblings of the victim stand for siblings: the owner knows, and every verdict says so.
    said = ownership.calibrate(bare, null, pool="21 siblings", siblings=21)
    assert whorl.verify(said, stolen, alpha=0.2).null["size"] == 21
    assert "--siblings" not in " ".join(doubts(SCHEMES.make(said.scheme), said))


def test_a_copy_of_the_victim_among_few_strangers_is_told_of(bare):
    copy = populations.copies(tiny_victim(architecture=MLP), [TUNED], data=DATA, count=1)[TUNED][0]
    for null, told in (({"a": net(100), "b": copy}, True), ({"a": net(100), "b": net(101)}, False)):
        known = ownership.calibrate(bare, null, pool="two")
        found = [doubt for doubt in doubts(SCHEMES.make(known.scheme), known) if "far more like your model" in doubt]
        assert [doubt.startswith("b:") for doubt in found] == [True] * told


def test_a_null_of_another_recipe_accuses_nobody(bare):
    """Strangers made as the victim was may be far more alike to it than nets of another schedule, on other pictures."""
    pictures = tiny_data("calibration")

    def other(seed):
        made = build(MLP, pictures.input_shape, 10, torch.Generator().manual_seed(seed))
        schedule = Schedule(epochs=40, learning_rate=0.1, policy="one-cycle")
        fit(made, pictures, schedule, generator=torch.Generator().manual_seed(seed))
        return made

    known = ownership.calibrate(bare, {f"other {seed}": other(seed) for seed in range(21)}, pool="another recipe")
    assert any("nothing will be called derived" in doubt for doubt in doubts(SCHEMES.make(known.scheme), known))
    stolen = populations.copies(tiny_victim(architecture=MLP), [TUNED], data=DATA, count=1)[TUNED][0]
    blind = dataclasses.replace(known, probes=None)
    assert whorl.verify(blind, stolen, alpha=ALPHA).decision == "derived", "by its rank, which says nothing here"
    for suspect in (stolen, net(200)):
        verdict = whorl.verify(known, suspect, alpha=ALPHA)
        assert verdict.decision != "derived"
        assert verdict.likeness["of_victim"]["distance"] > verdict.likeness["of_null"]["distance"][2]
        assert verdict.likeness["p_victim_apart"] == 1 / 22
    assert "nothing is called derived" in " ".join(whorl.verify(known, stolen, alpha=ALPHA).caveats)


def test_a_victim_at_chance_is_told_of(bare):
    assert own_fault(bare) is None
    blank = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    nn.init.zeros_(blank[1].weight)  # one and the same class for every picture
    told = own_fault(whorl.extract(oracle(blank), data=DATA, scheme="random", budget=5))
    assert told is not None
    assert "no better than chance" in told


def test_a_victim_that_says_the_most_usual_class_is_told_of(bare):
    """As an estimator of a table does that is asked without the table's units."""
    probes = bare.probes
    usual = torch.where(torch.arange(len(probes.labels)) % 10 < 7, 3, probes.labels)
    constant = torch.nn.functional.one_hot(torch.full_like(probes.labels, 3), 10).float()
    told = own_fault(dataclasses.replace(bare, probes=dataclasses.replace(probes, labels=usual, victim=constant)))
    assert told is not None
    assert "are of one class" in told
    assert "units (of a table's columns)" in told
    known = torch.nn.functional.one_hot(usual, 10).float()
    assert own_fault(dataclasses.replace(bare, probes=dataclasses.replace(probes, labels=usual, victim=known))) is None


def test_models_that_were_trained_apart_count_each(labelled):
    null = labelled.calibration.null
    assert families(null) == [[place] for place in range(len(null))]
    again = dataclasses.replace(null, probes=torch.cat([null.probes[:-1], null.probes[:1]]))
    assert sorted(map(len, families(again))) == [*[1] * (len(null) - 2), 2]
    *models, last = null.models  # in another group it is a stranger of another kind
    apart = dataclasses.replace(again, models=(*models, dataclasses.replace(last, group="others")))
    assert max(map(len, families(apart))) == 1


def test_a_verdict_names_every_model_of_the_null_and_who_chose_it(labelled):
    verdict = whorl.verify(labelled, net(200), alpha=ALPHA)
    assert verdict.caveats[0] == (
        "the null was chosen by whoever made this fingerprint: the error rate rests on their word that its models were "
        "made without the victim (grade D)"
    )
    calibration = labelled.calibration
    null = dataclasses.replace(calibration.null, origin="judge")
    judged = dataclasses.replace(labelled, calibration=dataclasses.replace(calibration, null=null))
    verdict = whorl.verify(judged, net(200), alpha=ALPHA)
    assert verdict.grade == "D", "an owner may write so into a file"
    assert "nothing in it shows that" in verdict.caveats[1]
    verdict = whorl.verify(labelled, net(200), alpha=ALPHA)
    first = verdict.null["models"][0]
    assert (first["name"], first["digest"]) == ("twin 100", oracle(net(100)).digest)
    assert 0.7 < first["accuracy"] <= 1
    assert verdict.record["fingerprint"] != verdict.record["calibration"] != ""
    assert verdict.record["suspect"] == oracle(net(200)).digest
    assert verdict.record["victim"] == labelled.victim
    assert (verdict.queries["probes"], verdict.queries["size"]) == (180, QUERIES)


def test_probes_lie_beside_the_budget(labelled):
    suspect = oracle(net(200), Access.LABELS)
    verdict = whorl.verify(labelled, suspect, alpha=ALPHA, budget=8)
    assert verdict.queries["spent"] <= 8
    assert suspect.queries_spent == verdict.queries["spent"] + verdict.queries["probes"]


def weakened(seed):
    """A stranger that lost much of what it knew."""
    data = tiny_data("calibration")
    generator = torch.Generator().manual_seed(seed)
    wrong = torch.where(torch.rand(len(data), generator=generator) < 0.3, data.labels.roll(seed), data.labels)
    module = net(seed, part="calibration")
    fit(module, dataclasses.replace(data, labels=wrong), Schedule(epochs=2, learning_rate=0.01), generator=generator)
    return module.eval()


def test_a_weak_null_is_told_and_strangers_are_not_accused_without_a_word(bare):
    weak = {f"weak {seed}": weakened(seed) for seed in range(100, 121)}
    known = ownership.calibrate(bare, weak, pool="models that learned from wrong labels too")
    for seed in range(200, 206):
        verdict = whorl.verify(known, net(seed), alpha=ALPHA)
        assert any("the null's models are unlike it" in caveat for caveat in verdict.caveats)
    victim = whorl.verify(known, tiny_victim(architecture=MLP).module, alpha=ALPHA)
    assert victim.decision == "derived", "a copy is more alike than its standing explains"


def test_what_makes_one_copy_counts_once(bare):
    victim = tiny_victim(architecture=MLP)
    found = populations.copies(victim, ["quantise(int8)", TUNED], data=DATA, count=4)
    assert [len(models) for models in found.values()] == [1, 4]
    again = {"quantise(int8)": found["quantise(int8)"] * 6}
    known = ownership.calibrate(bare, {"a": net(100), "b": net(101)}, pool="two", derived=again)
    assert len(known.calibration.derived["quantise(int8)"]) == 1


def test_a_removal_without_chance_is_measured_on_other_victims(tmp_path):
    bare = whorl.extract(tiny_victim(architecture=MLP), data=DATA, scheme="random", budget=20)
    recipe = "train(mlp(width=32), digits(size=8), epochs=3)"
    found = populations.power_elsewhere(bare, recipe, ["quantise(int8)"], count=3, folder=tmp_path, workers=1)
    assert len(found["quantise(int8)"]) == 3
    assert all(similarity > 0.9 for similarity in found["quantise(int8)"])
    known = ownership.calibrate(bare, {"a": net(100), "b": net(101)}, pool="two", derived=found)
    assert known.calibration.derived["quantise(int8)"] == tuple(found["quantise(int8)"])


def test_calibration_is_kept_by_interface_and_comes_back_from_a_file(scored, tmp_path):
    write_fingerprint(scored, tmp_path / "a.fp")
    read = read_fingerprint(tmp_path / "a.fp")
    assert set(read.calibration.interfaces) == set(USUAL)
    assert read.calibration == scored.calibration
    assert read.calibration.through("Rounded(decimals=2)").null.similarities != scored.calibration.null.similarities
    assert read.calibration.through("") is read.calibration


@pytest.mark.parametrize("treatment", ["Rounded(decimals=3)", "Rounded(decimals=1)", "TopK(k=3)", "OneHot"])
def test_a_suspect_is_ranked_among_models_that_answer_as_it_does(scored, treatment):
    victim = tiny_victim(Access.PROBABILITIES, architecture=MLP)
    copy = whorl.verify(scored, treated(victim, treatment), alpha=ALPHA)
    assert copy.decision == "derived"
    assert treatment in copy.interface
    accused = [
        whorl.verify(scored, treated(oracle(net(seed), Access.PROBABILITIES), treatment), alpha=ALPHA).decision
        for seed in range(200, 210)
    ]
    assert accused.count("derived") <= 2, "at .05 three of ten have a chance of .012"


@pytest.mark.parametrize("scheme", ["tafa", "sac-normal"])
def test_labels_are_read_as_one_hot_rows_where_the_null_was_measured_so(scored, scheme):
    known = scored if scheme == "tafa" else made(scheme)
    victim = tiny_victim(architecture=MLP)
    seen = whorl.verify(known, LabelsOnly(victim), alpha=ALPHA)
    rows = whorl.verify(known, OneHot(victim), alpha=ALPHA)
    assert (seen.decision, seen.similarity, seen.p_value) == (rows.decision, rows.similarity, rows.p_value)
    assert seen.decision == ("derived" if scheme == "tafa" else "inconclusive"), "one recognises rows of 0 and 1"
    assert seen.interface == "PROBABILITIES -> LabelsOnly -> OneHot"
    accused = [whorl.verify(known, oracle(net(seed), Access.LABELS), alpha=ALPHA).decision for seed in range(200, 210)]
    assert accused.count("derived") <= 2, "at .05 three of ten have a chance of .012"
    unasked = whorl.verify(dataclasses.replace(known, probes=None), LabelsOnly(victim), alpha=ALPHA)
    assert unasked.null == rows.null


def test_an_endpoint_that_gives_labels_is_read_so_too(scored):
    victim = tiny_victim(architecture=MLP)
    with ModelServer(victim.module, (1, 8, 8), labels=True) as server:
        said = {"model": "m", "output": "labels", "input_shape": (1, 8, 8), "classes": 10}
        verdict = whorl.verify(scored, server.url, alpha=ALPHA, **said)
    assert (verdict.decision, verdict.interface) == ("derived", "PROBABILITIES -> OneHot")


def test_labels_are_refused_where_the_null_was_not_measured_so(scored):
    suspect = LabelsOnly(tiny_victim(architecture=MLP))
    plain = dataclasses.replace(scored, calibration=dataclasses.replace(scored.calibration, interfaces={}))
    with pytest.raises(AccessRefused, match=r"tafa needs PROBABILITIES .* grants LABELS\. .*--interface OneHot"):
        whorl.verify(plain, suspect, alpha=ALPHA)
    with pytest.raises(AccessRefused, match="whorl schemes --suspect-access labels"):
        whorl.verify(dataclasses.replace(scored, calibration=None), suspect, alpha=ALPHA)
    assert suspect.queries_spent == 0


def test_an_interface_that_was_not_measured_is_not_judged(scored):
    victim = tiny_victim(Access.PROBABILITIES, architecture=MLP)
    suspect = Rounded(TopK(victim, 2), 2)
    with pytest.raises(UsageError, match=r"--interface 'TopK\(k=2\) -> Rounded\(decimals=2\)'"):
        whorl.verify(scored, suspect, alpha=ALPHA)
    wider = ownership.calibrate(
        scored,
        {f"twin {seed}": net(seed) for seed in range(100, 121)},
        pool="twins",
        interfaces=["TopK(k=2) -> Rounded(decimals=2)"],
    )
    assert whorl.verify(wider, suspect, alpha=ALPHA).decision == "derived"


def test_what_is_called_logits_and_is_probabilities_is_read_as_those(scored):
    plain = whorl.verify(scored, tiny_victim(architecture=MLP).module, alpha=ALPHA)
    soft = whorl.verify(scored, nn.Sequential(tiny_victim(architecture=MLP).module, nn.Softmax(1)), alpha=ALPHA)
    assert (plain.decision, soft.decision) == ("derived", "derived")
    assert soft.similarity == pytest.approx(plain.similarity, abs=1e-3)


class Reordered(Wrapper):
    """Classes in another order."""

    def __init__(self, inner: Oracle, order: list[int]) -> None:
        super().__init__(inner, access=Access.LABELS)
        self.order = torch.tensor(order)

    def _stream(self, inputs) -> Iterator:
        for positions, answers in self.inner.stream(inputs):
            yield positions, self.order[answers]


@pytest.mark.parametrize("order", [[1, 0, 2, 3, 4, 5, 6, 7, 8, 9], [9, 8, 7, 6, 5, 4, 3, 2, 1, 0]])
def test_classes_in_another_order_are_told_and_not_judged(labelled, order):
    suspect = Reordered(LabelsOnly(tiny_victim(architecture=MLP)), order)
    with pytest.raises(UsageError, match="class_names") as caught:
        whorl.verify(labelled, suspect, alpha=ALPHA)
    assert f"0 means {order.index(0)}" in str(caught.value)


class Darkened(nn.Module):
    """A model that is given other pictures than it was trained on."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, inputs):
        return self.inner(inputs * 0)


def test_a_suspect_at_chance_is_told_to_describe_itself(labelled):
    with pytest.raises(UsageError, match=r"no better than chance \(your model: 1\d\d\).*range"):
        whorl.verify(labelled, Darkened(tiny_victim(architecture=MLP).module), alpha=ALPHA)


def test_groups_are_ranked_apart(bare):
    models = {f"{seed}": net(seed) for seed in range(100, 122)}
    about = {name: NullModel(name, group="even" if int(name) % 2 == 0 else "odd") for name in models}
    known = ownership.calibrate(bare, models, pool="two kinds", about=about)
    verdict = whorl.verify(known, tiny_victim(architecture=MLP).module, alpha=0.1)
    assert [(each["name"], each["size"]) for each in verdict.null["groups"]] == [("even", 11), ("odd", 11)]
    alone = whorl.verify(known, tiny_victim(architecture=MLP).module, alpha=0.1, group="odd")
    assert [each["name"] for each in alone.null["groups"]] == ["odd"]
    assert any("on the word of whoever asked" in caveat for caveat in alone.caveats)
    with pytest.raises(UsageError, match="no models of the group 'vit'"):
        whorl.verify(known, net(200), alpha=0.1, group="vit")


@pytest.mark.parametrize("decimals", range(1, 7))
def test_rounding_is_read_from_the_answers(decimals):
    answers = torch.randn(180, 10, generator=torch.Generator().manual_seed(decimals)).mul(2).softmax(1)
    assert treatment_of(answers) == ""
    assert treatment_of(answers.round(decimals=decimals)) == f"Rounded(decimals={decimals})"
    sharp = (answers.log() * 6).softmax(1)
    assert treatment_of(sharp) == ""
    assert treatment_of(sharp.round(decimals=decimals)) == f"Rounded(decimals={decimals})"


def test_what_an_interface_is_called_is_what_does_it(scored):
    victim = tiny_victim(Access.PROBABILITIES, architecture=MLP)
    inputs = scored.probes.inputs
    for treatment in (*USUAL, "TopK(k=4) -> Rounded(decimals=3)"):
        assert treatment_of(treated(victim, treatment).answers(inputs)) == treatment
    assert isinstance(treated(victim, "OneHot"), OneHot)
    for wrong in ("Blurred", "Rounded(places=3)", "TopK"):
        with pytest.raises(UsageError, match="treatment"):
            treated(victim, wrong)


def test_models_that_know_nothing_of_the_task_are_no_null_unless_one_insists(bare):
    """Any model stands out among random maps, whoever made it."""
    maps = {}
    for seed in range(30):
        torch.manual_seed(seed)
        maps[f"classifier {seed}"] = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    with pytest.raises(UsageError, match="any model of the task would stand out among them"):
        ownership.calibrate(bare, maps, pool="30 independent classifiers of the same task")
    known = ownership.calibrate(bare, maps, pool="30 independent classifiers", allow_unlike=True)
    verdict = ownership.verify(known, oracle(net(100)), alpha=ALPHA)
    assert any("models are unlike it" in each or "models of the null do" in each for each in verdict.caveats)
    one_is_enough = {**dict(list(maps.items())[:5]), "good": net(101)}
    assert len(ownership.calibrate(bare, one_is_enough, pool="one good").calibration.null) == 6
