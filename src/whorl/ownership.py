"""The three verbs of an owner: extract a fingerprint, calibrate it, verify a suspect.

Each takes whatever names a model (a module, an estimator, a file, an address, an oracle) and whatever names data.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from whorl.data import SOURCES, Dataset
from whorl.data.neutral import neutral
from whorl.detection.integrity import Integrity
from whorl.errors import Undescribed, Unnamed, UsageError
from whorl.expressions import parse
from whorl.fingerprints.calibrations import earlier_settings, remember
from whorl.fingerprints.roles import take_roles
from whorl.fingerprints.secret import Secret
from whorl.fingerprints.terms import terms_of
from whorl.lineups import making
from whorl.lineups.figures import with_reasons
from whorl.oracles.base import Oracle
from whorl.oracles.opening import open_oracle
from whorl.oracles.pool import Pool
from whorl.oracles.reordered import with_same_names
from whorl.oracles.wrappers import digests_of
from whorl.schemes import SCHEMES, Scheme
from whorl.schemes.calibration import probes_of, refuse_unlike
from whorl.suspects import (
    asked,
    earlier_looks,
    in_order,
    judged,
    known_fingerprint,
    lineups_in,
    one_of,
    order_for,
    refuse_unfinished,
    rule_for,
    rule_of_changes,
    secret_of,
    tells_changes,
    unchanged,
)
from whorl.types import Fingerprint, NullModel, Verdict

__all__ = ["calibrate", "candidate", "extract", "give_reasons", "line_up", "owned", "verify"]


def extract(
    victim: Any,
    *,
    data: Dataset | str | None,
    scheme: Scheme | str = "ipguard",
    part: str | None = None,
    budget: int = 100,
    seed: int = 0,
    pool: Pool | None = None,
    provenance: Mapping[str, str] | None = None,
    **options: Any,
) -> Fingerprint:
    """Make the fingerprint of a model you own.

    Parameters:
        victim: a module, estimator, file, address or oracle (see `whorl.oracles.opening.open_oracle`).
        data: a data set, or an expression such as ``digits`` or ``folder("./pictures", size=32)``.
        scheme: a scheme, or an expression such as ``ipguard(margin=10)``.
        part: the part of the data to take seeds from; the scheme's own choice by default.
        budget: number of queries.
        seed: the same seed gives the same bytes on the same machine.
        pool: shadow models, for a scheme that learns from them (see `whorl.populations.shadows`).
        provenance: who or what chose the scheme, a setting or the budget, by its name; the file keeps it. Settings
            that are not named there are kept as given or as defaults.
        options: what the file does not say of the model: architecture, classes, input_shape, ...
    """
    chosen = SCHEMES.make(scheme) if isinstance(scheme, str) else scheme
    oracle = owned(victim, data, **options)
    pictures = SOURCES.make(data).load(part or chosen.part) if isinstance(data, str) else data
    oracle = with_same_names(oracle, pictures.classes if pictures is not None else ())  # the fingerprint's own
    made = chosen.extract(oracle, pictures, budget=budget, seed=seed, pool=pool)
    controls = neutral(data, seed)
    probes = probes_of(oracle, controls) if controls is not None and controls.outputs == oracle.classes else None
    return replace(made, probes=probes, provenance={**_origins(scheme), **(provenance or {})})


def owned(victim: Any, data: Dataset | str | None, /, **options: Any) -> Oracle:
    """An oracle for a model whose owner has data for it: what its file does not say of its outside is as the data are.

    Raises as `whorl.oracles.opening.open_oracle` does, where data tell nothing of what is missing.
    """
    try:
        return open_oracle(victim, **options)
    except (Undescribed, Unnamed) as error:
        lacking = error.lacking if isinstance(error, Undescribed) else {"class_names": ""}
        if data is None or "architecture" in lacking:
            raise
        pictures = SOURCES.make(data).load("victim") if isinstance(data, str) else data
        known: dict[str, Any] = {"input_shape": list(pictures.input_shape)}
        if pictures.classes:
            known |= {"classes": len(pictures.classes), "class_names": list(pictures.classes)}
        told = {key: value for key, value in known.items() if key in lacking}
        if not told:
            raise
    return owned(victim, pictures, **told, **options)


def _origins(scheme: Scheme | str) -> dict[str, str]:
    """Which settings were given and which are the scheme's own defaults."""
    call = parse(str(scheme))
    defaults = SCHEMES.parameters(call.name) if call.name in SCHEMES else {}
    given = set(list(defaults)[: len(call.args)]) | {name for name, _ in call.kwargs}
    if isinstance(scheme, Scheme):  # its text names every setting
        given = {name for name in given if getattr(scheme, name) != defaults.get(name)}
    return {name: "given" if name in given else "the scheme's default" for name in {**defaults, **dict(call.kwargs)}}


