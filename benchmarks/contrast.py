"""Does `contrast` see more of hard/tiny than the twelve schemes of its committed run, and whom does it accuse?

Same victims, attacks, independent models, alpha and number of queries. Shadow models have seeds of their own and are
never under test. Each attack is judged twice: by a fingerprint that learned from copies of every family (`seen`; other
seeds), and by one whose pool holds no copy of the attack's own family (`unseen`; the same one where it holds none
anyway). The null has two groups of 19, siblings and nets that began from nothing, and a suspect has to stand out in
both. The number of queries is the suite's and the settings are the scheme's own; what else was looked at is under
`instead`, on the same models, and chose nothing.

Run: python benchmarks/contrast.py [--cache FOLDER] [--victims 5] [-o benchmarks/results/contrast.json]
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import torch

from whorl.bench.result import Result, describe_machine, read_result
from whorl.data import SOURCES
from whorl.oracles.interface import Remembered
from whorl.oracles.pool import Pool
from whorl.schemes import SCHEMES
from whorl.schemes.session import Session
from whorl.storage import write_json
from whorl.suites.rows import models
from whorl.suites.shadows import Shadows
from whorl.suites.suite import SUITES, Suite, Suspect
from whorl.types import Fingerprint, Rule
from whorl.zoo.cache import Zoo, default_cache
from whorl.zoo.recipe import Recipe, parse_recipe

SUITE, SCHEME, BUDGET = "hard/tiny", "contrast", 100
BESIDE = Path(__file__).parent / "results" / "hard-tiny.json"
NET, OTHER = "resnet8(width=8)", "vgg(width=8)"
DATA, PUBLIC = "textures(size=16, images=4000, noise=0.1)", "textures(size=16, images=4000, noise=0.2, seed=5)"
LEARN = "epochs=12, learning_rate=0.2"
COPIES = (
    "fine_tune(all, epochs=3, learning_rate=0.01, seed=2005)",
    "prune_filters(4/16, epochs=3, learning_rate=0.01, seed=2006)",
    "adversarial_train(pgd, epochs=3, seed=2007)",
    "shift_weights(epochs=3, seed=2008)",
    "removal_net(seed=2009)",
    f"distil({OTHER}, temperature=4.0, epochs=12, learning_rate=0.1, seed=2001)",
    f"extract({NET}, labels, {LEARN}, seed=2002)",
    f"extract({OTHER}, probabilities, epochs=12, learning_rate=0.1, seed=2003)",
    f"extract_adversarial({NET}, {LEARN}, iterations=7, seed=2011)",
    f"knockoff({NET}, pool={PUBLIC}, budget=3000, {LEARN}, seed=2004)",
    f"jacobian({NET}, seeds=300, rounds=4, {LEARN}, seed=2010)",
    f"active({NET}, pool={PUBLIC}, budget=3000, {LEARN}, seed=2012)",
)
FRESH, SLOW = f"{DATA}, epochs=10, learning_rate=0.2", f"{DATA}, epochs=10, learning_rate=0.1"
BOTH, ALONE, BLIND = "groups", "siblings alone in pool and null", "all strangers of the pool in one group"


def siblings(seeds: range, part: str = "victim") -> tuple[Recipe, ...]:
    """Nets that went on from the victims' public ancestor."""
    base = parse_recipe(f"train({NET}, {PUBLIC}, epochs=10, learning_rate=0.2, seed=1)")
    return tuple(
        base.then(f"transfer({DATA}, epochs=8, learning_rate=0.1, part={part}, seed={seed})") for seed in seeds
    )


def shadows() -> Shadows:
    """Twelve copies of each victim, and thirty strangers in three groups for all."""
    strangers = (
        *siblings(range(2100, 2107)),
        *siblings(range(2110, 2113), "calibration"),
        *models(NET, FRESH, range(2120, 2127)),
        *models(NET, f"{FRESH}, part=calibration", range(2130, 2133)),
        *models(OTHER, SLOW, range(2140, 2146)),
        *models("vgg", SLOW, range(2150, 2154)),
    )
    return Shadows(COPIES, strangers)


def null(suite: Suite) -> tuple[Recipe, ...]:
    """The suite's siblings, and as many nets that began from nothing."""
    return (*suite.null, *models(NET, FRESH, range(1100, 1119)))


