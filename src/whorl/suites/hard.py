"""A benchmark that is meant to be hard: many victims, negatives that resemble them, and attacks that adapt.

What older benchmarks lack (QuRD, section 5; Godinot et al., AAAI 2025): independent models are told from copies by
their accuracy alone, the victims are few, and fine-tuning, quantisation and pruning saturate. Here

- every victim was transferred from one public model, and so were its hardest negatives (siblings), some on the same
  pictures and some on pictures of their own; the null consists of siblings too, so that a common ancestor convicts
  nobody;
- negatives of the victim's architecture learn from the same pictures until they are as accurate; some are robust;
- copies were extracted, merged, hardened, scrambled and defended, besides what the older benchmarks do.

`whorl bench quality` shows how far copies and independent models overlap in accuracy and answers.
"""

from __future__ import annotations

from dataclasses import dataclass

from whorl.suites.rows import models
from whorl.suites.suite import Derived, Suite
from whorl.zoo.recipe import Recipe, parse_recipe

__all__ = ["cifar10", "paper", "tiny"]

# Everything that asks no more than gradients of the victim and takes no shadow models.
SCHEMES = {
    "random": "random",
    "akh": "akh",
    "ipguard": "ipguard(margin=7)",
    "deepfool": "deepfool",
    "multipoint": "multipoint",
    "adv-tra": "adv-tra",
    "afa": "afa",
    "tafa": "tafa",
    "modeldiff": "modeldiff",
    "sac-m": "sac-m",
    "sac": "train-negative-augment+sac+l2",
    "zest": "zest",
}
BUDGETS = {"zest": 20}  # each of its queries is 100 masked pictures


@dataclass(frozen=True)
class _Tier:
    """What differs between tiers: data, nets with learning rates (the victim's first), and lengths of training.

    ``public`` are the pictures that everybody's public model learned from, and that thieves ask about.
    """

    name: str
    about: str
    data: str
    public: str
    nets: dict[str, float]
    settings: str
    transfer: int
    tune: int
    extraction: int
    budget: int


def tiny() -> Suite:
    """Procedural textures at 16 px; ResNet-8: an hour on two cores."""
    return _suite(
        _Tier(
            name="hard/tiny",
            about="procedural textures at 16 px; ResNet-8",
            data="textures(size=16, images=4000, noise=0.1)",
            public="textures(size=16, images=4000, noise=0.2, seed=5)",
            nets={"resnet8(width=8)": 0.2, "vgg(width=8)": 0.1, "vgg": 0.1},
            settings="epochs=10",
            transfer=8,
            tune=3,
            extraction=12,
            budget=3000,
        )
    )


def cifar10() -> Suite:
    """Real CIFAR-10 pictures, the public model from corrupted ones; ResNet-20: for a GPU."""
    return _suite(_pictures("hard/cifar10", "CIFAR-10 (JPEG re-encoding); ResNet-20", "cifar10", "resnet20"))


def paper() -> Suite:
    """CIFAR-100 of the hub; WRN-22-4."""
    return _suite(_pictures("hard/paper", "CIFAR-100 of the hub; WRN-22-4", 'hf("uoft-cs/cifar100")', "wrn22-4"))


def _pictures(name: str, about: str, data: str, net: str) -> _Tier:
    return _Tier(
        name=name,
        about=about,
        data=data,
        public=f"corrupt({data})",
        nets={net: 0.1, "vgg(width=32)": 0.05, "vgg16": 0.05},
        settings="epochs=60, shift=4, flip=true",
        transfer=20,
        tune=5,
        extraction=60,
        budget=12000,
    )


def _suite(tier: _Tier) -> Suite:
    net, rate = next(iter(tier.nets.items()))
    alone = f"{tier.settings}, learning_rate="
    return Suite(
        name=tier.name,
        about=f"{tier.about}; five victims, all from one public model",
        data=tier.data,
        victims=_siblings(tier, range(10, 15)),
        derived=_attacks(tier),
        independents={
            "sibling, same pictures": _siblings(tier, range(200, 207)),
            "sibling, other pictures": _siblings(tier, range(210, 213), part="calibration"),
            "same net, same pictures": models(net, f"{tier.data}, {alone}{rate}", range(220, 224)),
            "same net, other pictures": models(net, f"{tier.data}, part=calibration, {alone}{rate}", range(230, 232)),
            **{
                f"{other}, same pictures": models(other, f"{tier.data}, {alone}{pace}", range(240 + place, 242 + place))
                for place, (other, pace) in zip((0, 10), list(tier.nets.items())[1:], strict=True)
            },
            "robust, same pictures": tuple(
                recipe.then(f"adversarial_train(pgd, epochs={tier.tune}, part=victim, seed=500)")
                for recipe in models(net, f"{tier.data}, {alone}{rate}", range(260, 262))
            ),
        },
        null=_siblings(tier, range(1000, 1019)),
        schemes=SCHEMES,
        budgets=BUDGETS,
        alpha=0.05,
        layout="field",
        siblings="independent",
    )


