"""The three verbs of an owner: extract a fingerprint, calibrate it, verify a suspect.

Each takes whatever names a model (a module, an estimator, a file, an address, an oracle) and whatever names data.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from whorl.data import SOURCES, Dataset
from whorl.data.base import join
from whorl.detection.combination import combine, share_of_alpha
from whorl.errors import InvalidFile, UsageError
from whorl.expressions import parse
from whorl.fingerprints.calibrations import earlier_settings, remember
from whorl.fingerprints.looks import add_look, read_looks
from whorl.fingerprints.second import identity
from whorl.nets.base import Net
from whorl.oracles.base import Oracle
from whorl.oracles.opening import open_oracle
from whorl.oracles.pool import Pool
from whorl.oracles.recorded import Recorded
from whorl.schemes import SCHEMES, Scheme
from whorl.schemes.calibration import probes_of
from whorl.schemes.opening import read_fingerprint
from whorl.storage import canonical_json
from whorl.types import Combination, Fingerprint, Look, NullModel, Rule, Verdict
from whorl.zoo.cache import default_cache

__all__ = ["calibrate", "extract", "opened_for", "verify", "verify_all"]

HELD_OUT, OWN = 60, 120  # control pictures


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
    oracle = open_oracle(victim, **options)
    pictures = SOURCES.make(data).load(part or chosen.part) if isinstance(data, str) else data
    made = chosen.extract(oracle, pictures, budget=budget, seed=seed, pool=pool)
    neutral = _neutral(data, seed)
    probes = probes_of(oracle, neutral) if neutral is not None and neutral.outputs == oracle.classes else None
    return replace(made, probes=probes, provenance={**_origins(scheme), **(provenance or {})})


def _neutral(data: Dataset | str | None, seed: int) -> Dataset | None:
    """Control pictures: of a source held-out ones and twice as many of the victim's own, of a data set any.

    A null of models that learned from fewer of the victim's pictures, or for less long, shows on those first.
    """
    generator = torch.Generator().manual_seed(seed)

    def some(pictures: Dataset, count: int) -> Dataset:
        return pictures.subset(torch.randperm(len(pictures), generator=generator)[:count])

    if data is None:
        return None
    if isinstance(data, Dataset):
        return some(data, HELD_OUT + OWN)
    source = SOURCES.make(data)
    return join(some(source.load("test"), HELD_OUT), some(source.load("victim"), OWN))


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
        log: a folder that remembers which models calibrated which settings. Verdicts then tell of other settings of
            this scheme that models of this null calibrated before; ``whorl calibrate`` has one in its cache.
        options: as in `extract`, for all models.
    """
    known = _fingerprint(fingerprint)
    made = SCHEMES.make(known.scheme).calibrate(
        known,
        {name: opened_for(known, model, **options) for name, model in independents.items()},
        pool=pool,
        siblings=siblings,
        derived={
            name: [each if isinstance(each, float) else opened_for(known, each, **options) for each in models]
            for name, models in (derived or {}).items()
        },
        about=about,
        interfaces=interfaces,
        progress=progress,
    )
    assert made.calibration is not None
    if log is None:
        return made
    earlier = earlier_settings(log, made, made.calibration.null)
    remember(log, made, made.calibration.null)
    return replace(made, calibration=replace(made.calibration, earlier=earlier[:1000]))


def verify(  # noqa: PLR0913 each is an option of `whorl verify`
    fingerprint: Fingerprint | str | Path,
    suspect: Any,
    *,
    alpha: float = 0.01,
    budget: int | None = None,
    group: str = "",
    record: Path | str | None = None,
    replay: bool = False,
    cache: Path | None = None,
    progress: Callable[[int], None] = lambda _: None,
    **options: Any,
) -> Verdict:
    """Was the suspect made from the fingerprint's victim?

    Parameters:
        suspect: a module, estimator, file, address or oracle. What a bare file or an address does not say of its
            inputs and classes is taken from the fingerprint.
        alpha: accepted chance of calling an independent model derived.
        budget: most queries; all of the fingerprint by default. Neutral probes come beside them.
        group: the suspect's kind among the groups of the null, where it is known; without it the suspect has to stand
            out in every group.
        record: a file that keeps answers, so that an interrupted verification goes on without asking twice; for an
            address one in ``cache`` by default. One that has led to a verdict is asked anew next time.
        replay: take the answers that this fingerprint's last finished verification left in the record.
        cache: folder for what is kept; `whorl.zoo.cache.default_cache` by default.
        options: as in `extract`, ``access`` and ``trust_code`` of `whorl.oracles.opening.open_oracle` among them.
    """
    known = _fingerprint(fingerprint)
    earlier = _looks(fingerprint, known)
    rule = Rule(alpha, budget, group)
    with _asked([known], suspect, rule, options, record=record, replay=replay, cache=cache) as oracle:
        verdict = SCHEMES.make(known.scheme).verify(
            known, oracle, alpha=alpha, budget=budget, group=group, progress=progress
        )
    return _logged(fingerprint, known, verdict, earlier)


