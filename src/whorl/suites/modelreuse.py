"""ModelReuse: pre-train, transfer, then prune, quantise, distil and steal, over two nets and two target tasks.

Paper: Li et al., *ModelDiff: Testing-Based DNN Similarity Comparison for Model Reuse Detection*, ISSTA 2021; counts as
in QuRD's use of it (Godinot et al., AAAI 2025): 8 sources and 64 copies for each task. The victims are the transferred
models and those trained from nothing; a copy of one source is held against all sources of its task. Pairs that share
the pre-training and nothing else are ambiguous: QuRD drops them, here they are siblings, shown apart.

Changed from the paper: teachers are really copied (the authors' code loads the public weights again); the tiny tier
pre-trains on all ten textures and transfers to five of them at a time, with pictures of their own.
"""

from __future__ import annotations

from dataclasses import dataclass

from whorl.suites.sacbench import BUDGETS, SCHEMES
from whorl.suites.suite import Derived, Suite
from whorl.zoo.recipe import Recipe, parse_recipe

__all__ = ["cifar10", "paper", "tiny"]

SHARES = (0.1, 0.5, 1)


@dataclass(frozen=True)
class _Tier:
    """What differs between tiers. ``nets`` are the architectures with learning rates; ``bases`` their pre-training."""

    name: str
    about: str
    nets: dict[str, float]
    bases: dict[str, str]
    tasks: tuple[str, ...]
    settings: str
    transfer: int
    tune: int
    learn: int


def tiny() -> Suite:
    """Procedural textures at 16 px; MobileNet and ResNet-8: a quarter of an hour on two cores."""
    pictures = "textures(size=16, images=4000, noise=0.1)"
    own = "textures(size=16, images=3000, noise=0.1, seed=1)"
    nets = {"mobilenet": 0.1, "resnet8(width=8)": 0.2}
    return _suite(
        _Tier(
            name="modelreuse/tiny",
            about="procedural textures at 16 px: pre-training on ten, transfer to five; MobileNet and ResNet-8",
            nets=nets,
            bases={
                net: f"train({net}, {pictures}, epochs=10, learning_rate={rate}, seed=10)" for net, rate in nets.items()
            },
            tasks=(f"only({own}, classes=[0, 1, 2, 3, 4])", f"only({own}, classes=[5, 6, 7, 8, 9])"),
            settings="epochs=12",
            transfer=8,
            tune=3,
            learn=20,
        )
    )


def cifar10() -> Suite:
    """Real CIFAR-10 pictures: pre-training on all classes, transfer to animals and to vehicles and two animals."""
    nets = {"mobilenet": 0.05, "resnet20": 0.2}
    train = "epochs=30, shift=4, flip=true"
    return _suite(
        _Tier(
            name="modelreuse/cifar10",
            about="CIFAR-10 (JPEG re-encoding): pre-training on ten classes, transfer to five; MobileNet and ResNet-20",
            nets=nets,
            bases={
                net: f"train({net}, cifar10, part=calibration, {train}, learning_rate={rate}, seed=10)"
                for net, rate in nets.items()
            },
            tasks=("only(cifar10, classes=[2, 3, 4, 5, 6])", "only(cifar10, classes=[0, 1, 7, 8, 9])"),
            settings=train,
            transfer=15,
            tune=5,
            learn=30,
        )
    )


def paper() -> Suite:
    """The published nets and data: MobileNetV2 and ResNet-18 of the hub, Oxford Flowers 102 and Stanford Dogs 120."""
    nets = {"timm(name=mobilenetv2_100)": 0.01, "timm(name=resnet18)": 0.01}
    tasks = ('hf("dpdl-benchmark/oxford_flowers102", size=224)', 'hf("amaye15/stanford-dogs", size=224)')
    return _suite(
        _Tier(
            name="modelreuse/paper",
            about="Flowers 102 and Stanford Dogs 120 at 224 px; MobileNetV2 and ResNet-18 pre-trained on ImageNet",
            nets=nets,
            bases={net: f"pretrained({net}, data={tasks[0]})" for net in nets},
            tasks=tasks,
            settings="epochs=100, batch=64",
            transfer=30,
            tune=30,
            learn=100,
        )
    )


def _suite(tier: _Tier) -> Suite:
    # Nets alternate, so that a limited run has both.
    sources = tuple(source for task in tier.tasks for pair in _pairs(tier, task) for source in pair)
    fresh = [(task, net) for task in tier.tasks for net in tier.nets]
    others = tuple(_alone(tier, task, net, seed=40 + which) for which, (task, net) in enumerate(fresh))
    return Suite(
        name=tier.name,
        about=tier.about,
        data=tier.tasks[0],
        victims=sources,
        derived=_rows(tier),
        independents={"source": sources, "from nothing": others},
        schemes=SCHEMES,
        budgets=BUDGETS,
        alpha=0.05,
        layout="field",
        crossed=True,
        own_data=True,
    )


def _pairs(tier: _Tier, task: str) -> list[tuple[Recipe, ...]]:
    """The sources of a task, net by net for each way of making them."""
    return list(zip(*(_sources(tier, task, net) for net in tier.nets), strict=True))


def _sources(tier: _Tier, task: str, net: str) -> list[Recipe]:
    """One source transferred at each share of the layers, and one that learned the task from nothing."""
    base, which = parse_recipe(tier.bases[net]), len(tier.nets) * tier.tasks.index(task) + list(tier.nets).index(net)
    # A fifth of the rate that trains from nothing: with norms that stay as they were, more diverges.
    rate = tier.nets[net] / 5
    settings = f"epochs={tier.transfer}, learning_rate={rate}, part=victim"
    # No source shares a seed with another, which would resemble it for that.
    seeds = range(100 + 10 * which, 100 + 10 * which + len(SHARES))
    transferred = [
        base.then(f"transfer({task}, layers={share}, {settings}, seed={seed})")
        for share, seed in zip(SHARES, seeds, strict=True)
    ]
    return [*transferred, _alone(tier, task, net, seed=30 + which)]


def _alone(tier: _Tier, task: str, net: str, *, seed: int) -> Recipe:
    return parse_recipe(f"train({net}, {task}, {tier.settings}, learning_rate={tier.nets[net]}, seed={seed})")


def _rows(tier: _Tier) -> tuple[Derived, ...]:
    tune, learn = f"epochs={tier.tune}, seed=500", f"epochs={tier.learn}, seed=500"
    rates = {net: f"learning_rate={rate}" for net, rate in tier.nets.items()}
    first, second = tier.nets
    rows = [
        ("quantise", "int8", "quantise(int8)"),
        ("quantise", "fp16", "quantise(fp16)"),
        *(("prune", f"{p}/10", f"prune_weights({p}/10, {tune})") for p in (2, 5, 8)),
        ("distil", second, f"distil({second}, temperature=4.0, {rates[second]}, {learn})"),
        *(("steal", net, f"extract({net}, probabilities, {rates[net]}, {learn})") for net in (first, second)),
    ]
    return tuple(Derived(f"{group}, {which}", removal, group=group) for group, which, removal in rows)
