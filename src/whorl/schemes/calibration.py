"""The null of a fingerprint: who may be in it, how alike its models are, and how they answer neutral probes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Final

import numpy as np
import torch
from torch import Tensor

from whorl.data.base import Dataset
from whorl.detection.exchangeability import likeness
from whorl.detection.groups import families
from whorl.errors import UsageError
from whorl.oracles.base import Oracle, interface_of
from whorl.oracles.interface import USUAL, Remembered, check_treatment, treated
from whorl.oracles.wrappers import digests_of
from whorl.schemes.asking import admit, compare, ordered, represent
from whorl.schemes.kin import kin
from whorl.storage import digest_tensors
from whorl.types import Access, Calibration, Fingerprint, Measured, Null, NullModel, Probes, grants

if TYPE_CHECKING:
    from whorl.schemes.base import Scheme

__all__ = [
    "calibrated",
    "check_models",
    "doubts",
    "labels_of",
    "probes_of",
    "raw_answers",
    "refuse_unlike",
    "same_answers",
    "sees_probabilities",
]

MOST_CLASSES: Final = 1000  # of more, labels are kept
SAME: Final = 1e-4  # probabilities that differ less come from one model, saved or run in another way
FEW: Final = 4  # of so many models of a null one is looked at as a copy of the victim, and one of any fewer
DOES: Final = {
    "accuracy": ("is right on {} of the control pictures", "on"),
    "confidence": ("gives the right class of the control pictures {} on average", "give it"),
    "agreement": ("agrees with the null's on {} of the control pictures", "among each other on"),
}
UNLIKE: Final = 0.2  # of accuracy, by which the best model of a null may fall short of the victim
TELLING: Final = 5  # answers that are not all but certain, from which that can be seen


def calibrated(
    scheme: Scheme,
    fingerprint: Fingerprint,
    independents: Mapping[str, Oracle],
    *,
    words: Null,
    derived: Mapping[str, Sequence[Oracle | float]],
    about: Mapping[str, NullModel],
    interfaces: Sequence[str],
    progress: Callable[[], None],
) -> Fingerprint:
    """The fingerprint with its null, of which ``words`` says all but the models; see `whorl.schemes.base.Scheme`."""
    if not independents:
        raise UsageError("calibration needs independent models; give some, or a recipe to train them from")
    made = [copy for given in derived.values() for copy in given if isinstance(copy, Oracle)]
    check_models(scheme, fingerprint, independents, made, interfaces)
    copies = {removal: _distinct(given, fingerprint) for removal, given in derived.items()}
    everyone = [*independents.values(), *(oracle for oracles in copies.values() for oracle in oracles)]
    treatments = _interfaces(scheme, everyone, interfaces)
    null, asked = _measure(scheme, fingerprint, list(independents.values()), treatments, progress)
    known = {
        removal: _measure(scheme, fingerprint, oracles, treatments, progress)[0] for removal, oracles in copies.items()
    }
    elsewhere = {
        removal: tuple(each for each in given if isinstance(each, float)) for removal, given in derived.items()
    }
    models = tuple(
        dataclasses.replace(
            about.get(name, NullModel(name)),
            name=name,
            digest=next(iter(digests_of(oracle)), ""),
            interface=interface_of(oracle),
        )
        for name, oracle in independents.items()
    )
    models = _with_families(models, list(independents.values()))
    probes = _probes(fingerprint, asked)
    _refuse_alike(fingerprint, models, probes)
    whole = dataclasses.replace(
        words, models=_with_accuracy(models, probes, fingerprint), similarities=null[""], probes=probes
    )
    shown = {
        treatment: Measured(null[treatment], {removal: values[treatment] for removal, values in known.items()})
        for treatment in treatments
    }
    power = {removal: (*values[""], *elsewhere[removal]) for removal, values in known.items()}
    return dataclasses.replace(fingerprint, calibration=Calibration(whole, power, shown), format=2)


def _with_families(models: Sequence[NullModel], oracles: Sequence[Oracle]) -> tuple[NullModel, ...]:
    """The models, of which those that were made from one another bear the name of the first of them."""
    family = {place: models[members[0]].name for members in kin(oracles) for place in members}
    return tuple(dataclasses.replace(each, family=family.get(place, "")) for place, each in enumerate(models))


def check_models(
    scheme: Scheme,
    fingerprint: Fingerprint,
    independents: Mapping[str, Oracle],
    copies: Sequence[Oracle],
    interfaces: Sequence[str],
) -> None:
    """Raise `AccessRefused` or `UsageError`, before anything is asked, where a null cannot be made of these."""
    everyone = (*independents.values(), *copies)
    for treatment in interfaces:
        check_treatment(treatment, min(filter(None, (fingerprint.classes, *(each.classes for each in everyone)))))
    for oracle in everyone:
        admit(scheme, fingerprint, oracle)
    _refuse_repeated(fingerprint, independents)


def refuse_unlike(fingerprint: Fingerprint) -> None:
    """Raise `UsageError` where the models of a null know nothing of the task: any good model would stand out."""
    if fingerprint.calibration is None or (probes := fingerprint.probes) is None:
        return
    accuracies = [each.accuracy for each in fingerprint.calibration.null.models if each.accuracy is not None]
    known = probes.labels >= 0
    own = float((labels_of(probes.victim) == probes.labels)[known].double().mean())
    if accuracies and max(accuracies) < own - UNLIKE:
        raise UsageError(
            f"the best of these models is right on {max(accuracies):.2f} of the control pictures, and the victim on "
            f"{own:.2f}: any model of the task would stand out among them. Train some that are as good, or say "
            "--allow-unlike"
        )


def doubts(scheme: Scheme, fingerprint: Fingerprint) -> tuple[str, ...]:
    """What is wrong with the models of a null and costs error rate or power, a line each: verdicts suffer from it."""
    if fingerprint.calibration is None:
        return ()
    null = fingerprint.calibration.null
    told = [*_unlike_the_victim(fingerprint, null)]
    if (counted := len(families(null))) < len(null):
        told.append(
            f"of the {len(null)} models of the null some were made from one another, as their weights or answers show, "
            f"and all count as {counted}: give models that were trained apart, not tunes or copies of a few. If they "
            "share a public ancestor with your model, say how many do: --siblings"
        )
    if names := _like_copies(null, compare(scheme, fingerprint.reference, fingerprint.reference).similarity):
        told.append(
            f"{' and '.join(names)}: far more like your model than all others of the null. If a copy of it is among "
            "them, calibrate without it: derived is said of what is more alike than it alone"
        )
    return tuple(told)


def _unlike_the_victim(fingerprint: Fingerprint, null: Null) -> Iterator[str]:
    probes = fingerprint.probes
    if probes is None or null.probes is None or len(null) < 2:
        return
    victim, models, known = (each.numpy() for each in (probes.victim, null.probes, probes.labels))
    found = likeness(victim, models, victim, known)  # the very look that a verdict takes at the victim
    own, of_null = found.of_victim, found.of_null
    if found.victim_outside:
        least, _, most = of_null["distance"]
        yield (
            f"your model's answers to neutral inputs differ from the null's by {own['distance']:.3f}, and theirs from "
            f"each other by {least:.3f} to {most:.3f}: nothing will be called derived by this null; train it as your "
            "model was trained, on the same pictures, or line your model up with runs of its own recipe (whorl twins)"
        )
    if not found.victim_above:
        return
    # Told of the first figure in which the victim stands above the usual model: the plainest comes first.
    figure = next((name for name in DOES if name in own and own[name] > of_null[name][1]), "agreement")
    least, _, most = of_null[figure]
    does, do = DOES[figure]
    yield (
        f"your model {does.format(f'{own[figure]:.2f}')}, the null's models {do} {least:.2f} to {most:.2f}: verdicts "
        "will carry a caveat; train them as your model was trained, on the same pictures"
    )


def _like_copies(null: Null, own: float) -> list[str]:
    """Models that lie apart from all others of the null, and nearer to the victim itself than to those."""
    order = np.argsort(null.similarities)[::-1]
    values = np.asarray(null.similarities)[order]
    for count in range(1, max(len(values) // FEW, len(values) > 1) + 1):
        last, others = values[count - 1], values[count:]
        if last - others[0] > max(others[0] - others[-1], own - last):
            return [null.models[place].name for place in order[:count]]
    return []


def sees_probabilities(scheme: Scheme) -> bool:
    """Whether a scheme looks at numbers that an interface may treat, and at nothing that no interface gives."""
    needed = grants(scheme.needs_suspect)
    return grants(Access.LABELS) < needed <= grants(Access.LOGITS)


def _interfaces(scheme: Scheme, oracles: Sequence[Oracle], wanted: Sequence[str]) -> tuple[str, ...]:
    """Treatments to measure through: those wanted, and the usual ones where a scheme sees probabilities."""
    if not sees_probabilities(scheme) or any(oracle.task != "classification" for oracle in oracles):
        return ()
    classes = min(oracle.classes for oracle in oracles)
    needed = scheme.needs_suspect
    usual = USUAL if grants(needed) <= grants(Access.PROBABILITIES) else ()
    fitting = [each for each in usual if not each.startswith("TopK") or int(each[7:-1]) < classes]
    return tuple(dict.fromkeys((*fitting, *wanted)))


def probes_of(victim: Oracle, controls: Dataset) -> Probes | None:
    """Control pictures with the victim's answers; None of a victim without classes.

    Raises:
        UsageError: the pictures do not fit the victim.
    """
    if victim.task != "classification" or controls.labels.is_floating_point():
        return None
    inputs = controls.inputs()
    return Probes(inputs, controls.labels, raw_answers(victim, inputs))


def raw_answers(oracle: Oracle, inputs: Tensor) -> Tensor:
    """What is kept of a model's answers to probes: probabilities ``[p, k]`` float32 where it gives them, else labels.

    Labels ``[p]`` int64 also where there are more than 1,000 classes.
    """
    if oracle.access >= Access.PROBABILITIES and oracle.classes <= MOST_CLASSES:
        return oracle.probabilities(inputs).detach().cpu().float()
    return oracle.labels(inputs).detach().cpu()


def labels_of(answers: Tensor) -> Tensor:
    """Labels ``[..., p]`` of answers that are kept as labels or as probabilities ``[..., p, k]``."""
    return answers.argmax(-1) if answers.is_floating_point() else answers


def same_answers(one: Tensor, other: Tensor) -> bool:
    """Whether two rows of answers ``[p, k]`` to the same probes can only come from one and the same model."""
    if one.shape != other.shape or not one.is_floating_point() or not other.is_floating_point():
        return False  # accurate models have the same labels on easy pictures
    telling = (one.max(-1).values < 0.999).sum()
    return int(telling) >= TELLING and bool(((one - other).abs() < SAME).all())


def _measure(
    scheme: Scheme,
    fingerprint: Fingerprint,
    oracles: Sequence[Oracle],
    treatments: Sequence[str],
    progress: Callable[[], None],
) -> tuple[dict[str, tuple[float, ...]], list[Tensor]]:
    """Similarities by treatment, one for each oracle, and their answers to the probes."""
    found: dict[str, list[float]] = {treatment: [] for treatment in ("", *treatments)}
    answers: list[Tensor] = []
    for given in oracles:
        oracle = ordered(scheme, fingerprint, given)
        kept = Remembered(oracle) if treatments else oracle
        for treatment, values in found.items():
            values.append(_similarity(scheme, fingerprint, treated(kept, treatment)))
        if fingerprint.probes is not None:
            answers.append(raw_answers(oracle, fingerprint.probes.inputs))
        progress()
    return {treatment: tuple(values) for treatment, values in found.items()}, answers


def _similarity(scheme: Scheme, fingerprint: Fingerprint, oracle: Oracle) -> float:
    observed = represent(scheme, oracle, fingerprint.queries)
    return compare(scheme, fingerprint.reference, observed).similarity


def _distinct(copies: Sequence[Oracle | float], fingerprint: Fingerprint) -> list[Oracle]:
    """The models among copies, each once: what a removal without chance makes twice is one copy."""
    found: dict[str, Oracle] = {}
    for number, copy in enumerate(copies):
        if isinstance(copy, Oracle):
            found.setdefault(_sameness(copy, fingerprint) or str(number), copy)
    return list(found.values())


def _sameness(copy: Oracle, fingerprint: Fingerprint) -> str:
    """Equal for copies that are one: the digest of the weights, or of answers where those are treated."""
    if not copy.treatment:
        return next(iter(digests_of(copy)), "")
    if fingerprint.probes is None or copy.classes != fingerprint.classes:
        return ""
    return digest_tensors({"answers": raw_answers(copy, fingerprint.probes.inputs)})


def _refuse_repeated(fingerprint: Fingerprint, independents: Mapping[str, Oracle]) -> None:
    seen: dict[str, str] = {}
    for name, oracle in independents.items():
        digests = digests_of(oracle)
        if fingerprint.victim in digests:
            raise UsageError(f"{name} is the fingerprint's own victim; a null holds models made without it")
        if set(digests) & set(fingerprint.pool):
            raise UsageError(f"{name} is a shadow model that this fingerprint learned from; leave it out of the null")
        if twice := next((seen[digest] for digest in digests if digest in seen), None):
            raise UsageError(
                f"{name} and {twice} are one and the same model; each counts once, so give it once (a null is as large "
                "as the number of models that were trained apart)"
            )
        seen |= dict.fromkeys(digests, name)


def _refuse_alike(fingerprint: Fingerprint, models: Sequence[NullModel], probes: Tensor | None) -> None:
    """One model in two formats has two digests and the same answers."""
    if probes is None or fingerprint.probes is None:
        return
    for place, answers in enumerate(probes):
        if same_answers(answers, fingerprint.probes.victim):
            raise UsageError(
                f"{models[place].name} answers every probe as the fingerprint's victim does, to {SAME:g}: it is the "
                "victim in another form; a null holds models made without it"
            )
        for earlier in range(place):
            if same_answers(answers, probes[earlier]):
                raise UsageError(
                    f"{models[place].name} and {models[earlier].name} answer every probe alike, to {SAME:g}: they are "
                    "one model in two forms, so give it once"
                )


def _probes(fingerprint: Fingerprint, answers: Sequence[Tensor]) -> Tensor | None:
    """``[N, p, k]`` probabilities where all models gave them, else labels ``[N, p]``."""
    if fingerprint.probes is None or not answers:
        return None
    if all(each.is_floating_point() and each.shape == answers[0].shape for each in answers):
        return torch.stack(list(answers))
    return torch.stack([labels_of(each) for each in answers])


def _with_accuracy(
    models: Sequence[NullModel], probes: Tensor | None, fingerprint: Fingerprint
) -> tuple[NullModel, ...]:
    """Accuracies on the control pictures, which is what suspects are held against."""
    if probes is None or fingerprint.probes is None or not bool((fingerprint.probes.labels >= 0).any()):
        return tuple(models)
    known = fingerprint.probes.labels
    right = (labels_of(probes) == known)[:, known >= 0].double().mean(1)
    return tuple(
        dataclasses.replace(model, accuracy=float(np.round(float(share), 9)))
        for model, share in zip(models, right, strict=True)
    )
