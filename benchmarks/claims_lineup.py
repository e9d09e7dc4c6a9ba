"""Does the judge's lineup of twins convict copies that were extracted, and no stranger?

Everything that owner and judge do, by the functions behind the verbs: the owner claims a net and seals its recipe and
seed (``whorl claim make``), both draw for one suspect (``draw``), the owner discloses the recipe (``open --lineup``),
and the judge trains the victim anew and twins whose seeds follow from that draw (``check --twins``): 19, and 99 in
another draw for the same suspect. So no twin serves twice. With 19, derived means that the suspect resembles the victim
most of all; with 99, that at most four twins are more like it. Strangers are called derived once in 20 if the rank is
exact. ``near`` counts those that lie so near; ``derived`` lacks those of them for which the judge finds that the victim
stands apart among its twins (accuracy, agreement, confidence or loss: one seed may have been chosen among many), and
then nothing is called derived. One of 20 candidates stands apart by chance far more often than one of 100.

- ``perceptrons, textures``: five owners, who learn 2,000 pictures nearly by heart, and thieves with as many others;
- ``perceptrons, digits``: ten owners with 629 pictures, and thieves with 449.

Extracted copies learn from nothing, in the victim's architecture, by the owner's labels or probabilities on the thief's
own pictures. Settings are whorl's own; nothing was chosen by these nets. The numbers of a draw and the questions of a
lineup are secret, so another run draws others.

Run: python benchmarks/claims_lineup.py --cache CACHE [--only NETS] [-o benchmarks/results/claims-lineup.json]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

from whorl.attest.keys import Ed25519PrivateKey
from whorl.attest.stamp import Stamp
from whorl.bench.result import describe_machine
from whorl.claims.documents import Claim, read_signed
from whorl.claims.drawing import begin, finished, kept_nonce, step
from whorl.claims.judging import Case
from whorl.claims.making import make_claim, read_secrets
from whorl.claims.opening import open_claim, read_opening
from whorl.claims.twins import judge_lineup
from whorl.metrics import clopper_pearson
from whorl.oracles.base import Oracle
from whorl.oracles.wrappers import digests_of
from whorl.storage import write_json
from whorl.zoo.cache import Zoo
from whorl.zoo.recipe import parse_recipe

ALPHA, TWINS, SIZE = 0.05, (19, 99), 1000
SEEN = datetime(2026, 6, 1, tzinfo=UTC)  # since when the suspects are known; the claims are stamped before
STAMP = Stamp(datetime(2026, 1, 1, tzinfo=UTC), None, "1.2.3", 1, "CN=an authority")
SEALED = 1 << 62  # seeds of owners have 63 bits, as many as a recipe takes


@dataclass(frozen=True)
class Nets:
    """Owners of one kind: their recipe, what is extracted from each, and how many strangers each is held against."""

    data: str
    recipe: str
    owners: int
    copies: dict[str, tuple[str, ...]]
    strangers: int


def extracted(architecture: str, each: int) -> dict[str, tuple[str, ...]]:
    """``each`` copies by labels and as many by probabilities."""
    return {
        how: tuple(f"extract({architecture}, {how}, epochs=20, seed={seed})" for seed in range(1, each + 1))
        for how in ("labels", "probabilities")
    }


TEXTURES, DIGITS = "textures(size=8, images=2000, noise=0.1)", "digits(size=8)"
NETS = {
    "perceptrons, textures": Nets(
        TEXTURES,
        f"train(mlp(width=64), {TEXTURES}, epochs=20, learning_rate=0.05)",
        5,
        extracted("mlp(width=64)", 1),
        1,
    ),
    "perceptrons, digits": Nets(
        DIGITS, f"train(mlp(width=48), {DIGITS}, epochs=15, learning_rate=0.05)", 10, extracted("mlp(width=48)", 1), 2
    ),
}


def judged(claimed: Path, suspect: Oracle, twins: int, cache: Path, key: Ed25519PrivateKey) -> tuple[bool, bool]:
    """From the draw to the judgment of one suspect: whether it is called derived, and whether its rank would do."""
    claim = read_signed(claimed / "mine.claim", Claim, [key.public_key()])
    with tempfile.TemporaryDirectory() as scratch:
        drawing, judge, owner = (Path(scratch) / name for name in ("case.draw", "judge.nonce", "owner.nonce"))
        begin(claim.digest, digests_of(suspect)[0], judge, drawing)
        step(drawing, "owner", owner)
        step(drawing, "owner", owner)
        step(drawing, "judge", judge)
        told, draw = finished(drawing)
        folder = Path(scratch) / "opening"
        secrets = read_secrets(claimed / "secrets")
        open_claim(claim, secrets, draw, told.suspect, key=key, folder=folder, lineup=True)
        opened = read_opening(folder, claim, [key.public_key()])
        case = Case(nonce=kept_nonce(judge).hex(), stamp=STAMP, since=SEEN)
        told = judge_lineup(opened, suspect, case=case, twins=twins, size=SIZE, folder=cache, workers=1)
    return told.relation == "derived" and told.grade == "C", told.lineup["rank"] <= ALPHA * (twins + 1)


def rows_of(nets: Nets, zoo: Zoo, cache: Path, first: int) -> dict[str, list[list[tuple[bool, bool]]]]:
    """Which suspects of each owner are called derived, and which have a rank that would do, by row."""
    base, rows = parse_recipe(nets.recipe), defaultdict[str, list[list[tuple[bool, bool]]]](list)
    for number in range(nets.owners):
        owner = base.with_seed(SEALED + first + number)
        zoo.build([owner], workers=1)
        key = Ed25519PrivateKey.generate()
        suspects = {name: [owner.then(step) for step in steps] for name, steps in nets.copies.items()}
        suspects["strangers"] = [
            base.with_seed(first + 10_000 + number * nets.strangers + each) for each in range(nets.strangers)
        ]
        with tempfile.TemporaryDirectory() as scratch:
            claimed = Path(scratch)
            make_claim(
                zoo.oracle(owner),
                data=nets.data,
                schemes=["akh", "random", "fgsm"],
                key=key,
                path=claimed / "mine.claim",
                folder=claimed / "secrets",
                size=4,  # nothing but the recipe is opened
                opened=2,
                alpha=ALPHA,
                recipe=nets.recipe,
                seed=SEALED + first + number,
            )
            for name, recipes in suspects.items():
                zoo.build(recipes, workers=1)
                for twins in TWINS:
                    found = [judged(claimed, zoo.oracle(recipe), twins, cache, key) for recipe in recipes]
                    rows[f"{name}, {twins} twins"].append(found)
        print(number + 1, {name: [pair for one in of for pair in one] for name, of in rows.items()}, flush=True)
    return rows


def shares(values: list[list[tuple[bool, bool]]]) -> dict[str, Any]:
    """How many are called derived, their share, its standard error clustered by owner, and an exact 95 % interval."""
    means = np.array([np.mean([derived for derived, _ in each]) for each in values])
    hits, count = sum(derived for each in values for derived, _ in each), sum(map(len, values))
    interval = clopper_pearson(hits, count)
    return {
        "derived": hits,
        "near": sum(near for each in values for _, near in each),
        "of": count,
        "rate": round(hits / count, 4),
        "error": round(float(means.std(ddof=1) / len(means) ** 0.5), 4),
        "interval": [round(interval.low, 4), round(interval.high, 4)],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, required=True, help="a folder for the nets")
    parser.add_argument("--only", choices=list(NETS), help="one kind of nets")
    parser.add_argument("-o", "--output", type=Path, default=Path("benchmarks/results/claims-lineup.json"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    started = time.process_time()
    rows: dict[str, Any] = {}
    for number, (name, nets) in enumerate(NETS.items()):
        if options.only in (None, name):
            found = rows_of(nets, Zoo(options.cache), options.cache, 70_000 + 20_000 * number)
            rows[name] = {"owners": nets.owners} | {row: shares(values) for row, values in found.items()}
            print(name, rows[name], flush=True)
    document = {
        "alpha": ALPHA,
        "twins": list(TWINS),
        "questions": SIZE,
        "nets": rows,
        "seconds": round(time.process_time() - started, 1),
        "machine": describe_machine("cpu").model_dump(),
    }
    write_json(options.output, document)


if __name__ == "__main__":
    main()
