"""From a victim to a verdict: copies are derived, strangers are not, and without a null nobody is."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from whorl.errors import AccessRefused, UsageError
from whorl.fingerprints.files import write_fingerprint
from whorl.fingerprints.second import identity
from whorl.oracles.torch import TorchOracle
from whorl.oracles.wrappers import LabelsOnly
from whorl.removals import REMOVALS
from whorl.schemes import SCHEMES
from whorl.schemes.asking import asking_order
from whorl.schemes.opening import read_fingerprint
from whorl.schemes.session import Session
from whorl.testing import tiny_data, tiny_net, tiny_victim
from whorl.testing.unchanged import chance_unchanged
from whorl.types import Access, Evidence, Grade, NullModel, Representation, Rule

ALPHA = 0.05
MLP = "mlp(width=32)"
SCHEME = SCHEMES.make("ipguard(margin=2, learning_rate=0.01, iterations=300)")


def stranger(seed, access=Access.LABELS):
    """An independent model, trained on pictures of its own, of which only labels are seen."""
    net = tiny_net(seed=seed, part="calibration", architecture=MLP)
    return TorchOracle(net, input_shape=(1, 8, 8), classes=10, access=access, name=f"stranger {seed}")


def copy(expression, seed=0, part="attacker"):
    """What a thief makes of the victim, of which only labels are seen."""
    victim = tiny_victim(architecture=MLP)
    net = REMOVALS.make(expression)(victim, tiny_data(part), generator=torch.Generator().manual_seed(seed))
    return TorchOracle(net, input_shape=(1, 8, 8), classes=10, access=Access.LABELS, name=expression)


@pytest.fixture(scope="module")
def bare():
    return SCHEME.extract(tiny_victim(architecture=MLP), tiny_data("victim"), budget=60)


@pytest.fixture(scope="module")
def fingerprint(bare):
    tuned = "fine_tune(all, epochs=2)"
    return SCHEME.calibrate(
        bare,
        {f"stranger {seed}": stranger(seed) for seed in range(100, 121)},
        pool="21 perceptrons on other digits",
        derived={tuned: [copy(tuned, seed, "calibration") for seed in range(14)]},
    )


@pytest.mark.parametrize(
    "expression",
    ["fine_tune(last, epochs=2)", "fine_tune(all, epochs=2)", "prune_weights(0.2)", "quantise(int8)", "reparametrise"],
)
def test_copies_are_derived(fingerprint, expression):
    suspect = copy(expression)
    verdict = SCHEME.verify(fingerprint, suspect, alpha=ALPHA)
    assert verdict.decision == "derived"
    assert SCHEME.observe(fingerprint, suspect).similarity > 0.8
    assert verdict.p_value_floor <= verdict.p_value <= ALPHA
    assert verdict.error_bound <= ALPHA
    assert verdict.suspect == expression
    assert verdict.null["size"] == 21


def test_strangers_are_not(fingerprint):
    """Nine of ten would already be many at this error rate; fixed seeds make it a fact about these."""
    for seed in range(200, 208):
        verdict = SCHEME.verify(fingerprint, stranger(seed), alpha=ALPHA)
        assert verdict.decision == "unrelated", "the power that calibration measured allows to say so"
        assert verdict.p_value > ALPHA
        assert verdict.similarity < 0.5
        assert any("could not have seen" in caveat for caveat in verdict.caveats)


def test_without_a_null_nobody_is_accused(bare):
    verdict = SCHEME.verify(bare, copy("quantise(int8)"), alpha=ALPHA)
    assert verdict.decision == "inconclusive"
    assert verdict.similarity > 0.9
    assert any("whorl calibrate" in caveat for caveat in verdict.caveats), "what to type"


def test_a_null_too_small_for_alpha_accuses_nobody(bare):
    few = SCHEME.calibrate(bare, {str(seed): stranger(seed) for seed in (100, 101)}, pool="two")
    verdict = SCHEME.verify(few, copy("quantise(int8)"), alpha=ALPHA)
    assert verdict.decision == "inconclusive"
    assert any("at least 19 are needed" in caveat for caveat in verdict.caveats)


def test_the_victim_is_derived_from_itself(fingerprint):
    verdict = SCHEME.verify(fingerprint, tiny_victim(Access.LABELS, architecture=MLP), alpha=ALPHA)
    assert (verdict.decision, verdict.similarity) == ("derived", 1.0)


class Blocks(LabelsOnly):
    """An endpoint that is asked five queries in a round."""

    def __init__(self, inner):
        super().__init__(inner)
        self.block = 5


def test_a_paid_endpoint_is_asked_no_longer_than_needed(fingerprint):
    suspect, asked = Blocks(copy("quantise(int8)")), []
    verdict = SCHEME.verify(fingerprint, suspect, alpha=ALPHA, progress=asked.append)
    assert verdict.decision == "derived"
    assert verdict.queries["spent"] == suspect.queries_spent == sum(asked) < len(fingerprint.queries)
    assert verdict.queries["stopped_early"]
    assert set(asked) == {5}


@pytest.mark.parametrize("suspect", [copy("quantise(int8)"), stranger(200), stranger(203)], ids=lambda each: each.name)
def test_the_size_of_rounds_changes_what_is_spent_and_nothing_else(fingerprint, suspect):
    spending = {"spent": None, "stopped_early": None}

    def verdict(block):
        asked = LabelsOnly(suspect)
        asked.block = block
        found = SCHEME.verify(fingerprint, asked, alpha=ALPHA)
        assert found.queries["spent"] == asked.queries_spent >= found.queries["needed"]
        return dataclasses.replace(found, queries={**found.queries, **spending}, interface="")

    _, measured = Session(SCHEME, fingerprint, suspect, Rule(alpha=ALPHA)).measure()
    measured = dataclasses.replace(measured, queries={**measured.queries, **spending}, interface="")
    assert measured == verdict(1) == verdict(7) == verdict(None) == verdict(1000)


def test_a_model_at_hand_is_not_asked_everything_either(fingerprint):
    suspect = copy("quantise(int8)")
    verdict = SCHEME.verify(fingerprint, suspect, alpha=ALPHA)
    assert verdict.queries["stopped_early"]
    assert verdict.queries["spent"] == suspect.queries_spent < len(fingerprint.queries)


def test_a_session_that_measures_asks_everything(fingerprint):
    suspect = copy("quantise(int8)")
    evidence, verdict = Session(SCHEME, fingerprint, suspect, Rule(alpha=ALPHA)).measure()
    assert verdict.queries["spent"] == suspect.queries_spent == len(fingerprint.queries) > verdict.queries["needed"]
    assert evidence.similarity == SCHEME.observe(fingerprint, suspect).similarity


def test_what_cannot_be_compared_is_refused(fingerprint):
    broken = dataclasses.replace(fingerprint, reference=Representation(fingerprint.reference.values[:, None]))
    with pytest.raises(UsageError, match=r"as \[60\].*\[60, 1\]"):
        SCHEME.observe(broken, stranger(200))


def test_a_fingerprint_of_format_1_says_so_until_it_is_calibrated_again(fingerprint):
    old = dataclasses.replace(fingerprint, format=1, nonce="")
    verdict = SCHEME.verify(old, copy("quantise(int8)"), alpha=ALPHA)
    assert verdict.grade == "D"
    assert verdict.caveats[0].startswith(Grade.D.sentence)
    assert "format 1" in verdict.caveats[1]
    assert "whorl calibrate" in verdict.caveats[1]
    new = SCHEME.calibrate(old, {str(seed): stranger(seed) for seed in (100, 101)}, pool="two")
    assert new.format == 2
    assert not any("format 1" in caveat for caveat in SCHEME.verify(new, stranger(200), alpha=ALPHA).caveats)


def test_a_null_records_who_its_models_are(bare):
    models = {"a": stranger(100), "b": LabelsOnly(stranger(101, Access.LOGITS))}
    about = {"a": NullModel("a", made="train(mlp, digits)", accuracy=0.9, group="mlp")}
    null = SCHEME.calibrate(bare, models, pool="two", about=about).calibration.null
    first, second = null.models
    assert first == NullModel("a", models["a"].digest, "train(mlp, digits)", 0.9, "LABELS", "mlp")
    assert second == NullModel("b", models["b"].digest, interface="LABELS -> LabelsOnly")
    assert len({first.digest, second.digest, ""}) == 3


def test_a_budget_is_kept(fingerprint):
    suspect = stranger(200)
    verdict = SCHEME.verify(fingerprint, suspect, alpha=ALPHA, budget=7)
    assert suspect.queries_spent <= 7
    assert verdict.queries["budget"] == 7
    assert verdict.decision != "derived"


def test_the_order_is_fixed_by_the_contents(fingerprint):
    first, again = asking_order(fingerprint), asking_order(fingerprint)
    assert first.equal(again)
    assert first.sort().values.equal(torch.arange(len(fingerprint.queries)))
    assert not first.equal(asking_order(dataclasses.replace(fingerprint, nonce="00")))
    moved = dataclasses.replace(fingerprint, seconds=9.0, calibration=None)
    assert identity(moved) == identity(fingerprint)
    changed = dataclasses.replace(fingerprint, queries=fingerprint.queries[:50])
    assert identity(changed) != identity(fingerprint)


def test_the_same_question_has_the_same_answer(fingerprint):
    with chance_unchanged("verify"):
        first, again = (SCHEME.verify(fingerprint, Blocks(stranger(201)), alpha=ALPHA) for _ in range(2))
    assert first == again


def test_a_fingerprint_from_a_file_gives_the_same_verdict(fingerprint, tmp_path):
    path = tmp_path / "fingerprint.safetensors"
    write_fingerprint(fingerprint, path)
    read = read_fingerprint(path)
    scheme = SCHEMES.make(read.scheme)
    assert scheme == SCHEME
    for suspect in (copy("quantise(int8)"), stranger(202)):
        assert scheme.verify(read, suspect, alpha=ALPHA) == SCHEME.verify(fingerprint, suspect, alpha=ALPHA)


def test_a_fingerprint_tells_where_it_comes_from(bare):
    victim = tiny_victim(architecture=MLP)
    assert bare.victim == victim.digest != ""
    assert bare.data == "digits(size=8, seed=0)"
    assert (bare.classes, bare.seed) == (10, 0)
    assert bare.seconds > 0
    assert set(bare.versions) == {"whorl", "torch", "numpy"}


def test_calibration_measures_each_model_once(bare):
    done = []
    models = {str(seed): stranger(seed) for seed in (100, 101)}
    copies = {"quantise": [copy("quantise(int8)")]}
    found = SCHEME.calibrate(
        bare, models, pool="two", siblings=1, derived=copies, progress=lambda: done.append(1)
    ).calibration
    assert len(done) == 3
    assert found.null.names == ("100", "101")
    assert found.null.similarities == tuple(SCHEME.observe(bare, model).similarity for model in models.values())
    assert (found.null.pool, found.null.siblings) == ("two", 1)
    assert found.derived == {"quantise": (SCHEME.observe(bare, copies["quantise"][0]).similarity,)}
    assert all(model.queries_spent == 2 * len(bare.queries) for model in models.values())


def test_calibration_without_models_is_refused(bare):
    with pytest.raises(UsageError, match="independent models"):
        SCHEME.calibrate(bare, {}, pool="nobody")


def test_too_little_access_names_what_to_type():
    victim = tiny_victim(Access.LOGITS, architecture=MLP)
    with pytest.raises(AccessRefused, match="whorl schemes --victim-access logits") as caught:
        SCHEME.extract(victim, tiny_data("victim"))
    assert "ipguard needs GRADIENTS of the victim; tiny 0 grants LOGITS" in str(caught.value)
    assert victim.queries_spent == 0


class Scores(type(SCHEME)):
    """Needs more than labels of the suspect."""

    needs_suspect = Access.PROBABILITIES


def test_too_little_access_to_the_suspect_names_what_to_type(bare):
    suspect = stranger(200)
    for ask in (Scores().observe, Scores().verify):
        with pytest.raises(AccessRefused, match="whorl schemes --suspect-access labels"):
            ask(bare, suspect)
    assert suspect.queries_spent == 0


@pytest.mark.parametrize(
    ("shape", "classes", "says"), [((1, 9, 9), 10, r"takes pictures \[1, 9, 9\] of 10"), ((1, 8, 8), 5, r"of 5")]
)
def test_a_suspect_of_another_form_is_refused(bare, shape, classes, says):
    from whorl.nets.training import build

    net = build("mlp", shape, classes, torch.Generator().manual_seed(0))
    suspect = TorchOracle(net, input_shape=shape, classes=classes, name="other")
    with pytest.raises(UsageError, match=says):
        SCHEME.verify(bare, suspect)
    assert suspect.queries_spent == 0


def test_mistakes_at_extraction():
    from whorl.data import SOURCES

    victim = tiny_victim(architecture=MLP)
    with pytest.raises(UsageError, match="at least one query"):
        SCHEME.extract(victim, tiny_data("victim"), budget=0)
    with pytest.raises(UsageError, match=r"takes pictures \[1, 8, 8\]; the data hold pictures \[1, 12, 12\]"):
        SCHEME.extract(victim, SOURCES.make("digits(size=12)").load("victim"))
    with pytest.raises(UsageError, match="seed pictures are needed"):
        SCHEME.extract(victim, tiny_data("victim"), budget=10_000)
    assert victim.queries_spent == 0


class Whole(type(SCHEME)):
    """A similarity of the whole fingerprint alone."""

    per_query = False

    def similarity(self, reference, observed):
        return Evidence(super().similarity(reference, observed).similarity)


def test_a_scheme_that_compares_the_whole(bare):
    scheme = Whole()
    known = scheme.calibrate(bare, {str(seed): stranger(seed) for seed in range(100, 121)}, pool="21 perceptrons")
    suspect = Blocks(copy("quantise(int8)"))
    verdict = scheme.verify(known, suspect, alpha=ALPHA)
    assert verdict.decision == "derived"
    assert suspect.queries_spent == len(bare.queries), "the whole or nothing"
    assert scheme.verify(known, stranger(200), alpha=ALPHA).decision != "derived"


@pytest.mark.parametrize("broken", ["few", "outside", "double", "nan"])
def test_a_sampler_that_breaks_its_promise_is_found(broken):
    class Broken(type(SCHEME)):
        def sample(self, victim, data, *, budget, generator):
            queries = super().sample(victim, data, budget=budget, generator=generator)
            change = {
                "few": lambda x: x[:-1],
                "outside": lambda x: x + 1,
                "double": lambda x: x.double(),
                "nan": lambda x: x * float("nan"),
            }[broken]
            return dataclasses.replace(queries, inputs=change(queries.inputs))

    with pytest.raises(UsageError, match="sampler"):
        Broken(iterations=2).extract(tiny_victim(architecture=MLP), tiny_data("victim"), budget=4)


OLD = Path(__file__).parents[1] / "golden" / "v0.1" / "ipguard.safetensors"


def test_a_fingerprint_that_version_0_1_made_is_verified_and_upgraded():
    old = read_fingerprint(OLD)
    assert old.format == 1
    for suspect, decision in ((tiny_victim(architecture=MLP), "derived"), (stranger(200), "inconclusive")):
        verdict = SCHEME.verify(old, suspect, alpha=ALPHA)
        assert (verdict.decision, verdict.grade) == (decision, "D")
        assert "format 1" in verdict.caveats[1]
    new = SCHEME.calibrate(old, {str(seed): stranger(seed) for seed in range(100, 120)}, pool="20 perceptrons")
    assert new.format == 2
    assert new.calibration.null.similarities == old.calibration.null.similarities
    assert SCHEME.verify(new, tiny_victim(architecture=MLP), alpha=ALPHA).decision == "derived"