class Study:
    """Fingerprints of the victims and verdicts on the suspects, each made once."""

    def __init__(self, suite: Suite, zoo: Zoo) -> None:
        self.suite, self.zoo, self.scheme = suite, zoo, SCHEMES.make(SCHEME)
        self.seeds = SOURCES.make(suite.data).load(self.scheme.part)
        self.oracle = cache(lambda recipe: Remembered(zoo.oracle(recipe)))
        self.fingerprint = cache(self._fingerprint)

    def recipes(self) -> list[Recipe]:
        """All models that are needed."""
        shadow = [recipe for victim in self.suite.victims for recipe in shadows().recipes(victim)]
        return list(dict.fromkeys([*self.suite.recipes(), *null(self.suite), *shadow]))

    def pool(self, victim: int, without: str, how: str = BOTH) -> Pool:
        """Shadow models without a family of copies. Raises `UsageError` where one of them is under test."""
        recipe, every = self.suite.victims[victim], shadows()
        kept = tuple(each for each in every.derived if replace(every, derived=(each,)).families(recipe) != [without])
        strangers = tuple(each for each in every.independent if each.parent or how != ALONE)
        chosen = replace(every, derived=kept, independent=strangers)
        tested = [suspect.recipe for suspect in self.suite.suspects() if victim in suspect.kinds]
        chosen.refuse_overlap(recipe, [*tested, *null(self.suite)])
        if without:
            alike = [each.recipe for each in self.suite.suspects() if each.family == without and victim in each.kinds]
            replace(chosen, disjoint_families=True).refuse_overlap(recipe, alike)
        made = chosen.pool(recipe, self.zoo)
        derived = {
            family: [self.oracle(parse_recipe(each.name)) for each in copies] for family, copies in made.derived.items()
        }
        independent = [self.oracle(parse_recipe(each.name)) for each in made.independent]
        return Pool(derived, independent, () if how == BLIND else made.groups)

    def _fingerprint(self, victim: int, without: str, budget: int, how: str) -> Fingerprint:
        recipe = self.suite.victims[victim]
        made = self.scheme.extract(self.oracle(recipe), self.seeds, budget=budget, pool=self.pool(victim, without, how))
        chosen = self.suite.null if how == ALONE else null(self.suite)
        return self.scheme.calibrate(
            made,
            {str(each): self.oracle(each) for each in chosen},
            pool=how,
            siblings=len(self.suite.null),
            about={str(each): self.zoo.stranger(each) for each in chosen},
        )

    def derived(self, victim: int, suspect: Suspect, without: str, budget: int = BUDGET, how: str = BOTH) -> bool:
        """Whether the verdict on a suspect is derived."""
        fingerprint = self.fingerprint(victim, without, budget, how)
        session = Session(self.scheme, fingerprint, self.oracle(suspect.recipe), Rule(alpha=self.suite.alpha))
        return session.measure()[1].decision == "derived"

    def meetings(self) -> Iterator[tuple[int, Suspect]]:
        """Victims and the suspects that they meet."""
        yield from ((victim, each) for each in self.suite.suspects() for victim in sorted(each.kinds))


def count(found: list[bool]) -> dict[str, int]:
    """How many of how many."""
    return {"derived": sum(found), "of": len(found)}


def measure(study: Study, budget: int, how: str, kinds: tuple[str, ...]) -> dict[str, Any]:
    """Copies called derived by attack, and strangers by group, for one number of queries."""
    families = shadows().families(study.suite.victims[0])
    attacks, accused = ({kind: defaultdict[str, list[bool]](list) for kind in kinds} for _ in range(2))
    for victim, suspect in study.meetings():
        for kind in kinds:
            if suspect.family:
                left_out = suspect.family if kind == "unseen" and suspect.family in families else ""
                attacks[kind][suspect.group].append(study.derived(victim, suspect, left_out, budget, how))
            else:
                accused[kind][suspect.group] += [
                    study.derived(victim, suspect, left_out, budget, how)
                    for left_out in (families if kind == "unseen" else [""])
                ]
    return {
        "all": {kind: count([each for found in attacks[kind].values() for each in found]) for kind in kinds},
        "attacks": {row: {kind: count(attacks[kind][row]) for kind in kinds} for row in attacks[kinds[0]]},
        "accused": {kind: {group: count(found) for group, found in accused[kind].items()} for kind in kinds},
    }


def beside(result: Result, victims: int) -> dict[str, Any]:
    """The committed verdicts of the suite's own schemes on the same victims: attack to scheme to copies seen."""
    cells = [cell for cell in result.cells if cell.victim < victims]
    return {
        "attacks": {
            row: {
                name: sum(c.decision == "derived" for c in cells if (c.group, c.scheme) == (row, name))
                for name in result.columns
            }
            for row in result.rows
        },
        "accused": {
            name: count([c.decision == "derived" for c in cells if c.kind == "independent" and c.scheme == name])
            for name in result.columns
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, default=default_cache())
    parser.add_argument("--victims", type=int, default=5)
    parser.add_argument("-o", "--output", type=Path, default=Path("benchmarks/results/contrast.json"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    suite, started = SUITES[SUITE](), time.perf_counter()
    suite = replace(suite, victims=suite.victims[: options.victims])
    study = Study(suite, Zoo(options.cache))
    study.zoo.build(study.recipes(), workers=1, progress=lambda *told: print(*told, flush=True))
    document = {
        "suite": SUITE,
        "scheme": str(study.scheme),
        "victims": len(suite.victims),
        "alpha": suite.alpha,
        "budget": BUDGET,
        "shadow_copies": len(COPIES),
        "shadow_strangers": {group: len(each) for group, each in study.pool(0, "").strangers.items()},
        "null": {"siblings": len(suite.null), "fresh nets": len(null(suite)) - len(suite.null)},
        **measure(study, BUDGET, BOTH, ("seen", "unseen")),
        "beside": beside(read_result(BESIDE), len(suite.victims)),
        "instead": {
            f"{budget} queries, {how}": measure(study, budget, how, ("seen",))
            for budget, how in ((50, BOTH), (300, BOTH), (BUDGET, ALONE), (BUDGET, BLIND))
        },
        "seconds": round(time.perf_counter() - started, 1),
        "machine": describe_machine("cpu").model_dump(),
    }
    write_json(options.output, document)
    print({key: document[key] for key in ("all", "accused")})


if __name__ == "__main__":
    main()
