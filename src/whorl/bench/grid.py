"""The QuRD grid over a suite: queries x representation x similarity x budget x seed, with all that is shared done once.

Paper: Godinot et al., *Queries, Representation & Detection*, AAAI 2025, arXiv 2412.13021. Two stages: queries are made
once per victim, sampler and seed, for the largest budget; then every suspect is opened once and asked about each set
once. All combinations of one set, at every budget, are computed from those answers.

A budget counts inputs, so that pairs and masks cost what they ask. A smaller budget takes the first queries of the
largest; samplers draw in random order, so these are queries of the smaller budget.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, Final

from whorl.data import SOURCES
from whorl.engine.stages import Progress, Stages
from whorl.engine.store import cell_key
from whorl.engine.tasks import Task
from whorl.engine.workers import Workers
from whorl.errors import AccessRefused, UsageError
from whorl.fingerprints.files import write_fingerprint
from whorl.oracles.base import Oracle
from whorl.oracles.replayed import Replayed
from whorl.queries import QUERIES
from whorl.revisions import digest_of
from whorl.schemes import SCHEMES, Scheme
from whorl.schemes.grid import combinations
from whorl.schemes.opening import read_fingerprint
from whorl.storage import digest_file
from whorl.suites.suite import Suite, Suspect
from whorl.types import Access, Fingerprint
from whorl.zoo.cache import Zoo
from whorl.zoo.code import code_of, code_of_model, content_key
from whorl.zoo.recipe import parse_recipe

__all__ = ["Grid", "GridCells", "SetKey", "code_of_grid", "count_of", "plan", "run_grid", "settings_of"]

MASKS: Final = 10  # inputs of each masked picture, so that a budget of 10 is one of them
SetKey = tuple[int, str, int]
"""(victim, queries by name, seed): what one set of queries is made for."""


@dataclass(frozen=True)
class Grid:
    """A suite with the points of the grid to compute.

    Parameters:
        combinations: names as in ``negative+labels+hamming``.
        budgets: inputs asked of a suspect, ascending.
        seeds: of the samplers.
    """

    suite: Suite
    combinations: tuple[str, ...]
    budgets: tuple[int, ...] = (50, 100, 200)
    seeds: tuple[int, ...] = (0, 1, 2)

    @property
    def cells(self) -> int:
        """How many similarities there are to compute."""
        meetings = sum(len(suspect.kinds) for suspect in self.suite.suspects())
        return meetings * len(self.combinations) * len(self.budgets) * len(self.seeds)

    def sets(self) -> list[SetKey]:
        """Every set of queries."""
        names = dict.fromkeys(name.split("+")[0] for name in self.combinations)
        return [(v, name, seed) for v in range(len(self.suite.victims)) for name in names for seed in self.seeds]


@dataclass(frozen=True)
class GridCells:
    """What a run leaves: similarities by (set, suspect), and the seconds that models worked.

    ``similarities`` maps (victim, suspect) to combination to budget to one value per seed, NaN where the suspect could
    not be asked; ``seconds`` are those of sampling and of asking, ``inputs`` those asked of suspects. ``refused`` says
    why some queries could not be made of a victim; their combinations are missing for it.
    """

    suspects: tuple[Suspect, ...]
    damaged: tuple[bool, ...]
    refused: Mapping[SetKey, str]
    similarities: Mapping[tuple[int, int], Mapping[str, Mapping[int, list[float]]]]
    sampling_seconds: Mapping[SetKey, float]
    asking_seconds: float
    inputs: int


def plan(suite: Suite, *, schemes: str = "*", budgets: Sequence[int] = (50, 100, 200), seeds: int = 3) -> Grid:
    """The points of the grid whose name matches one of the comma-separated wildcards.

    Points that learn from shadow models are left out; the paper has none. Raises `UsageError` where no point is left,
    or for a budget that no set of masks fits in.
    """
    masks = [mask.strip() for mask in schemes.split(",")]
    names = [point.name for point in combinations() if point.refusal is None]
    kept = tuple(
        name for name in names if any(fnmatch(name, mask) for mask in masks) and not SCHEMES.make(name).needs_pool
    )
    if not kept:
        raise UsageError(f"no point of the grid matches {schemes!r}. Type: whorl schemes --grid")
    if not budgets or min(budgets) < MASKS or seeds < 1:
        raise UsageError(f"a grid has budgets of at least {MASKS} inputs and at least one seed")
    return Grid(suite, kept, tuple(sorted(set(budgets))), tuple(range(seeds)))


def run_grid(
    grid: Grid,
    *,
    folder: Path,
    workers: Workers = 0,
    device: str = "cpu",
    fresh: bool = False,
    progress: Progress = lambda *_: None,
) -> GridCells:
    """Compute every cell, or what is left of them; ``fresh`` forgets what is kept, models included."""
    stages = Stages(folder, workers=workers, device=device, fresh=fresh, progress=progress)
    suite, zoo, largest = grid.suite, Zoo(stages.folder, device=device), max(grid.budgets)
    suspects, store = tuple(suite.suspects()), stages.store  # a damaged one is refused before anything is trained
    models = [*suite.victims, *(suspect.recipe for suspect in suspects)]
    zoo.build(models, workers=workers, fresh=fresh, progress=progress)
    paths = {key: stages.folder / "queries" / f"{_set_key(grid, key)}.safetensors" for key in grid.sets()}
    tasks = {
        str(path): stages.task(sample, suite, *key, largest, str(path), name=f"{key[1]} on {suite.victims[key[0]]}")
        for key, path in paths.items()
    }
    reasons = stages.files("queries", tasks)
    refused = {key: reason for key, path in paths.items() if (reason := reasons.get(str(path))) is not None}
    paths = {key: path for key, path in paths.items() if key not in refused}
    code = code_of_grid(grid)
    digests = {key: digest_file(str(path)) for key, path in paths.items()}
    asked = [{key: str(path) for key, path in paths.items() if key[0] in suspect.kinds} for suspect in suspects]
    groups = {
        number: {
            str(suspect.recipe): cell_key(
                revision=digest_of(code | code_of_model(suspect.recipe)),
                grid=[digests[key] for key in asked[number]],
                suspect=suspect.recipe.digest,
                combinations=grid.combinations,
                budgets=grid.budgets,
                **content_key([suspect.recipe]),
            )
        }
        for number, suspect in enumerate(suspects)
    }

    def ask(number: int, recipe: tuple[str, ...]) -> Task:
        return stages.task(answer, *recipe, asked[number], grid.combinations, grid.budgets, name=recipe[0])

    stages.cells("suspects", groups, ask)
    documents = [store.get(key) for keys in groups.values() for key in keys.values()]
    return _collect(grid, zoo, suspects, paths, documents, refused)


def sample(
    suite: Suite, victim: int, queries: str, seed: int, budget: int, path: str, folder: str, device: str
) -> str | None:
    """Make one set of queries and keep it with the victim's scores, or say why not (runs in a worker)."""
    scheme = SCHEMES.make(f"{queries}+scores+l2{settings_of(queries)}")
    oracle = Zoo(Path(folder), device=device).oracle(suite.victims[victim])
    data = SOURCES.make(suite.data_of(victim)).load(scheme.part)
    try:
        made = scheme.extract(oracle, data, budget=count_of(queries, budget), seed=seed)
    except UsageError as error:  # as a victim without errors has no negatives
        return str(error)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    write_fingerprint(made, path)
    return None