def calibrate(  # noqa: PLR0913 each is an option of `whorl calibrate`
    fingerprint: Fingerprint | str | Path,
    independents: Mapping[str, Any],
    *,
    pool: str,
    siblings: int = 0,
    derived: Mapping[str, Sequence[Any]] | None = None,
    about: Mapping[str, NullModel] | None = None,
    interfaces: Sequence[str] = (),
    allow_unlike: bool = False,
    log: Path | None = None,
    progress: Callable[[], None] = lambda: None,
    **options: Any,
) -> Fingerprint:
    """The fingerprint with the null that a verdict needs. One of format 1 becomes one of format 2.

    Parameters:
        independents: name to model; trained without the victim, and none of them ever under test.
        pool: who they are, in words; every verdict quotes it.
        siblings: how many of them share a public ancestor with the victim.
        derived: removal to known copies of the victim, which measure power; a number counts as the similarity of a
            copy that was measured elsewhere (`whorl.populations.power_elsewhere`).
        about: what is known of the independent models by name: recipe or words, accuracy, group.
        interfaces: treatments of answers to measure through, as in ``TopK(k=5) -> Rounded(decimals=4)``, beside the
            usual ones.
        allow_unlike: take a null whose best model is right less often than the victim by more than .2.
        log: a folder that remembers which models calibrated which settings. Verdicts then tell of other settings of
            this scheme that models of this null calibrated before; ``whorl calibrate`` has one in its cache.
        options: as in `extract`, for all models that take them: an architecture is for bare weights alone.
    """
    known = known_fingerprint(fingerprint)
    made = SCHEMES.make(known.scheme).calibrate(
        known,
        {name: one_of(known, model, **options) for name, model in independents.items()},
        pool=pool,
        siblings=siblings,
        derived={
            name: [each if isinstance(each, float) else one_of(known, each, **options) for each in models]
            for name, models in (derived or {}).items()
        },
        about=about,
        interfaces=interfaces,
        progress=progress,
    )
    assert made.calibration is not None
    if not allow_unlike:
        refuse_unlike(made)
    if log is None:
        return made
    earlier = earlier_settings(log, made, made.calibration.null)
    remember(log, made, made.calibration.null)
    return replace(made, calibration=replace(made.calibration, earlier=earlier[:1000]))


