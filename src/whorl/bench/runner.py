"""Plan, run, keep, resume: from a suite to its result.

Three stages, each over the cores: build the models, extract and calibrate the fingerprints, judge the suspects. Every
model, fingerprint and cell is kept under the hash of all it depends on, the revision of the code that makes it
included, so a run that is killed goes on where it stopped, suites that share cells share the work, and what older code
made is made anew.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from whorl.bench import lineups
from whorl.bench.jobs import Job, Judge, code_of_all, jobs_of, learns
from whorl.bench.lineups import COLUMNS, QUESTIONS
from whorl.bench.mark_figures import MarkFigures
from whorl.bench.result import Cell, Extraction, Model, Refusal, Result, describe_machine
from whorl.bench.work import costs_path
from whorl.engine.stages import Progress, Stages
from whorl.engine.store import Store, cell_key
from whorl.engine.tasks import Task
from whorl.engine.workers import Workers
from whorl.errors import UsageError
from whorl.revisions import digest_of, revisions_of
from whorl.schemes import SCHEMES
from whorl.schemes.opening import read_fingerprint
from whorl.storage import digest_file, read_json
from whorl.suites.shadows import Shadows
from whorl.suites.suite import Suite, Suspect
from whorl.types import Fingerprint
from whorl.zoo.cache import Zoo
from whorl.zoo.code import code_of_model, content_key

__all__ = ["run"]


def run(  # noqa: PLR0913 each is an option of `whorl bench run`
    suite: Suite,
    *,
    folder: Path,
    schemes: str = "*",
    removals: str = "*",
    lineup: bool = False,
    by: str = "",
    workers: Workers = 0,
    device: str = "cpu",
    command: str = "",
    fresh: bool = False,
    progress: Progress = lambda *_: None,
) -> Result:
    """Run a suite, or what is left of it.

    Parameters:
        folder: the cache: models, fingerprints and the store of results.
        schemes: comma-separated wildcards over the columns; an installed scheme that is none of them is added.
        removals: the same over the rows: their labels, removals or families.
        lineup: also line every victim up with twins, those of the null or others that are trained for it.
        by: as ``schemes``: also line up by each of these, every candidate with a fingerprint of its own.
        workers: processes; 0 for one per core; or the address of a Ray cluster.
        device: where nets train and answer.
        command: what to type to run the same, for the record.
        fresh: forget what is kept of this suite, models included, and compute everything again.
    """
    suite, columns = _marked(suite, schemes, lineup or bool(by)) or _chosen(suite, schemes, lineup, by)
    if removals != "*":
        suite = suite.attacked(removals)
    if any(learns(suite.schemes[column]) for column in columns):
        suite.refuse_overlap()
    else:
        suite = replace(suite, shadows=Shadows())  # nobody learns from them, so they need not be built
    stages = Stages(folder, workers=workers, device=device, fresh=fresh, progress=progress)
    zoo, store = Zoo(stages.folder, device=device), stages.store  # a damaged one is refused before anything is trained
    twins = [each for number in range(len(suite.victims)) for each in suite.twins(number)] if lineup or by else []
    recipes = [*suite.recipes(), *twins]
    zoo.build(recipes, workers=workers, fresh=fresh, progress=progress)
    jobs = jobs_of(suite, columns, stages.folder)
    extractions = _extract_all(suite, jobs, stages)
    cells, refusals = _judge_all(suite, jobs, stages, store)
    return Result(
        format=2,
        suite=suite.name,
        about=suite.about,
        limit=suite.limit,
        alpha=suite.alpha,
        budget=suite.budget,
        columns=columns,
        chosen=suite.chosen if suite.chosen in columns else "",
        sweep={str(k): expression for k, expression in suite.sweep.items()},
        rows=list(dict.fromkeys(row.group or row.label for row in suite.derived)),
        groups=list(suite.independents),
        victims=[str(victim) for victim in suite.victims],
        victim_accuracy=[zoo.accuracy(victim) for victim in suite.victims],
        null_size=len(suite.null),
        paper={row: dict(columns) for row, columns in suite.paper.items()},
        paper_accuracy=dict(suite.paper_accuracy),
        machine=describe_machine(device),
        extractions=extractions,
        cells=cells,
        layout=suite.layout,
        refusals=refusals,
        shadow_families=suite.shadows.families(suite.victims[0]),
        models=_models(suite, zoo),
        date=datetime.now(UTC).date().isoformat(),
        command=command,
        removals=removals,
        revisions=revisions_of(code_of_all(recipes).union(*(job.code for job in jobs))),
    )


def _marked(suite: Suite, schemes: str, lined_up: bool) -> tuple[Suite, list[str]] | None:
    """A suite of marks with the columns that match, which are all that is embedded; None of another suite."""
    if suite.layout != "marks":
        return None
    masks = [mask.strip() for mask in schemes.split(",")]
    columns = [name for name in suite.schemes if any(fnmatch(name, mask) for mask in masks)]
    if lined_up or not columns:
        raise UsageError(
            f"the columns of {suite.name} are the marks {', '.join(suite.schemes)}, each checked by what was embedded: "
            "name some of them (--schemes), without --lineup and --by"
        )
    return replace(suite, schemes={name: suite.schemes[name] for name in columns}), columns


def _chosen(suite: Suite, schemes: str, lineup: bool, by: str) -> tuple[Suite, list[str]]:
    """The columns that match, and the suite with those added that are asked for and not in it."""
    masks = [mask.strip() for mask in schemes.split(",")]
    others = {mask: mask for mask in masks if mask in SCHEMES and mask not in suite.schemes}
    suite = replace(suite, schemes={**suite.schemes, **others})
    columns = [name for name in suite.schemes if any(fnmatch(name, mask) for mask in masks)]
    named = _by(suite, by) if by else {}
    if added := {**(COLUMNS if lineup else {}), **dict(named.values())}:
        budgets = dict.fromkeys(added, QUESTIONS)
        # As many in all, unless each candidate's fingerprint were larger than the scheme's own in this suite.
        candidates = len(suite.twins(0)) + 1
        budgets |= {label: min(QUESTIONS, candidates * suite.budget_of(name)) for name, (label, _) in named.items()}
        suite = replace(suite, schemes={**suite.schemes, **added}, budgets={**suite.budgets, **budgets})
        columns += list(added)
    if not columns:
        raise UsageError(
            f"no scheme of {suite.name} matches {schemes!r}. It has {', '.join(suite.schemes)}; any other installed "
            "scheme is added by its name"
        )
    return suite, columns


def _by(suite: Suite, masks: str) -> dict[str, tuple[str, str]]:
    """Scheme to the column of a lineup by it: of wildcards those that can serve, of what is named else a refusal."""
    found: dict[str, tuple[str, str]] = {}
    for mask in (mask.strip() for mask in masks.split(",")):
        if not set(mask) & set("*?["):
            found[mask] = lineups.by_scheme(mask, suite.schemes.get(mask, mask))
            continue
        for name, text in suite.schemes.items():
            if fnmatch(name, mask) and not SCHEMES.make(text).needs_pool:
                found[name] = lineups.by_scheme(name, text)
    if not found:
        raise UsageError(
            f"no scheme of {suite.name} that can do without shadow models matches {masks!r}. It has "
            f"{', '.join(suite.schemes)}; any other installed scheme is added by its name"
        )
    return found


def _models(suite: Suite, zoo: Zoo) -> list[Model]:
    """The victims and every suspect, as their cards have them."""
    named = [(f"victim {number + 1}", "victim", "", victim) for number, victim in enumerate(suite.victims)]
    named += [(suspect.label, suspect.group, suspect.family, suspect.recipe) for suspect in suite.suspects()]
    return [
        Model(
            label=label,
            role=role,
            family=family,
            recipe=card.recipe,
            accuracy=zoo.accuracy(recipe),
            agreement=card.agreement,
            damaged=card.damaged,
            queries=card.queries,
            seconds=card.seconds,
            victim_accuracy=card.victim_accuracy,
        )
        for label, role, family, recipe in named
        for card in [zoo.card(recipe)]
    ]


def _extract_all(suite: Suite, jobs: list[Job], stages: Stages) -> list[Extraction]:
    tasks: dict[str, Task] = {}
    for job in jobs:
        arguments = (suite, job.victim, job.expression, suite.budget_of(job.column), job.path)
        tasks[job.path] = stages.task(job.make, *arguments, name=f"{job.expression} on {suite.victims[job.victim]}")
    stages.files("fingerprints", tasks)
    return [_extraction(job, read_fingerprint(job.path)) for job in jobs]


def _extraction(job: Job, fingerprint: Fingerprint) -> Extraction:
    calibration = fingerprint.calibration
    notes = {key: float(value) for key, value in fingerprint.queries.notes.items() if isinstance(value, int | float)}
    return Extraction(
        victim=job.victim,
        scheme=job.column,
        expression=job.expression,
        seconds=fingerprint.seconds,
        notes=notes,
        null=list(calibration.null.similarities) if calibration else [],
        known={removal: list(values) for removal, values in (calibration.derived if calibration else {}).items()},
        pictures=Path(job.path).name,
        inputs=_inputs(fingerprint),
        mark=MarkFigures.model_validate(_costs(job.path)["mark"]) if job.marked else None,
        peak_mib=_costs(job.path).get("peak_mib"),
    )


def _inputs(fingerprint: Fingerprint) -> int:
    """Inputs that a suspect is asked."""
    asked = fingerprint.candidates.queries if fingerprint.candidates else fingerprint.queries
    return len(asked) * (fingerprint.space.each(asked.inputs) or 1)


def _costs(path: str) -> dict[str, Any]:
    costs = costs_path(path)
    return read_json(costs) if costs.is_file() else {}


def _judge_all(suite: Suite, jobs: list[Job], stages: Stages, store: Store) -> tuple[list[Cell], list[Refusal]]:
    suspects, judges = list(suite.suspects()), {job.path: job.judge for job in jobs}
    met = _met(suspects, jobs)
    keys = _keys(suspects, met, suite.alpha)
    groups: dict[tuple[int, Judge], dict[str, str]] = {}
    for position, asked in enumerate(keys):
        for path, key in asked.items():  # lineups are tasks of their own, of other code
            groups.setdefault((position, judges[path]), {})[path] = key

    def ask(group: tuple[int, Judge], paths: tuple[str, ...]) -> Task:
        recipe = str(suspects[group[0]].recipe)
        return stages.task(group[1], recipe, paths, suite.alpha, name=recipe)

    stages.cells("suspects", groups, ask)
    cells: list[Cell] = []
    refusals: list[Refusal] = []
    zoo = Zoo(stages.folder, device=stages.device)
    for suspect, faced, asked in zip(suspects, met, keys, strict=True):
        card, answers = zoo.card(suspect.recipe), store.get_many(asked.values())
        for job in faced:
            about = {"victim": job.victim, "scheme": job.column, "suspect": suspect.label}
            answer = answers[asked[job.path]]
            model = {
                "group": suspect.group,
                "kind": suspect.kinds[job.victim],
                "family": suspect.family,
                "damaged": card.damaged,
            }
            if "refused" in answer:
                refusals.append(Refusal(**about, **model, reason=answer["refused"]))
            else:
                cells.append(Cell(**about, **model, accuracy=zoo.accuracy(suspect.recipe), **answer))
    return cells, refusals


def _met(suspects: list[Suspect], jobs: list[Job]) -> list[list[Job]]:
    """The fingerprints that each suspect meets: those of its victims."""
    made: dict[int, list[Job]] = {}
    for job in jobs:
        made.setdefault(job.victim, []).append(job)
    return [
        [job for victim in sorted(suspect.kinds) for job in made.get(victim, []) if suspect.column in ("", job.column)]
        for suspect in suspects
    ]


def _keys(suspects: list[Suspect], met: list[list[Job]], alpha: float) -> list[dict[str, str]]:
    """The keys of each suspect's cells by the fingerprint's path.

    Two columns may share a fingerprint; it is asked once.
    """
    identity = {path: digest_file(path) for path in {job.path for jobs in met for job in jobs}}
    return [
        {
            job.path: cell_key(
                revision=digest_of(job.code | code_of_model(suspect.recipe)),
                suspect=suspect.recipe.digest,
                fingerprint=identity[job.path],
                alpha=alpha,
                **content_key([suspect.recipe]),
            )
            for job in jobs
        }
        for suspect, jobs in zip(suspects, met, strict=True)
    ]
