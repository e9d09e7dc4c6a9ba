"""Results and verdicts made of numbers alone, in the shape that a run leaves behind."""

from __future__ import annotations

import numpy as np
import torch

from whorl.bench.result import Cell, Extraction, Machine, Result
from whorl.detection import Trial
from whorl.spaces import Pictures
from whorl.suites.ipguard import PAPER
from whorl.types import Calibration, Fingerprint, Null, NullModel, Queries, Representation, Verdict

COLUMNS = ["random", "fgsm", "igsm", "cw-l2", "ipguard", "akh"]
KEPT = {"random": 0.93, "fgsm": 0.85, "igsm": 0.6, "cw-l2": 0.99, "ipguard": 0.995, "akh": 0.9}
CHANCE = {"random": 0.7, "fgsm": 0.4, "igsm": 0.05, "cw-l2": 0.03, "ipguard": 0.03, "akh": 0.25}
TUNED = ["FTLL", "FTAL", "RTLL", "RTAL", *(f"WP p=.{p}" for p in range(1, 6)), *(f"FP c={c}/16" for c in range(1, 8))]
ROWS = [*TUNED, "fp16", "bf16", "int8", "int4"]
BEYOND = ["WP p=.6", "WP p=.9", "adversarial FT", "labels, same net", "labels, other net", "distillation"]
GROUPS = {"same architecture": 8, "VGG": 4, "LeNet-5": 4, "random forest": 2}
SWEEP = {"0.1": 0.7, "0.5": 0.8, "1": 0.87, "2": 0.92, "5": 0.96, "10": 0.9, "20": 0.75}


def make_result(*, victims=3, sweep=True, limit=0, rows=None, paper=True) -> Result:
    """Numbers of a plausible shape: ``victims`` victims, six schemes, 26 rows, 18 independent models."""
    generator = np.random.default_rng(7)
    rows = [*ROWS, *BEYOND] if rows is None else rows
    keys = {name: name for name in COLUMNS}
    keys |= {f"ipguard k={k}": "ipguard" for k in SWEEP} if sweep else {}
    extractions, cells = [], []
    for victim in range(victims):
        for key, name in keys.items():
            kept = KEPT[name] * (SWEEP[key.split("=")[1]] if "=" in key else 1)
            null = _matches(generator, CHANCE[name], 19)
            extractions.append(
                Extraction(
                    victim=victim,
                    scheme=key,
                    expression=f"{name}(margin=5.0)",
                    seconds=0.02 if name == "random" else 12.5,
                    notes={"converged": 0.98} if name == "ipguard" else {},
                    null=null,
                    known={"fine-tune": _matches(generator, kept, 6), "retrain": _matches(generator, kept, 6)},
                    pictures=f"{name}.safetensors",
                )
            )
            cells += _cells(generator, victim, key, kept, CHANCE[name], max(null), rows)
    return Result(
        format=1,
        suite="ipguard/textures",
        about="procedural textures at 16 px; ResNet-8",
        limit=limit,
        alpha=0.05,
        budget=100,
        columns=COLUMNS,
        chosen="ipguard" if sweep else "",
        sweep={k: f"ipguard(margin={k})" for k in SWEEP} if sweep else {},
        rows=rows,
        groups=list(GROUPS),
        victims=[f"train(resnet8, textures(size=16, images=4000), seed={i})" for i in range(victims)],
        victim_accuracy=[0.93 - 0.01 * i for i in range(victims)],
        null_size=19,
        paper={row: dict(of) for row, of in PAPER.items()} if paper else {},
        machine=Machine(
            processor="A processor @ 2.5 GHz",
            cores=2,
            memory_gib=8,
            device="cpu",
            python="3.11.7",
            versions={"whorl": "0.1.0", "torch": "2.13.0", "numpy": "2.4.0", "scikit-learn": "1.9.1"},
        ),
        extractions=extractions,
        cells=cells,
    )


def make_fingerprint(*, independents=19, copies=20, seeds=True) -> Fingerprint:
    """Twelve colour queries of 8 x 8 with seeds, calibrated with a null from 0 to .18."""
    generator = torch.Generator().manual_seed(3)
    natural = torch.rand(12, 3, 8, 8, generator=generator)
    inputs = (natural + 0.05 * torch.randn(12, 3, 8, 8, generator=generator)).clamp(0, 1)
    similarities = tuple(round(0.01 * i, 2) for i in range(independents))
    calibration = Calibration(
        Null("19 nets of other seeds", tuple(NullModel(f"net {i}") for i in range(independents)), similarities),
        {"fine-tune": (1.0,) * copies, "extract labels": (0.1,) * copies},
    )
    return Fingerprint(
        scheme="ipguard(margin=5.0)",
        victim="0" * 64,
        queries=Queries(inputs, {"seeds": natural} if seeds else {}),
        reference=Representation(torch.zeros(12, dtype=torch.int64)),
        space=Pictures((3, 8, 8)),
        classes=10,
        calibration=calibration if independents else None,
        versions={"whorl": "0.1.0", "torch": "2.13.0"},
    )


def make_verdict(fingerprint: Fingerprint, matches: float, *, alpha=0.05, suspect="suspect.onnx") -> Verdict:
    """The verdict on a suspect that answers the share ``matches`` of the queries like the victim."""
    size = len(fingerprint.queries)
    trial = Trial(fingerprint.calibration, size=size, alpha=alpha)
    for value in np.random.default_rng(0).permutation(np.arange(size) < round(matches * size)).astype(float):
        trial.update([value])
        if trial.settled:
            break
    return trial.verdict(scheme=fingerprint.scheme, fingerprint="9f86d081884c7d65", suspect=suspect)


def _cells(generator, victim, key, kept, chance, highest, rows):
    cells = []
    for number, row in enumerate(rows):
        beyond = row in BEYOND
        rate = kept * (0.4 if beyond else 1 - 0.3 * (row == "FP c=7/16"))
        cells.append(
            _cell(generator, victim, key, (row, row), "beyond" if beyond else "derived", rate, highest, number)
        )
    for group, count in GROUPS.items():
        for i in range(count):
            cells.append(_cell(generator, victim, key, (f"{group} {i + 1}", group), "independent", chance, highest, 0))
    return cells


def _cell(generator, victim, key, names, kind, rate, highest, number):
    similarity = _matches(generator, rate, 1)[0]
    derived = similarity > highest
    return Cell(
        victim=victim,
        scheme=key,
        suspect=names[0],
        group=names[1],
        kind=kind,
        similarity=similarity,
        accuracy=0.9,
        damaged=number == 15,  # the heaviest filter pruning
        decision="derived" if derived else "unrelated",
        p_value=0.05 if derived else 0.6,
        spent=100,
        needed=14 if derived else 100,
    )


def _matches(generator, rate, count):
    return [float(value) / 100 for value in generator.binomial(100, rate, count)]