def line_up(  # noqa: PLR0913 each is an option of `whorl twins`
    fingerprint: Fingerprint | str | Path,
    victim: Any,
    twins: Mapping[str, Any],
    *,
    data: Dataset | str | None = None,
    size: int = 1000,
    alpha: float | None = None,
    by: str = "",
    recipe: str = "",
    victim_seed: int | None = None,
    hypothesis: str = "",
    strangers: Mapping[str, Any] | None = None,
    copies: Mapping[str, Sequence[Any]] | None = None,
    cache: Path | None = None,
    progress: Callable[[], None] = lambda: None,
    **options: Any,
) -> tuple[Fingerprint, Secret]:
    """The fingerprint with a lineup of your model and its twins, and the secret that says which of them is yours.

    Parameters:
        twins: by name, other runs of your model's own recipe with other, secret seeds.
        data: where questions are chosen from; the fingerprint's own by default. A source also shows, by its parts,
            whether your model is one among equals.
        size: number of questions.
        alpha: accepted chance of naming your model wrongly, fixed here; .01 with 99 twins or more, else .05.
        by: a scheme, as in ``ipguard(margin=7)``: each candidate gets a fingerprint of its own by it, all of one size
            that share the questions, and the suspect's likeness to each is compared. All is asked then.
        recipe: how your model and all twins were made, in words.
        victim_seed: your model's own seed; it is not kept. Without one of 64 bits or more no verdict is called exact.
        hypothesis: what is tested where the twins share a part of your model's history, as a checkpoint.
        strangers: models made without yours, public ancestors above all: verdicts say how many of them name it.
        copies: removal to known copies of your model, which measure power.
        cache: folder that remembers in which lineups each of these nets stood as victim or as twin, so that a change
            of roles is told; `whorl.zoo.cache.default_cache` by default.
        options: as in `extract`, for all models.
    """
    known = known_fingerprint(fingerprint)
    terms = making.fixed_terms(len(twins), alpha=alpha, victim_seed=victim_seed, hypothesis=hypothesis, by=by)
    mine, source = candidate(known, victim, data=data, **options)
    everyone = [_lined_up(known, model, **options) for model in twins.values()]
    for name, model, each in zip(twins, twins.values(), everyone, strict=True):
        if each is not model:  # those of a script all lie in files of one name
            each.name = name
    made, secret = making.line_up(
        known,
        mine,
        everyone,
        making.Material.of(source, terms.by),
        size=size,
        terms=terms,
        recipe=recipe,
        progress=progress,
    )
    made = making.with_known(
        made,
        secret,
        strangers={name: _lined_up(known, model, **options) for name, model in (strangers or {}).items()},
        copies={name: [_lined_up(known, each, **options) for each in many] for name, many in (copies or {}).items()},
        progress=progress,
    )
    return _remembered(made, secret, mine, everyone, cache), secret


def _lined_up(known: Fingerprint, model: Any, /, **options: Any) -> Oracle:
    """One of several models that are asked side by side, its classes in the fingerprint's order."""
    return with_same_names(one_of(known, model, **options), known.class_names)


def _remembered(
    made: Fingerprint, secret: Secret, victim: Oracle, twins: Sequence[Oracle], cache: Path | None
) -> Fingerprint:
    """The fingerprint whose lineup also knows in how many others its nets stood in other roles."""
    assert made.candidates is not None
    known = [each for twin in twins for each in digests_of(twin)]
    turned = take_roles(lineups_in(cache), secret.commitment, digests_of(victim), known)
    terms = terms_of(made.candidates, made.task).model_copy(update={"turned": turned})
    return replace(made, candidates=replace(made.candidates, settings=terms.document()))


def give_reasons(
    fingerprint: Fingerprint | str | Path,
    reasons: Mapping[str, str],
    *,
    secret: Secret | Path | str | None = None,
    cache: Path | None = None,
) -> Fingerprint:
    """The fingerprint whose lineup also says why your model may stand among its twins although figures set it apart.

    A reason lifts the figure that it names and no other, and is given when the figures are known and no suspect was
    asked yet. Every verdict quotes it.

    Parameters:
        reasons: by figure, as in ``{"accuracy": "..."}``.
        secret: what opens the lineup; of a fingerprint file the one beside it by default.
        cache: folder that remembers verifications, as in `verify`.

    Raises:
        UsageError: there is no lineup, no secret, or a suspect was asked already; or a figure does not set your model
            apart.
    """
    known = known_fingerprint(fingerprint)
    if known.candidates is None:
        raise UsageError("this fingerprint holds no lineup, and so nothing to give a reason for; make one: whorl twins")
    if earlier_looks(fingerprint, known, cache):
        raise UsageError(
            "this lineup was held against suspects already, and a reason is given before the first look: line up anew "
            "(whorl twins)"
        )
    if (opened := secret_of(fingerprint, secret)) is None:
        raise UsageError(
            "FINGERPRINT.secret says which candidate is yours, and it is not beside the fingerprint: put it there"
        )
    return with_reasons(known, opened, reasons)


