"""The models that are held against a fingerprint: opened with what it knows of them, answers recorded, looks logged."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final, Literal

from torch import nn

from whorl.detection.combination import check_reach, share_of_alpha
from whorl.detection.integrity import Counted, Integrity, upper_bound
from whorl.errors import InvalidFile, UsageError
from whorl.fingerprints.encounters import other_lineups, remember
from whorl.fingerprints.looks import BEGUN, add_look, looks_of_copies, read_looks, remember_look
from whorl.fingerprints.roles import turned
from whorl.fingerprints.second import identity
from whorl.fingerprints.secret import Secret, read_secret, secret_path
from whorl.fingerprints.terms import terms_of
from whorl.lineups.session import hold
from whorl.marks.aligning import Aligned
from whorl.marks.base import UNMARKED, Watermark
from whorl.marks.layers import asked_for_weights
from whorl.nets.base import Net
from whorl.oracles.base import Oracle
from whorl.oracles.opening import open_oracle, options_for
from whorl.oracles.recorded import Recorded
from whorl.oracles.torch import TorchOracle
from whorl.schemes import SCHEMES
from whorl.schemes.changes import check_unchanged
from whorl.schemes.opening import read_fingerprint
from whorl.schemes.session import Session, record_of
from whorl.storage import canonical_json, digest_tensors
from whorl.types import Fingerprint, Look, Rule, Verdict
from whorl.zoo.cache import default_cache

__all__ = [
    "asked",
    "earlier_looks",
    "in_order",
    "judged",
    "known_fingerprint",
    "lineups_in",
    "one_of",
    "opened_for",
    "order_for",
    "refuse_changes",
    "refuse_unfinished",
    "rule_for",
    "rule_of_changes",
    "secret_of",
    "tells_changes",
    "unchanged",
]

DRAWN_ALPHA: Final = 1e-6  # of a mark: its rate holds over draws, and one draw may be unlucky for many models alike
BOUND: Final = 0.05  # chance with which the bound of an integrity check fails
LINED_UP: Final = '"lineup":true'  # in the rule of a look


def opened_for(fingerprint: Fingerprint, model: Any, /, **options: Any) -> Oracle:
    """An oracle for a model that is held against a fingerprint.

    The fingerprint knows the shape and the classes that a bare file, an address or a plain module does not tell.
    """
    if isinstance(model, str | Path):
        described = (".toml", ".skops") if "architecture" in options else (".toml", ".skops", ".safetensors")
        bare = Path(model).suffix.lower() not in described and not Path(model).is_dir()
    else:
        bare = isinstance(model, nn.Module) and not isinstance(model, Net)
    known: dict[str, Any] = {"input_shape": list(fingerprint.space.shape)} if bare else {}
    if isinstance(model, str | Path) and Path(model).suffix.lower() == ".skops":  # it knows its classes, by their names
        known |= {"input_shape": list(fingerprint.space.shape)}
        known |= {"class_names": list(fingerprint.class_names)} if fingerprint.class_names else {}
    known |= {"task": fingerprint.task} if bare and fingerprint.task != "classification" else {}
    graph = isinstance(model, str | Path) and Path(model).suffix.lower() == ".onnx"
    if bare and not (graph and SCHEMES.make(fingerprint.scheme).any_classes):  # a graph knows how many it has itself
        known["classes"] = fingerprint.classes
    return open_oracle(model, **known | options)


def one_of(fingerprint: Fingerprint, model: Any, /, **options: Any) -> Oracle:
    """One of several models that are described together; an oracle says all of itself."""
    return model if isinstance(model, Oracle) else opened_for(fingerprint, model, **options_for(model, options))


@contextmanager
def asked(
    fingerprints: Sequence[Fingerprint],
    suspect: Any,
    rule: Rule,
    options: Mapping[str, Any],
    *,
    record: Path | str | None,
    replay: bool,
    cache: Path | None,
    align_to: TorchOracle | None = None,
) -> Iterator[Oracle]:
    """The suspect, opened; its answers recorded where that was asked for, or where they may cost something."""
    oracle = opened_for(fingerprints[0], suspect, **options)
    if align_to is not None:
        oracle = Aligned.of(align_to, oracle)
    if record is None and oracle.block is not None and oracle.digest:
        record = (cache or default_cache()) / "answers" / f"{oracle.digest[:20]}-{oracle.access.name.lower()}.sqlite"
    if record is None:
        if replay:
            raise UsageError(f"answers of {oracle.name} are not recorded, so none can be replayed; leave out --replay")
        yield oracle
        return
    if not replay:
        Path(record).parent.mkdir(parents=True, exist_ok=True)
    purpose = " ".join(sorted(identity(each) for each in fingerprints))
    recorded = Recorded(oracle, record, purpose=purpose, rule=str(rule), replay=replay)
    try:
        yield recorded
        recorded.finish()  # only here, where there is a verdict: what ends in an error or by a signal is gone on with
    finally:
        recorded.close()


def order_for(known: Fingerprint, align_to: Any, /, **options: Any) -> TorchOracle | None:
    """The unmarked model in whose order a suspect's units are read, opened; None where none is named.

    Raises:
        UsageError: the fingerprint is of no mark that is read from units, its mark did not fix the model before its
            draw, or it fixed another one.
    """
    if align_to is None:
        return None
    mark = SCHEMES.make(known.scheme)
    if not isinstance(mark, Watermark) or mark.kind != "bits":
        raise UsageError(f"only bits in weights depend on the order of units, and {mark.name} has none: no --align-to")
    if (fixed := known.queries.notes.get(UNMARKED)) is None:
        raise UsageError(
            "this mark was made before marks fixed the digest of the unmarked model, so a model chosen now could suit "
            "its draw: leave out --align-to, or mark anew (whorl mark)"
        )
    whole = {name: value for name, value in options.items() if name != "access"}  # that limits the suspect alone
    model = asked_for_weights(one_of(known, align_to, **whole))
    if digest_tensors(model.net.state_dict()) != fixed:
        raise UsageError(
            f"{model.name} is not the model that this mark was put into: give that one, as it was before whorl mark"
        )
    return model


def known_fingerprint(given: Fingerprint | str | Path) -> Fingerprint:
    """A fingerprint, or the one that lies in a file."""
    return given if isinstance(given, Fingerprint) else read_fingerprint(given)


def earlier_looks(given: Fingerprint | str | Path, known: Fingerprint, cache: Path | None) -> tuple[Look, ...]:
    """What was tried before with a fingerprint file or a copy of it; nothing is known of one that is only in memory."""
    if isinstance(given, Fingerprint):
        return ()
    log = read_looks(given, known)
    return tuple(sorted((*looks_of_copies(_looks_in(cache), known, log), *log), key=lambda look: look.date))


def _looks_in(cache: Path | None) -> Path:
    return (cache or default_cache()) / "looks"


def lineups_in(cache: Path | None) -> Path:
    """Where the cache remembers lineups: who stood before them, and in which role nets stood in them."""
    return Path(cache or default_cache()) / "lineups"


def refuse_unfinished(
    given: Fingerprint | str | Path, known: Fingerprint, rule: Literal["lineup", "population"] | None
) -> None:
    """Raise `UsageError` where twins were begun for a file that holds no lineup, and no rule is named without one."""
    if isinstance(given, Fingerprint) or known.candidates is not None or rule is not None:
        return
    if (folder := Path(f"{given}.twins")).is_dir():
        raise UsageError(
            f"{given} holds no lineup, and {folder} holds twins for one: a verification now would be a look that "
            "counts. Type the same whorl twins again to finish it, give the file that it wrote (-o), or say --rule "
            "population"
        )


def rule_for(
    known: Fingerprint,
    kind: Literal["lineup", "population"] | None,
    alpha: float | None,
    budget: int | None,
    *,
    group: str = "",
    tests: int = 1,
    match_labels: bool = False,
    nonce: str = "",
) -> Rule:
    """The rule of one of several tests that share alpha. Several must be able to show something."""
    refuse_changes(known)
    lineup = known.candidates if kind != "population" else None
    if lineup is None and (kind == "lineup" or match_labels):
        what = "labels are matched in a lineup, and " if match_labels else ""
        raise UsageError(f"{what}this fingerprint holds no lineup; make one: whorl twins")
    drawn = lineup is None and known.mark is not None and SCHEMES.make(known.scheme).purpose == "mark"
    fixed = terms_of(lineup, known.task).alpha if lineup else DRAWN_ALPHA if drawn else 0.01
    whole = fixed if alpha is None else alpha
    if tests > 1 and lineup is not None:
        check_reach(len(lineup.digests) - 1, alpha=whole, tests=tests, models="twins", more="whorl twins -n")
    elif tests > 1 and not drawn:
        size = len(known.calibration.null) if known.calibration else 0
        check_reach(size, alpha=whole, tests=tests, models="models in the null", more="whorl calibrate")
    return Rule(share_of_alpha(whole, tests), budget, group, lineup is not None, tests, match_labels, nonce)


def in_order(rule: Rule, order: TorchOracle | None) -> Rule:
    """The rule for suspects whose units are read in the order of a model. Raises `UsageError` for a lineup."""
    if order is None:
        return rule
    if rule.lineup:
        raise UsageError(
            "a lineup compares answers, which no order of units changes: leave out --align-to, or say --rule population"
        )
    return replace(rule, align_to=order.digest)


def judged(
    given: Fingerprint | str | Path,
    known: Fingerprint,
    suspect: Oracle,
    rules: Sequence[Rule],
    secret: Secret | Path | str | None,
    cache: Path | None,
    progress: Callable[[int], None],
    earlier: Sequence[Look] | None = None,
) -> list[Verdict]:
    """What each rule says of one suspect, with what was tried before all of them; every try is logged."""
    before = earlier_looks(given, known, cache) if earlier is None else earlier
    opened = secret_of(given, secret) if any(by.lineup for by in rules) else None
    scheme = SCHEMES.make(known.scheme)
    for by in rules[1:]:  # what a later rule can't ask is refused before the first query
        Session(scheme, known, suspect, by)
    verdicts: list[Verdict] = []
    for by in rules:
        if by.lineup:
            told = _begin(given, known, suspect, by, cache)  # before the first answer, so that no try is forgotten
            others = turned(lineups_in(cache), known.candidates.commitment) if known.candidates else 0
            held = hold(known, suspect, by, secret=opened, turned=others, progress=progress)
            verdicts.append(replace(held, caveats=(*held.caveats, *told)))
        else:
            verdicts.append(Session(scheme, known, suspect, by).verify(progress))
    return [_logged(given, known, verdict, before, cache) for verdict in verdicts]


def tells_changes(known: Fingerprint) -> bool:
    """Whether a fingerprint is of a scheme that tells every change, and so is no evidence of origin."""
    return SCHEMES.make(known.scheme).purpose == "integrity"


def refuse_changes(known: Fingerprint) -> None:
    """Raise `UsageError` for an integrity check among several tests of origin."""
    if tells_changes(known):
        raise UsageError(
            f"{SCHEMES.make(known.scheme).name} tells every change and nothing of origin, so it shares no error rate "
            "with other tests: verify one suspect by it alone"
        )


def rule_of_changes(
    kind: Literal["lineup", "population"] | None,
    alpha: float | None,
    budget: int | None,
    *,
    group: str = "",
    match_labels: bool = False,
) -> Rule:
    """The rule of an integrity check. Raises `UsageError` for what has a meaning for origin alone."""
    if kind is not None or group or match_labels:
        raise UsageError(
            "this fingerprint is of a scheme that tells every change, and neither a null nor a lineup decides: leave "
            "out rule, group and matching of labels, or ask about origin by another scheme (whorl schemes)"
        )
    rule = Rule(BOUND if alpha is None else alpha, budget)
    upper_bound(Counted(), rule.alpha)
    return rule


def unchanged(
    given: Fingerprint | str | Path,
    known: Fingerprint,
    suspect: Oracle,
    rule: Rule,
    cache: Path | None,
    progress: Callable[[int], None],
) -> Integrity:
    """Whether a suspect is still the declared model, with how often these queries were asked before; it is logged."""
    before = [look for look in earlier_looks(given, known, cache) if look.decision != BEGUN]
    found = check_unchanged(SCHEMES.make(known.scheme), known, suspect, rule, progress=progress)
    caveats = list(found.caveats)
    if before:
        caveats.append(
            f"these queries were asked {len(before)} times before: who kept them answers them as the declared model "
            "does; extract anew, with another seed (whorl extract --seed)"
        )
    if not isinstance(given, Fingerprint):
        try:
            _look(given, known, found.decision, found.suspect, found.record, cache)
        except InvalidFile as error:
            caveats.append(str(error))
    return replace(found, caveats=tuple(caveats))


def secret_of(given: Fingerprint | str | Path, secret: Secret | Path | str | None) -> Secret | None:
    """What opens a lineup: what is given, or what lies beside a fingerprint file; None where it stays sealed."""
    if isinstance(secret, Secret):
        return secret
    if secret is not None:
        return read_secret(secret)
    beside = None if isinstance(given, Fingerprint) else secret_path(given)
    return read_secret(beside) if beside is not None and beside.is_file() else None


def _begin(
    given: Fingerprint | str | Path, known: Fingerprint, suspect: Oracle, rule: Rule, cache: Path | None
) -> tuple[str, ...]:
    """Log that the suspect is about to stand before the lineup of a file; says before which others it stood."""
    if isinstance(given, Fingerprint):
        return ()
    record = record_of(known, suspect, rule)
    _look(given, known, BEGUN, suspect.name, record, cache)
    if not (digest := record["suspect"]):
        return ()
    folder = lineups_in(cache)
    others = other_lineups(folder, known, digest)
    remember(folder, known, digest)
    if not others:
        return ()
    return (
        f"other lineups of this victim before which this suspect stood: {others}; alpha is the error rate of one "
        "lineup that was fixed beforehand, not of the best of several",
    )


def _logged(
    given: Fingerprint | str | Path,
    known: Fingerprint,
    verdict: Verdict,
    earlier: Sequence[Look],
    cache: Path | None,
) -> Verdict:
    """The verdict with what was tried before it, and an entry of its own in the log beside a fingerprint file."""
    caveats = list(verdict.caveats)
    # A lineup leaves an entry before its first answer and one with its verdict: one try.
    tries = [look for look in earlier if look.decision == BEGUN or LINED_UP not in look.rule]
    if tries:
        copies = sum(not look.previous for look in tries)
        same = sum(look.suspect.startswith(f"{verdict.suspect} ") for look in tries)
        caveats.append(
            f"verifications by this fingerprint before this one: {len(tries)}, of this suspect: {same}"
            f"{f', by copies of its file: {copies}' if copies else ''}; "
            "alpha is the error rate of one look that was fixed beforehand, not of the best of several"
        )
    if not isinstance(given, Fingerprint):
        try:
            _look(given, known, verdict.decision, verdict.suspect, verdict.record, cache)
        except InvalidFile as error:
            caveats.append(str(error))
    record = {**verdict.record, "looks": [asdict(look) for look in earlier[-100:]]}
    return replace(verdict, caveats=tuple(caveats), record=record)


def _look(
    given: str | Path, known: Fingerprint, decision: str, suspect: str, record: Mapping[str, Any], cache: Path | None
) -> None:
    """Write an entry of the log beside a fingerprint file, and keep it in the cache for copies of the file."""
    rule = canonical_json(record["rule"] | {"seed": str(known.seed)}).decode()  # JSON has no number of 64 bits
    entry = {"date": record["date"], "suspect": f"{suspect} {record['suspect']}", "rule": rule, "decision": decision}
    remember_look(_looks_in(cache), known, **entry)
    add_look(given, known, **entry)