def verify_all(
    fingerprints: Sequence[Fingerprint | str | Path],
    suspect: Any,
    *,
    alpha: float = 0.01,
    record: Path | str | None = None,
    replay: bool = False,
    cache: Path | None = None,
    progress: Callable[[int], None] = lambda _: None,
    **options: Any,
) -> Combination:
    """The same from several fingerprints of one victim, with one error rate for all of them together.

    Each is tested at ``alpha / m``, so m fingerprints need nulls m times as large (`whorl.detection.combination`).

    Raises:
        UsageError: the fingerprints are of several victims, or one is given twice.
    """
    known = [_fingerprint(each) for each in fingerprints]
    if len({each.victim for each in known}) > 1:
        raise UsageError("these fingerprints are of different victims; verify the suspect against each victim alone")
    if len({identity(each) for each in known}) < len(known):
        raise UsageError("one fingerprint is given twice; each counts once")
    earlier = [_looks(given, one) for given, one in zip(fingerprints, known, strict=True)]
    each = share_of_alpha(alpha, len(known))
    with _asked(known, suspect, Rule(alpha), options, record=record, replay=replay, cache=cache) as oracle:
        verdicts = [SCHEMES.make(one.scheme).verify(one, oracle, alpha=each, progress=progress) for one in known]
    logged = map(_logged, fingerprints, known, verdicts, earlier)
    return combine(list(logged), alpha=alpha)


def _looks(given: Fingerprint | str | Path, known: Fingerprint) -> tuple[Look, ...]:
    """What was tried before with a fingerprint file; nothing is known of one that is only in memory."""
    return () if isinstance(given, Fingerprint) else read_looks(given, known)


def _logged(
    given: Fingerprint | str | Path, known: Fingerprint, verdict: Verdict, earlier: tuple[Look, ...]
) -> Verdict:
    """The verdict with what was tried before it, and an entry of its own in the log beside a fingerprint file."""
    caveats = list(verdict.caveats)
    if earlier:
        same = sum(look.suspect.startswith(f"{verdict.suspect} ") for look in earlier)
        caveats.append(
            f"this fingerprint was held against a suspect {len(earlier)} times before, {same} times against this one; "
            "alpha is the error rate of one look that was fixed beforehand, not of the best of several"
        )
    if not isinstance(given, Fingerprint):
        rule = canonical_json(verdict.record["rule"] | {"seed": known.seed}).decode()
        who = f"{verdict.suspect} {verdict.record['suspect']}"
        try:
            add_look(given, known, date=verdict.record["date"], suspect=who, rule=rule, decision=verdict.decision)
        except InvalidFile as error:
            caveats.append(str(error))
    record = {**verdict.record, "looks": [asdict(look) for look in earlier[-100:]]}
    return replace(verdict, caveats=tuple(caveats), record=record)


def opened_for(fingerprint: Fingerprint, model: Any, /, **options: Any) -> Oracle:
    """An oracle for a model that is held against a fingerprint.

    The fingerprint knows the shape and the classes that a bare file, an address or a plain module does not tell.
    """
    if isinstance(model, str | Path):
        described = (".toml", ".skops") if "architecture" in options else (".toml", ".skops", ".safetensors")
        bare = Path(model).suffix.lower() not in described and not Path(model).is_dir()
    else:
        bare = isinstance(model, nn.Module) and not isinstance(model, Net)
    known = {"input_shape": list(fingerprint.space.shape), "classes": fingerprint.classes} if bare else {}
    return open_oracle(model, **known | options)


@contextmanager
def _asked(
    fingerprints: Sequence[Fingerprint],
    suspect: Any,
    rule: Rule,
    options: Mapping[str, Any],
    *,
    record: Path | str | None,
    replay: bool,
    cache: Path | None,
) -> Iterator[Oracle]:
    """The suspect, opened; its answers recorded where that was asked for, or where they may cost something."""
    oracle = opened_for(fingerprints[0], suspect, **options)
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


def _fingerprint(given: Fingerprint | str | Path) -> Fingerprint:
    return given if isinstance(given, Fingerprint) else read_fingerprint(given)