def candidate(
    fingerprint: Fingerprint | str | Path, victim: Any, *, data: Dataset | str | None = None, **options: Any
) -> tuple[Oracle, Dataset | str]:
    """Your model as a lineup takes it, and where its questions come from; to be checked before twins are trained.

    Raises:
        UsageError: it is not the victim of the fingerprint, or there are no data.
    """
    known = known_fingerprint(fingerprint)
    if (source := data if data is not None else known.data) in (None, ""):
        raise UsageError("this fingerprint does not name its data, and questions are chosen from some: give data")
    mine = _lined_up(known, victim, **options)
    if known.victim not in digests_of(mine):
        raise UsageError(f"{mine.name} is not the victim of this fingerprint; give the model that it was made from")
    return mine, source


def verify(  # noqa: PLR0913 each is an option of `whorl verify`
    fingerprint: Fingerprint | str | Path,
    suspect: Any,
    *,
    rule: Literal["lineup", "population"] | None = None,
    alpha: float | None = None,
    budget: int | None = None,
    group: str = "",
    match_labels: bool = False,
    secret: Secret | Path | str | None = None,
    nonce: str = "",
    align_to: Any = None,
    record: Path | str | None = None,
    replay: bool = False,
    cache: Path | None = None,
    progress: Callable[[int], None] = lambda _: None,
    **options: Any,
) -> Verdict | Integrity:
    """Was the suspect made from the fingerprint's victim? Of a scheme of purpose "integrity": is it exactly the victim?

    Parameters:
        suspect: a module, estimator, file, address or oracle. What a bare file or an address does not say of its
            inputs and classes is taken from the fingerprint.
        rule: whether victim and twins are lined up before the suspect, or the suspect is ranked among the models of the
            null; the lineup where there is one.
        alpha: accepted chance of calling an independent model derived; of a lineup the one that was fixed with it, of a
            mark 1e-6, else .01 by default. Of an integrity check, the chance with which its bound fails, .05 by default
        budget: most queries; all of the fingerprint by default. Neutral probes come beside them.
        group: the suspect's kind among the groups of the null, where it is known; without it the suspect has to stand
            out in every group.
        match_labels: in a lineup, let each candidate read the suspect's classes in the order that agrees best, where
            nobody knows in which order they stand. All questions are asked then.
        secret: what opens a lineup; of a fingerprint file the one beside it (``FINGERPRINT.secret``) by default.
        nonce: your own number of the draw of a mark, in hexadecimal, by which you know that the draw is real.
        align_to: of a mark whose bits stand in weights, the model as it was before it was marked: units of a suspect
            that were reordered or rescaled are put back beside its units (`whorl.marks.aligning`). The mark fixed its
            digest before the draw, so p stays exact.
        record: a file that keeps answers, so that an interrupted verification goes on without asking twice; for an
            address one in ``cache`` by default. One that has led to a verdict is asked anew next time.
        replay: take the answers that this fingerprint's last finished verification left in the record.
        cache: folder for what is kept; `whorl.zoo.cache.default_cache` by default.
        options: as in `extract`, ``access`` and ``trust_code`` of `whorl.oracles.opening.open_oracle` among them.
    """
    known = known_fingerprint(fingerprint)
    refuse_unfinished(fingerprint, known, rule)
    order = order_for(known, align_to, **options)
    if tells_changes(known):
        by = rule_of_changes(rule, alpha, budget, group=group, match_labels=match_labels)
        with asked([known], suspect, by, options, record=record, replay=replay, cache=cache) as oracle:
            return unchanged(fingerprint, known, oracle, by, cache, progress)
    by = in_order(rule_for(known, rule, alpha, budget, group=group, match_labels=match_labels, nonce=nonce), order)
    with asked([known], suspect, by, options, record=record, replay=replay, cache=cache, align_to=order) as oracle:
        (verdict,) = judged(fingerprint, known, oracle, [by], secret, cache, progress)
    return verdict
