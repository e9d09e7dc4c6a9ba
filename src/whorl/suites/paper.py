"""The three tables of the IPGuard paper at its sizes: ResNet-20, WRN-22-4 and ResNet-50 (Cao, Jia, Gong, AsiaCCS 2021).

Architectures, pruning steps and the figures beside ours are the paper's, from the authors' slides. Not published, and
so ours: epochs and learning rates; k, where its curve has no numbers (10 and 100 are what others use), and the hundred
queries; how many negatives are trained (its intervals suggest ten); which pictures a thief has. The owner trains on the
parts ``victim`` and ``calibration``, 55 of each 90 training pictures, so that thieves and queries have pictures of
their own; accuracies may be lower for that. On ImageNet nobody trains from nothing: the models are timm's, and the
50,000 pictures are those of the validation set, from which none of them learned.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Final

from whorl.suites import ipguard
from whorl.suites.rows import known_rows, models, paper_rows
from whorl.suites.suite import Suite
from whorl.zoo.recipe import Recipe, parse_recipe

__all__ = ["IMAGENET", "NULL", "ZOO", "cifar10", "cifar100", "downloaded", "imagenet"]

IMAGENET: Final = 'hf("mrm8488/ImageNet1K-val", size=224)'
"""Where the environment variable WHORL_IMAGENET names no other source: the 50,000 pictures and the classes' order."""

ZOO: Final[Mapping[str, str]] = {
    "VGG-16": "vgg16.tv_in1k",
    "ResNet-152": "resnet152.tv_in1k",
    # timm's 152 v2 is twice as wide and learned from ImageNet-21k.
    "ResNet-152 v2 (here 101 v2)": "resnetv2_101.a1h_in1k",
    "Inception v3": "inception_v3.tf_in1k",
    "Inception-ResNet v2": "inception_resnet_v2.tf_in1k",
    "Xception": "legacy_xception.tf_in1k",
    "MobileNet": "mobilenetv1_100.ra4_e3600_r224_in1k",
    "MobileNet v2": "mobilenetv2_140.ra_in1k",
    "DenseNet-201": "densenet201.tv_in1k",
    "NASNet-Large": "nasnetalarge.tf_in1k",
}
"""Group label to timm's name of the nearest it has to the paper's, most of which are those of Keras."""

# Every other ResNet-50 of timm with ImageNet's classes, each from a training of its own; two have another stem, without
# which there would be fewer than the 19 that alpha .05 needs.
_TAGS = ("a1", "a1h", "a2", "a3", "am", "b1k", "b2k", "bt", "c1", "c2", "d", "gluon", "ra", "ram", "tv2")
NULL: Final = (
    *(f"resnet50.{tag}_in1k" for tag in _TAGS),
    *("resnet50.fb_ssl_yfcc100m_ft_in1k", "resnet50.fb_swsl_ig1b_ft_in1k"),
    *("resnet50c.gluon_in1k", "resnet50s.gluon_in1k"),
)


def cifar10() -> Suite:
    """ResNet-20 on CIFAR-10: the paper's first table."""
    return _trained(
        "ipguard/paper-cifar10",
        'hf("uoft-cs/cifar10")',
        about="CIFAR-10; ResNet-20",
        victim="resnet20",
        rate=0.2,
        margin=10,
        paper={{"VGG": "VGG-16"}.get(row, row): figures for row, figures in ipguard.PAPER.items()},
        accuracy=_accuracy(
            ".91 .92 .92 .92 .92",
            ".91 .91 .90 .90",
            ".91 .91 .91 .90 .89 .89 .88",
            {"same architecture": "[.91, .92]", "LeNet-5": "[.64, .67]", "VGG-16": "[.93, .94]"}
            | {"random forest": "[.40, .41]"},
        ),
    )


def cifar100() -> Suite:
    """WRN-22-4 on CIFAR-100: the paper's second table, of whose matching rates no figures are published as text."""
    return _trained(
        "ipguard/paper-cifar100",
        'hf("uoft-cs/cifar100")',
        about="CIFAR-100; WRN-22-4",
        victim="wrn22-4",
        rate=0.1,
        margin=100,
        paper=_seconds("4.6", "15.6", "30644.6", "249.9"),
        accuracy=_accuracy(
            ".75 .75 .75 .75 .75",
            ".74 .75 .74 .74 .73",
            ".75 .74 .74 .73 .73",
            {"same architecture": "[.74, .76]", "LeNet-5": "[.31, .34]", "VGG-16": "[.68, .70]"}
            | {"random forest": "[.15, .16]"},
        ),
    )


