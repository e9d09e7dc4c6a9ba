"""What worker processes of a run do: make one fingerprint, or ask one suspect about many."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from whorl.data import SOURCES
from whorl.errors import AccessRefused, UsageError
from whorl.fingerprints.files import write_fingerprint
from whorl.oracles.base import Oracle
from whorl.schemes import SCHEMES
from whorl.schemes.opening import read_fingerprint
from whorl.schemes.session import Session
from whorl.storage import write_json
from whorl.suites.suite import Suite
from whorl.types import Fingerprint, Rule, Verdict
from whorl.zoo.cache import Zoo
from whorl.zoo.recipe import Recipe, parse_recipe

__all__ = ["ask_each", "cell_of", "costs_path", "extract", "judge", "peak_memory", "with_null"]


def extract(suite: Suite, victim: int, expression: str, budget: int, path: str, folder: str, device: str) -> None:
    """Make and calibrate one fingerprint."""
    zoo, scheme, recipe = Zoo(Path(folder), device=device), SCHEMES.make(expression), suite.victims[victim]
    data = SOURCES.make(suite.data_of(victim)).load(scheme.part)
    pool = suite.shadows.pool(recipe, zoo) if scheme.needs_pool else None
    with peak_memory() as memory:
        fingerprint = scheme.extract(zoo.oracle(recipe), data, budget=budget, seed=0, pool=pool)
    write_json(costs_path(path), memory)
    write_fingerprint(with_null(fingerprint, suite, recipe, suite.data_of(victim), zoo), path)


def with_null(fingerprint: Fingerprint, suite: Suite, victim: Recipe, data: str, zoo: Zoo) -> Fingerprint:
    """The fingerprint of a victim, calibrated by the suite's null and known copies; as it is where there is no null."""
    if not suite.null:
        return fingerprint
    copies: dict[str, list[Oracle]] = {}
    for row in suite.known:
        copies.setdefault(row.label, []).append(zoo.oracle(victim.then(row.removal)))
    strangers = {str(each): zoo.oracle(each) for each in suite.null}
    about = {str(each): zoo.stranger(each) for each in suite.null}
    siblings = sum(each.root == victim.root for each in suite.null)
    origin = "from the victim's public ancestor" if siblings else "from nothing"
    name = f"{len(strangers)} models trained {origin} on the victim's own pictures of {data}"
    return SCHEMES.make(fingerprint.scheme).calibrate(
        fingerprint, strangers, pool=name, siblings=siblings, derived=copies, about=about
    )


def costs_path(fingerprint: str) -> Path:
    """What the extraction cost lies beside its fingerprint."""
    return Path(fingerprint).with_suffix(".json")


def judge(recipe: str, paths: tuple[str, ...], alpha: float, folder: str, device: str) -> dict[str, dict[str, Any]]:
    """Ask one suspect about many fingerprints: path to the fields of a cell, or to the reason of a refusal."""

    def ask(path: str, suspect: Oracle) -> dict[str, Any]:
        fingerprint = read_fingerprint(path)
        session = Session(SCHEMES.make(fingerprint.scheme), fingerprint, suspect, Rule(alpha=alpha))
        started = time.perf_counter()
        evidence, verdict = session.measure()
        return cell_of(verdict, evidence.similarity, time.perf_counter() - started)

    return ask_each(Zoo(Path(folder), device=device).oracle(parse_recipe(recipe)), paths, ask)


def ask_each(
    suspect: Oracle, paths: tuple[str, ...], ask: Callable[[str, Oracle], dict[str, Any]]
) -> dict[str, dict[str, Any]]:
    """Path to what ``ask`` gives, the fields of a cell, or to the reason of a refusal."""
    answers: dict[str, dict[str, Any]] = {}
    for path in paths:
        try:
            answers[path] = ask(path, suspect)
        except (AccessRefused, UsageError) as error:
            answers[path] = {"refused": str(error)}
    return answers


def cell_of(verdict: Verdict, similarity: float, seconds: float) -> dict[str, Any]:
    """What a verdict is to a table; ``seconds`` is the time to ask."""
    return {
        "similarity": similarity,
        "decision": verdict.decision,
        "p_value": verdict.p_value,
        "spent": int(verdict.queries["spent"]),
        "needed": int(verdict.queries["needed"]),
        "seconds": seconds,
    }


@contextmanager
def peak_memory() -> Iterator[dict[str, float]]:
    """Fill in ``peak_mib``, the memory needed at its peak above what is held now; nothing where Linux can't tell."""
    found: dict[str, float] = {}
    before = _resident("VmRSS") if _reset_peak() else None
    yield found
    after = _resident("VmHWM")
    if before is not None and after is not None:
        found["peak_mib"] = round(max(0.0, after - before), 1)


def _reset_peak() -> bool:
    try:
        Path("/proc/self/clear_refs").write_text("5")  # proc(5): resets the peak resident set size
    except OSError:
        return False
    return True


def _resident(field: str) -> float | None:
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith(field)), None)
