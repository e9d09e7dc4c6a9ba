"""All schemes in one table: the same victims, copies and independent models for everybody.

Victims, independent models and null learn from the same pictures with other seeds, so that nothing but descent tells
them apart; thieves have pictures of their own, and so have the shadow models that some schemes learn from.
"""

from __future__ import annotations

from dataclasses import replace

from whorl.bench.rows import beyond_rows, models, paper_rows
from whorl.bench.shadows import Shadows
from whorl.bench.suite import Derived, Suite
from whorl.schemes import SCHEMES

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
    """One victim on scikit-learn's digits: the whole table in minutes."""
    settings = "digits(size=16), epochs=12, batch=50"
    net = "resnet8(width=8)"
    return Suite(
        name="field/digits",
        about="scikit-learn's digits at 16 px; ResNet-8, width 8",
        data="digits(size=16)",
        victims=models(net, settings, range(10, 11)),
        derived=_rows(net, "vgg(width=8)", epochs=10),
        independents={
            "same architecture": models(net, settings, range(100, 104)),
            "VGG": models("vgg(width=8)", settings, range(110, 112)),
            "LeNet-5": models("lenet5", f"{settings}, learning_rate=0.05", range(120, 122)),
            "random forest": models("random_forest(trees=50)", "digits(size=16)", range(130, 132)),
        },
        null=models(net, settings, range(1000, 1019)),
        shadows=_shadows(net, settings, epochs=10),
        schemes=columns(),
        budgets=BUDGETS,
        alpha=0.05,
        layout="field",
    )


def textures() -> Suite:
    """Three victims on procedural textures: the table of the README."""
    data = "textures(size=16, images=4000, noise=0.1)"
    settings = f"{data}, epochs=10, learning_rate=0.2"
    slow = f"{data}, epochs=10, learning_rate=0.1"
    return Suite(
        name="field/textures",
        about="procedural textures at 16 px; ResNet-8",
        data=data,
        victims=models("resnet8", settings, range(10, 13)),
        derived=_rows("resnet8", "vgg", epochs=3, extraction=10),
        independents={
            "same architecture": models("resnet8", settings, range(200, 208)),
            "ResNet-14": models("resnet14(width=8)", settings, range(210, 212)),
            "VGG": models("vgg", slow, range(220, 224)),
            "MobileNet": models("mobilenet", slow, range(230, 232)),
            "LeNet-5": models("lenet5", f"{data}, epochs=10, learning_rate=0.05", range(240, 244)),
            "random forest": models("random_forest", data, range(250, 252)),
        },
        null=models("resnet8", settings, range(1000, 1019)),
        shadows=_shadows("resnet8", settings, epochs=3),
        schemes=columns(),
        budgets=BUDGETS,
        alpha=0.05,
        layout="field",
    )


def cifar10() -> Suite:
    """Label-only schemes on 20,000 real CIFAR-10 pictures: one victim, as two cores allow."""
    from whorl.bench.ipguard import cifar10_small

    small = cifar10_small()
    slow = f"{small.data}, epochs=10, learning_rate=0.05, shift=2, flip=true"
    thieves = "extract(vgg, {}, epochs=10, learning_rate=0.05)"
    return replace(
        small,
        name="field/cifar10",
        derived=(
            *small.derived,
            *(Derived(f"{answers}, other net", thieves.format(answers)) for answers in ("labels", "probabilities")),
        ),
        independents=dict(small.independents)
        | {"VGG": models("vgg", slow, range(220, 224)), "LeNet-5": models("lenet5", slow, range(240, 244))},
        schemes={name: scheme for name, scheme in columns().items() if _label_only(scheme)},
        budgets={name: budget for name, budget in BUDGETS.items() if _label_only(name)},
        paper={},
        layout="field",
    )


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