def imagenet() -> Suite:
    """ResNet-50 on ImageNet: the paper's third table, against the pre-trained nets of timm."""
    data = os.environ.get("WHORL_IMAGENET") or IMAGENET
    return downloaded(
        "ipguard/paper-imagenet",
        data,
        victim=_of_timm(["resnet50.tv_in1k"], data),
        zoo={group: _of_timm([name], data) for group, name in ZOO.items()},
        null=_of_timm(NULL, data),
    )


def _of_timm(names: Iterable[str], data: str) -> tuple[Recipe, ...]:
    return tuple(parse_recipe(f"pretrained(timm(name={name}), data={data})") for name in names)


def downloaded(
    name: str, data: str, *, victim: tuple[Recipe, ...], zoo: Mapping[str, tuple[Recipe, ...]], null: tuple[Recipe, ...]
) -> Suite:
    """The third table for any victims that are not trained here, with the negatives of ``zoo`` by group label."""
    accuracy = _accuracy(
        ".75 .75 .76 .72 .72",
        ".75 .75 .75 .73 .72",
        ".73 .73 .72",
        dict(zip(ZOO, (".71", ".77", ".78", ".78", ".80", ".79", ".70", ".75", ".77", ".83"), strict=True)),
    )
    return Suite(
        name=name,
        about="validation pictures of ImageNet at 224 px; ResNet-50 and other pre-trained nets of timm",
        data=data,
        victims=victim,
        derived=tuple(row for row in paper_rows(epochs=1, slower=10) if row.label in accuracy),
        independents=zoo,
        null=null,
        known=known_rows(epochs=1, slower=10),
        schemes=_schemes(100),
        paper=_seconds("11.6", "47.9", "121955.7", "7634.3"),
        paper_accuracy=accuracy,
    )


def _trained(
    name: str,
    data: str,
    *,
    about: str,
    victim: str,
    rate: float,
    margin: float,
    paper: Mapping[str, Mapping[str, str]],
    accuracy: Mapping[str, str],
) -> Suite:
    """A table whose models are trained here, all on the same pictures with other seeds, as in the paper."""
    part = "part=victim+calibration"
    settings = f"{data}, {part}, epochs=100, shift=4, flip=true, learning_rate="
    return Suite(
        name=name,
        about=about,
        data=data,
        victims=models(victim, f"{settings}{rate}", range(10, 11)),
        derived=tuple(row for row in paper_rows(epochs=10) if row.label in accuracy),
        independents={
            "same architecture": models(victim, f"{settings}{rate}", range(200, 210)),
            "VGG-16": models("vgg16", f"{settings}0.05", range(220, 230)),
            "LeNet-5": models("lenet5", f"{settings}0.05", range(240, 250)),
            "random forest": models("random_forest", f"{data}, {part}", range(250, 260)),
        },
        null=models(victim, f"{settings}{rate}", range(1000, 1019)),
        known=known_rows(epochs=10),
        schemes=_schemes(margin),
        paper=paper,
        paper_accuracy=accuracy,
    )


def _accuracy(tuned: str, weights: str, filters: str, negatives: Mapping[str, str]) -> dict[str, str]:
    """Row or group label to the paper's accuracy.

    The lists hold the victim and the four tuned copies, weights pruned by tenths and filters by sixteenths, as far as
    the paper goes: until about .03 of accuracy is lost. The suites have the rows that are named here.
    """
    found = dict(zip(("victim", "FTLL", "FTAL", "RTLL", "RTAL"), tuned.split(), strict=True))
    found |= {f"WP p=.{p}": figure for p, figure in enumerate(weights.split(), 1)}
    found |= {f"FP c={c}/16": figure for c, figure in enumerate(filters.split(), 1)}
    return found | dict(negatives)


def _schemes(margin: float) -> dict[str, str]:
    """The paper's five columns, and IPGuard with its other start and target."""
    return {
        "random": "random",
        "fgsm": "fgsm",
        "igsm": "igsm",
        "cw-l2": f"cw-l2(margin={margin}, searches=9, iterations=1000)",
        "ipguard": f"ipguard(margin={margin})",
        "ipguard, from noise": f"ipguard(margin={margin}, start=noise, target=random)",
    }


def _seconds(fgsm: str, igsm: str, cw_l2: str, boundary: str) -> Mapping[str, Mapping[str, str]]:
    figures = {"random": "< 1", "fgsm": fgsm, "igsm": igsm, "cw-l2": cw_l2, "ipguard": boundary}
    return {"extraction seconds": figures}
