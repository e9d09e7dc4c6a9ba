"""Ask a suspect whether it is still exactly the declared model: what a scheme of purpose "integrity" decides.

The fingerprint's own queries were made to see changes, and each changed answer counts. The classes of the control
pictures beside them were drawn, and bound how often other pictures of that kind are answered otherwise. A class that a
rounding error of the declared model itself would turn counts nowhere.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from torch import Tensor

from whorl.detection.integrity import Counted, Integrity, integrity
from whorl.errors import UsageError
from whorl.fingerprints.second import identity
from whorl.oracles.base import Oracle, interface_of
from whorl.oracles.interface import ONE_HOT
from whorl.oracles.wrappers import digests_of
from whorl.queries.sensitive import Sensitive, steady
from whorl.schemes.asking import admit, asking_order, compare, ordered, represent
from whorl.schemes.calibration import labels_of
from whorl.schemes.controls import examine
from whorl.schemes.session import record_of, replays_of, told_of_replays
from whorl.types import Access, Fingerprint, Rule, grants

if TYPE_CHECKING:
    from whorl.schemes.base import Scheme

__all__ = ["MARGIN", "changed_queries", "check_unchanged"]

MARGIN: Final = 2e-5  # relative, of a probability: more than batch sizes, threads and an export in 32 bits change it by
ROUNDED: Final = re.compile(r"Rounded\(decimals=(\d+)\)")
CUT: Final = re.compile(r"TopK\(k=(\d+)\)")


def check_unchanged(
    scheme: Scheme,
    fingerprint: Fingerprint,
    suspect: Oracle,
    rule: Rule,
    *,
    progress: Callable[[int], None] = lambda _: None,
) -> Integrity:
    """Ask the fingerprint's queries, and its control pictures beside them.

    Parameters:
        rule: its alpha is the chance with which the bound on the rate fails; its budget limits queries, in the order
            that the fingerprint fixes, and not the control pictures.

    Raises:
        AccessRefused: the suspect grants too little.
        UsageError: it takes other inputs or has other classes; the interface shows fewer digits than are compared.
    """
    admit(scheme, fingerprint, suspect)
    suspect = ordered(scheme, fingerprint, suspect)
    size = len(fingerprint.queries)
    limit = size if rule.budget is None else min(rule.budget, size)
    if limit < 1:
        raise UsageError(f"an integrity check asks one query at least; the budget is {rule.budget}")
    before = Counter(suspect.replayed.given)
    spent = suspect.queries_spent
    caveats: list[str] = []
    if grants(Access.WEIGHTS) <= suspect.grants and fingerprint.victim in digests_of(suspect):
        caveats.append("the weights are those of the declared model, bit for bit")
    suspect, drawn, treatment = _controls(scheme, fingerprint, suspect, caveats)
    progress(drawn.asked)
    if not drawn.changed:
        _refuse_coarser(scheme, suspect, treatment)
    places = _telling(scheme, fingerprint, suspect, asking_order(fingerprint)[:limit], treatment)
    made = changed_queries(scheme, fingerprint, suspect, places)
    progress(made.asked)
    queries = {
        "spent": made.asked,
        "budget": limit,
        "inputs_each": fingerprint.inputs_each,
        "probes": len(fingerprint.probes.inputs) if fingerprint.probes is not None else 0,
        **replays_of(suspect, before),
    }
    if queries["replayed"]:
        caveats.append(told_of_replays(queries, suspect.queries_spent - spent))
    return integrity(
        made,
        drawn,
        alpha=rule.alpha,
        distribution=f"control pictures of {fingerprint.data or 'the data given'}, held-out and learned ones",
        counted=_what_counts(scheme),
        scheme=fingerprint.scheme,
        fingerprint=identity(fingerprint),
        suspect=suspect.name,
        caveats=tuple(caveats),
        queries=queries,
        interface=interface_of(suspect),
        record=record_of(fingerprint, suspect, rule),
    )


def changed_queries(scheme: Scheme, fingerprint: Fingerprint, suspect: Oracle, places: Tensor | slice) -> Counted:
    """How many of the fingerprint's queries at these places are answered otherwise than the declared model did.

    Raises:
        UsageError: the scheme compares the set as a whole.
    """
    queries = fingerprint.queries[places]
    evidence = compare(scheme, fingerprint.reference[places], represent(scheme, suspect, queries))
    if evidence.per_query is None:
        raise UsageError(f"{scheme.name} compares its queries as a whole, so no changed answers can be counted")
    return Counted(int((evidence.per_query < 1).sum()), len(queries))


def _controls(
    scheme: Scheme, fingerprint: Fingerprint, suspect: Oracle, caveats: list[str]
) -> tuple[Oracle, Counted, str]:
    """The suspect under its right name, changed classes of control pictures, and how its answers are treated."""
    treatment, labels = "", None
    try:
        if (examined := examine(fingerprint, suspect, grants(scheme.needs_suspect))) is not None:
            suspect, treatment, labels = examined.oracle, examined.treatment, examined.labels
    except UsageError as error:  # described wrongly, or another model: here that is an answer
        caveats.append(f"changed, or described otherwise than it is: {error}")
    probes = fingerprint.probes
    if probes is None or suspect.classes != fingerprint.classes or suspect.task != "classification":
        return suspect, Counted(), treatment
    if labels is None:
        labels = suspect.labels(probes.inputs).detach().cpu()
    kept = labels_of(probes.victim) >= 0
    if probes.victim.is_floating_point():
        kept = steady(probes.victim, 1, 0, _margin(scheme)) & (_lead(probes.victim) > _step(treatment))
    changed = labels[kept] != labels_of(probes.victim)[kept]
    return suspect, Counted(int(changed.sum()), int(kept.sum())), treatment


def _lead(probabilities: Tensor) -> Tensor:
    """By how much the first class leads, ``[p]``."""
    first, second = probabilities.topk(2, dim=1).values.unbind(1)
    return first - second


def _step(treatment: str) -> float:
    """What an interface rounds to: classes that lie nearer to each other may be equal in its answers."""
    rounded = ROUNDED.search(treatment)
    return 0.0 if rounded is None else 1.01 * 10.0 ** -int(rounded[1])


def _telling(scheme: Scheme, fingerprint: Fingerprint, suspect: Oracle, places: Tensor, treatment: str) -> Tensor:
    """Those of the queries on which rounded answers still say an order of the classes."""
    step = _step(treatment)
    if not step or not isinstance(scheme, Sensitive) or scheme.looks_at[1]:
        return places
    top = min(scheme.looks_at[0], suspect.classes - 1)
    answers = suspect.probabilities(fingerprint.queries.inputs[places]).detach().cpu()
    ordered_answers = answers.sort(1, descending=True).values[:, : top + 1]
    return places[(-ordered_answers.diff(dim=1) > step / 2).all(1)]


def _refuse_coarser(scheme: Scheme, suspect: Oracle, treatment: str) -> None:
    """Refuse an interface that shows less than is compared: its answers would differ whatever model is behind it."""
    if not isinstance(scheme, Sensitive) or suspect.access is Access.LABELS:
        return
    top, digits = scheme.looks_at
    rounded, cut = ROUNDED.search(treatment), CUT.search(treatment)
    if ONE_HOT in treatment and (digits or top > 1):
        raise UsageError(
            f"{suspect.name} shows classes alone, and {scheme.name} compares more: extract anew by "
            "sensitive-samples-labels"
        )
    if digits and rounded is not None and int(rounded[1]) < digits:
        raise UsageError(
            f"{suspect.name} shows {rounded[1]} decimals, and {digits} are compared: extract anew by "
            f"'{scheme.name}(digits={rounded[1]})'"
        )
    if cut is not None and int(cut[1]) < min(top, suspect.classes):
        raise UsageError(
            f"{suspect.name} shows {cut[1]} classes, and {top} are compared: extract anew by "
            f"'{scheme.name}(top={cut[1]})'"
        )


def _margin(scheme: Scheme) -> float:
    return scheme.margin if isinstance(scheme, Sensitive) else MARGIN


def _what_counts(scheme: Scheme) -> str:
    """What counts as a changed answer, in words."""
    if not isinstance(scheme, Sensitive):
        return f"an answer that {scheme.name} tells from the declared model's, or another class of a control picture"
    top, digits = scheme.looks_at
    shown = "another class" if top == 1 else f"another order of the first {top} classes"
    if digits:
        shown = f"another value, to {digits} decimals, of one of the first {top} probabilities"
    return (
        f"{shown}; of a control picture another class; none of it within {scheme.margin:g} of a probability (relative)"
    )