def answer(
    recipe: str,
    sets: Mapping[SetKey, str],
    names: Sequence[str],
    budgets: Sequence[int],
    folder: str,
    device: str,
) -> dict[str, Any]:
    """Ask one suspect about every set once and compute all combinations at all budgets (runs in a worker)."""
    suspect = Zoo(Path(folder), device=device).oracle(parse_recipe(recipe))
    found: dict[str, Any] = {}
    seconds, inputs = 0.0, 0
    for (victim, queries, seed), path in sets.items():
        fingerprint = read_fingerprint(path)
        started = time.perf_counter()
        observed = _asked(suspect, fingerprint)
        seconds += time.perf_counter() - started
        inputs += suspect.queries_spent
        suspect.queries_spent = 0
        for name in names:
            if name.split("+")[0] == queries:
                values = compared(name, fingerprint, observed, budgets)
                found[f"{victim} {name} {seed}"] = values
    return {recipe: {"cells": found, "seconds": seconds, "inputs": inputs}}


def compared(
    name: str, fingerprint: Fingerprint, observed: Oracle | None, budgets: Sequence[int]
) -> list[float | None]:
    """The similarity at each budget, from answers that are there; None where the suspect could not be asked."""
    scheme = SCHEMES.make(f"{name}{settings_of(name.split('+')[0])}")
    victim = _replay(fingerprint, fingerprint.reference.values.flatten(0, -2), Access.LOGITS, fingerprint.classes)
    values: list[float | None] = []
    for budget in budgets:
        count = count_of(name.split("+")[0], budget)
        try:
            values.append(_similarity(scheme, fingerprint, victim, observed, count))
        except (AccessRefused, UsageError):
            values.append(None)
    return values


