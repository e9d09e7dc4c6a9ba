"""All schemes in one table: the same victims, copies and independent models for everybody.

Victims, independent models and null learn from the same pictures with other seeds, so that nothing but descent tells
them apart; thieves have pictures of their own, and so have the shadow models that some schemes learn from.
"""

from __future__ import annotations

from dataclasses import replace

from whorl.schemes import SCHEMES
from whorl.suites import ipguard
from whorl.suites.rows import beyond_rows, models, paper_rows
from whorl.suites.shadows import Shadows
from whorl.suites.suite import Derived, Suite
from whorl.zoo.recipe import Recipe

__all__ = ["cifar10", "digits", "textures"]

# One row or more of each family of removal.
ROWS = (
    *("FTLL", "FTAL", "RTLL", "RTAL"),
    *("WP p=.1", "WP p=.3", "WP p=.5", "WP p=.7", "WP p=.9"),
    *("FP c=2/16", "FP c=4/16", "FP c=6/16"),
    *("fp16", "int8", "int4", "adversarial FT", "re-parametrised"),
    *("labels, same net", "labels, other net", "probabilities, same net", "probabilities, other net", "distillation"),
)
# Where a scheme's own default is not what the table should show, or costs more than the table allows.
SETTINGS = {
    "cw-l2": "cw-l2(margin=7, searches=6, iterations=300)",
    "ipguard": "ipguard(margin=7)",
    # By default 1,350 gradients a picture and model, hours for this table.
    "dataset-inference-white-box": "dataset-inference-white-box(targets=3, iterations=15)",
}
BUDGETS = {
    "dataset-inference-white-box": 40,
    "zest": 20,  # each of its queries is 100 masked pictures
    "modelgif": 32,  # each is 50 gradients
    "modelgif-selected": 32,
}


def digits() -> Suite:
    """Five victims on scikit-learn's digits, which are embedded."""
    base, net = ipguard.digits(), "resnet8(width=8)"
    return replace(
        _field(base, "field/digits", columns()),
        victims=_victims(base),
        derived=_rows(net, "vgg(width=8)", epochs=10),
        null=base.null[:19],
        shadows=_shadows(net, "digits(size=16), epochs=12, batch=50", epochs=10),
        alpha=0.05,
    )


def textures() -> Suite:
    """Five victims on procedural textures: the table of the README."""
    base = ipguard.textures()
    return replace(
        _field(base, "field/textures", columns()),
        victims=_victims(base),
        derived=_rows("resnet8", "vgg", epochs=3, extraction=10),
        shadows=_shadows("resnet8", f"{base.data}, epochs=10, learning_rate=0.2", epochs=3),
    )


def cifar10() -> Suite:
    """Label-only schemes on 20,000 real CIFAR-10 pictures: one victim, as two cores allow."""
    base = ipguard.cifar10_small()
    slow = f"{base.data}, epochs=10, learning_rate=0.05, shift=2, flip=true"
    thieves = "extract(vgg, {}, epochs=10, learning_rate=0.05)"
    more = {"VGG": models("vgg", slow, range(220, 224)), "LeNet-5": models("lenet5", slow, range(240, 244))}
    return replace(
        _field(base, "field/cifar10", {name: text for name, text in columns().items() if _label_only(text)}),
        derived=(
            *base.derived,
            *(Derived(f"{answers}, other net", thieves.format(answers)) for answers in ("labels", "probabilities")),
        ),
        independents=dict(base.independents) | more,
    )


def _field(base: Suite, name: str, schemes: dict[str, str]) -> Suite:
    """The models of a paper's suite, judged by other schemes and without what is that paper's own."""
    budgets = {scheme: budget for scheme, budget in BUDGETS.items() if scheme in schemes}
    return replace(
        base, name=name, schemes=schemes, budgets=budgets, known=(), sweep={}, chosen="", paper={}, layout="field"
    )


def _victims(base: Suite) -> tuple[Recipe, ...]:
    """Five, the fewest of which an interval says anything."""
    return tuple(base.victims[0].with_seed(seed) for seed in range(10, 15))


def columns() -> dict[str, str]:
    """Every published scheme of the catalog, with the settings of the table.

    Integrity checks are left out: they tell every changed copy from the victim, and are right to.
    """
    made = {name: SETTINGS.get(name, name) for name in SCHEMES}
    return {name: text for name, text in made.items() if SCHEMES.make(text).purpose != "integrity"}


def _label_only(expression: str) -> bool:
    scheme = SCHEMES.make(expression)
    return scheme.needs_suspect.name == "LABELS" and not scheme.needs_pool and scheme.name != "cw-l2"


def _rows(same: str, other: str, *, epochs: int, extraction: int = 12) -> tuple[Derived, ...]:
    every = (*paper_rows(epochs=epochs), *beyond_rows(same, other, epochs=extraction))
    by_label = {row.label: Derived(row.label, row.removal) for row in every}
    return tuple(by_label[label] for label in ROWS)


def _shadows(net: str, settings: str, *, epochs: int) -> Shadows:
    """Two copies of each of four families, and nine nets of three architectures."""
    own = f"epochs={epochs}, part=calibration"
    return Shadows(
        derived=tuple(
            removal
            for seed in (8001, 8002)
            for removal in (
                f"fine_tune(all, {own}, learning_rate=0.01, seed={seed})",
                f"retrain(all, {own}, learning_rate=0.02, seed={seed + 10})",
                f"prune_weights(4/10, {own}, learning_rate=0.005, seed={seed + 20})",
                f"extract({net}, probabilities, epochs=10, part=calibration, seed={seed + 30})",
            )
        ),
        independent=(
            *models(net, settings, range(3000, 3006)),
            *models("vgg(width=8)", settings.replace("learning_rate=0.2", "learning_rate=0.1"), range(3010, 3012)),
            *models("lenet5", f"{settings.split(', learning_rate')[0]}, learning_rate=0.05", range(3020, 3021)),
        ),
    )