def _siblings(tier: _Tier, seeds: range, part: str = "victim") -> tuple[Recipe, ...]:
    """Models transferred from the public one, each with an order of pictures of its own."""
    net, rate = next(iter(tier.nets.items()))
    base = parse_recipe(f"train({net}, {tier.public}, {tier.settings}, learning_rate={rate}, seed=1)")
    step = f"transfer({tier.data}, epochs={tier.transfer}, learning_rate={rate / 2}, part={part}"
    return tuple(base.then(f"{step}, seed={seed})") for seed in seeds)


def _attacks(tier: _Tier) -> tuple[Derived, ...]:
    return tuple(
        Derived(label, removal)
        for label, removal in (_weights(tier) | _boundaries(tier) | _thieves(tier) | _served()).items()
    )


def _weights(tier: _Tier) -> dict[str, str]:
    """What changes the weights of a copy and means no more than that."""
    tune = f"epochs={tier.tune}, seed=500"
    merges = ("linear", "task-arithmetic", "ties", "dare")
    return {
        "FTAL": f"fine_tune(all, {tune}, learning_rate=0.01)",
        "RTAL": f"retrain(all, {tune}, learning_rate=0.02)",
        "weights pruned": f"prune_weights(6/10, {tune}, learning_rate=0.005)",
        "filters pruned": f"prune_filters(4/16, {tune}, learning_rate=0.01)",
        "fine-pruned": f"fine_prune(share=0.5, {tune})",
        "int4": "quantise(int4)",
        "re-parametrised": "reparametrise",
        "weights shifted": f"shift_weights({tune})",
        "regularised": f"regularise({tune})",
        "labels smoothed": f"smooth_labels({tune})",
        "LoRA": f"lora(rank=4, {tune})",
        **{f"merged, {method}": f"merge({method}, {tune})" for method in merges},
    }


def _boundaries(tier: _Tier) -> dict[str, str]:
    """What moves the decision boundary on purpose."""
    tune = f"epochs={tier.tune}, seed=500"
    return {
        "PGD training": f"adversarial_train(pgd, {tune})",
        "TRADES": f"adversarial_train(trades, {tune})",
        "RemovalNet": "removal_net(seed=500)",
        "boundary randomised": "randomise_boundary(seed=500)",
        "boundary scrambled": "scramble_boundary(seed=500)",
    }


def _thieves(tier: _Tier) -> dict[str, str]:
    """What only asks. Seeds of their own: no thief starts from a victim's weights."""
    (same, pace), (other, slow), *_ = tier.nets.items()
    learn = f"epochs={tier.extraction}, seed=500"
    own, strange = f"{learn}, learning_rate={pace}", f"{learn}, learning_rate={slow}"
    asked = f"budget={tier.budget}, {own}"
    return {
        "labels, same net": f"extract({same}, labels, {own})",
        "probabilities, other net": f"extract({other}, probabilities, {strange})",
        "distilled": f"distil({other}, temperature=4.0, {strange})",
        "labels, hardened": f"extract_adversarial({same}, {own}, iterations=7)",
        "ensemble of three": f"extract(ensemble(member={same}, members=3), probabilities, {own})",
        "knockoff, random": f"knockoff({same}, pool={tier.public}, {asked})",
        "knockoff, adaptive": f"knockoff({same}, pool={tier.public}, policy=adaptive, {asked})",
        "Jacobian": f"jacobian({same}, seeds=300, rounds=4, {own})",
        "active": f"active({same}, pool={tier.public}, {asked})",
    }


def _served() -> dict[str, str]:
    """What treats questions and answers of the unchanged model."""
    return {
        "blurred inputs": "filter_inputs(blur)",
        "JPEG inputs": "filter_inputs(jpeg)",
        "four bits": "filter_inputs(levels)",
        "smoothed": "smooth(seed=500)",
        "autoencoded inputs": "autoencode(seed=500)",
        "labels only": "answer_labels",
        "rounded": "answer_rounded(decimals=1)",
        "reverse sigmoid": "answer_reverse_sigmoid",
        "poisoned": "answer_poisoned(seed=500)",
        "misinformed": "misinform(seed=500)",
        "queries detected": "detect_queries(seed=500)",
    }