def _similarity(
    scheme: Scheme, fingerprint: Fingerprint, victim: Oracle, observed: Oracle | None, count: int
) -> float | None:
    if observed is None:
        return None
    queries = fingerprint.queries[:count]
    reference = scheme.represent(victim, queries)
    shorter = replace(fingerprint, scheme=str(scheme), queries=queries, reference=reference)
    return scheme.observe(shorter, observed).similarity


def _asked(suspect: Oracle, fingerprint: Fingerprint) -> Oracle | None:
    """The suspect's answers to a whole set, at the most that it grants; None where it takes other inputs."""
    if fingerprint.space != suspect.space:
        return None
    answers = suspect.answers(fingerprint.space.flat(fingerprint.queries.inputs))
    return _replay(fingerprint, answers, min(suspect.access, Access.LOGITS), suspect.classes)


def _replay(fingerprint: Fingerprint, answers: Any, access: Access, classes: int) -> Replayed:
    space = fingerprint.space
    inputs = space.flat(fingerprint.queries.inputs)
    return Replayed(
        inputs, answers, access=access, space=space, classes=classes, name="the suspect", task=fingerprint.task
    )


def code_of_grid(grid: Grid) -> frozenset[str]:
    """What all combinations are made by, models aside; see `whorl.revisions`."""
    names = {f"{name}{settings_of(name.split('+')[0])}" for name in grid.combinations}
    return frozenset({__name__}).union(*(code_of(SCHEMES, name) for name in names))


def count_of(queries: str, budget: int) -> int:
    """How many queries of a sampler, by its name in the grid, ask ``budget`` inputs."""
    each = {"pairs": 2, "masks": MASKS}.get(_asks(queries), 1)
    return budget // each


def settings_of(queries: str) -> str:
    """The settings with which the grid makes a sampler, as text after its name."""
    return f"(masks={MASKS})" if _asks(queries) == "masks" else ""


def _asks(queries: str) -> str:
    sampler: Any = QUERIES[queries.removeprefix("train-").removeprefix("test-")]
    return sampler.asks


def _set_key(grid: Grid, key: SetKey) -> str:
    victim, queries, seed = key
    of = grid.suite.victims[victim]
    queries_code = code_of(SCHEMES, f"{queries}+scores+l2{settings_of(queries)}")
    return cell_key(
        revision=digest_of(
            {__name__} | queries_code | code_of_model(of) | code_of(SOURCES, grid.suite.data_of(victim))
        ),
        victim=grid.suite.victims[victim].digest,
        queries=str(SCHEMES.bind(f"{queries}+scores+l2{settings_of(queries)}")),
        data=str(SOURCES.bind(grid.suite.data_of(victim))),
        budget=max(grid.budgets),
        seed=seed,
        **content_key([of], grid.suite.data_of(victim)),
    )


def _collect(
    grid: Grid,
    zoo: Zoo,
    suspects: tuple[Suspect, ...],
    paths: Mapping[SetKey, Path],
    documents: Sequence[dict[str, Any]],
    refused: Mapping[SetKey, str],
) -> GridCells:
    similarities: dict[tuple[int, int], dict[str, dict[int, list[float]]]] = {}
    for number, (suspect, document) in enumerate(zip(suspects, documents, strict=True)):
        for victim in suspect.kinds:
            table = similarities.setdefault((victim, number), {})
            for name in grid.combinations:
                if any((victim, name.split("+")[0], seed) not in paths for seed in grid.seeds):
                    continue
                rows = [document["cells"][f"{victim} {name} {seed}"] for seed in grid.seeds]
                table[name] = {
                    budget: [float("nan") if row[place] is None else float(row[place]) for row in rows]
                    for place, budget in enumerate(grid.budgets)
                }
    return GridCells(
        suspects=suspects,
        refused=dict(refused),
        damaged=tuple(zoo.card(suspect.recipe).damaged for suspect in suspects),
        similarities=similarities,
        sampling_seconds={key: read_fingerprint(path).seconds for key, path in paths.items()},
        asking_seconds=sum(document["seconds"] for document in documents),
        inputs=sum(document["inputs"] for document in documents),
    )
