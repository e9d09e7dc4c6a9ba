"""SACBench: fine-tuned, pruned, transferred and extracted copies against irrelevant models.

Paper: Guan, Liang, He, *Are You Stealing My Model? Sample Correlation for Fingerprinting Deep Neural Networks*,
NeurIPS 2022, section 4; counts of the authors' repository and of QuRD's use of it (Godinot et al., AAAI 2025).

The published benchmark has one victim, so nothing tells how much victims differ; here there are three, each with one
copy of every kind. Its corrupted data set is made from the test pictures, and the irrelevant models that learn from it
have seen what fingerprints ask; here they learn from corrupted training pictures. The suites called ``leaked`` have the
published leak, to measure it.
"""

from __future__ import annotations

from dataclasses import dataclass

from whorl.suites.rows import models
from whorl.suites.suite import Derived, Suite

__all__ = ["SCHEMES", "cifar10", "paper", "tiny", "tiny_leaked"]

# What can be asked of every suspect and extracted in seconds; QuRD's six are among them.
SCHEMES = {
    "random": "random",
    "akh": "akh",
    "ipguard": "ipguard(margin=7)",
    "modeldiff": "modeldiff",
    "sac-m": "sac-m",
    "sac": "train-negative-augment+sac+l2",
    "zest": "zest",
    "deepfool": "deepfool",
    "multipoint": "multipoint",
    "tafa": "tafa",
}
BUDGETS = {"zest": 20}  # each of its queries is 100 masked pictures


@dataclass(frozen=True)
class _Tier:
    """What differs between tiers: the data, the nets and how long everything trains.

    ``nets`` maps the architectures of irrelevant models and of thieves to their learning rates; the first is the
    victim's. ``settings`` completes a ``train``; ``classes`` are the task that copies are transferred to.
    """

    name: str
    about: str
    data: str
    nets: dict[str, float]
    settings: str
    tune: int
    extraction: int
    victims: int
    strangers: int
    repeats: int
    classes: str


def tiny() -> Suite:
    """Procedural textures at 16 px; VGG: ten minutes on two cores."""
    return _suite(_textures("sacbench/tiny"))


def tiny_leaked() -> Suite:
    """The same with irrelevant models that have seen, corrupted, the pictures that fingerprints ask."""
    return _suite(_textures("sacbench/tiny-leaked"), leak=True)


def cifar10() -> Suite:
    """Real CIFAR-10 pictures and nets for small pictures: for a GPU."""
    return _suite(
        _Tier(
            name="sacbench/cifar10",
            about="CIFAR-10 (JPEG re-encoding); VGG",
            data="cifar10",
            nets={"vgg(width=32)": 0.05, "resnet20": 0.2, "resnet8": 0.2, "mobilenet": 0.05},
            settings="epochs=30, shift=4, flip=true",
            tune=5,
            extraction=30,
            victims=3,
            strangers=5,
            repeats=1,
            classes="only(cifar10, classes=[0, 1, 2, 3, 4])",
        )
    )


def paper() -> Suite:
    """The published sizes: one VGG-16 with norms on CIFAR-10, five models of each kind, CIFAR-100 as the other task."""
    return _suite(
        _Tier(
            name="sacbench/paper",
            about="CIFAR-10 of the hub; VGG-16 with norms",
            data='hf("uoft-cs/cifar10")',
            nets={"vgg16": 0.05, "resnet(depth=20, width=64)": 0.1, "wrn": 0.1, "mobilenet(width=32)": 0.05},
            settings="epochs=100, shift=4, flip=true",
            tune=30,
            extraction=200,
            victims=1,
            strangers=5,
            repeats=5,
            classes='hf("uoft-cs/cifar100")',
        )
    )


def _textures(name: str) -> _Tier:
    data = "textures(size=16, images=4000, noise=0.1)"
    return _Tier(
        name=name,
        about="procedural textures at 16 px; VGG",
        data=data,
        nets={"vgg(width=8)": 0.1, "resnet8(width=8)": 0.2, "mobilenet": 0.1, "vgg": 0.1},
        settings="epochs=10",
        tune=3,
        extraction=20,
        victims=3,
        strangers=5,
        repeats=1,
        classes=f"only({data}, classes=[0, 1, 2, 3, 4])",
    )


def _suite(tier: _Tier, *, leak: bool = False) -> Suite:
    victim, rate = next(iter(tier.nets.items()))
    settings = f"{tier.data}, {tier.settings}, learning_rate="
    corrupted = f"corrupt({tier.data}), {tier.settings}, part={'queries+test' if leak else 'victim'}, learning_rate="
    irrelevant = {
        f"irrelevant, {net}": models(net, f"{settings}{pace}", _seeds(200 + 10 * place, tier.strangers))
        for place, (net, pace) in enumerate(tier.nets.items())
    }
    seen = {
        f"irrelevant, corrupted, {net}": models(net, f"{corrupted}{pace}", _seeds(300 + 10 * place, tier.strangers))
        for place, (net, pace) in enumerate(list(tier.nets.items())[:2])
    }
    return Suite(
        name=tier.name,
        about=tier.about + ("; the published leak" if leak else ""),
        data=tier.data,
        victims=models(victim, f"{settings}{rate}", range(10, 10 + tier.victims)),
        derived=tuple(row for repeat in range(tier.repeats) for row in _rows(tier, repeat)),
        independents=irrelevant | seen,
        null=models(victim, f"{settings}{rate}", range(1000, 1019)),
        schemes=SCHEMES,
        budgets=BUDGETS,
        alpha=0.05,
        layout="field",
    )


def _rows(tier: _Tier, repeat: int) -> list[Derived]:
    """One copy of every kind; further repeats have other seeds."""
    seed = f"seed={500 + repeat}"
    tune = f"epochs={tier.tune}, {seed}"
    mark = f" {repeat + 1}" if repeat else ""
    rows = [
        ("fine-tune", "last", f"fine_tune(last, {tune}, learning_rate=0.01)"),
        ("fine-tune", "all", f"fine_tune(all, {tune}, learning_rate=0.01)"),
        ("fine-prune", ".4", f"fine_prune(share=0.4, {tune})"),
        ("fine-prune", ".8", f"fine_prune(share=0.8, {tune})"),
        ("transfer", "corrupted", f"transfer(corrupt({tier.data}), {tune})"),
        ("transfer, classes", "all layers", f"transfer({tier.classes}, {tune})"),
    ]
    for net, rate in tier.nets.items():
        learn = f"epochs={tier.extraction}, learning_rate={rate}, {seed}"
        rows += [
            ("probit", net, f"distil({net}, temperature=20.0, {learn})"),
            ("label", net, f"extract({net}, labels, {learn})"),
            ("adv-label", net, f"extract_adversarial({net}, {learn}, iterations=10)"),
        ]
    return [Derived(f"{group}, {which}{mark}", removal, group=group) for group, which, removal in rows]


def _seeds(first: int, count: int) -> range:
    return range(first, first + count)
