"""Unlearning: which distances tell a provider who forgot from one who pretends.

Some training pictures are withdrawn (`whorl.data.forgotten`). Whoever forgets exactly, by training anew without them
or by SISA (Bourtoule et al., IEEE S&P 2021), leaves a model that is independent of what was to be forgotten; whoever
pretends keeps the old model or a little changed one. So copies are the pretenders and approximations, and independent
models the exact retrainings. Distances are asked about the forgotten pictures (the part ``queries``), and about others.

An exact retraining with the seed of the original begins from the same weights; SISA also keeps the members whose
shards lost nothing. Both forgot, and both resemble the original more than a retraining from another seed.
"""

from __future__ import annotations

from whorl.suites.rows import models
from whorl.suites.suite import Derived, Suite

__all__ = ["cifar10", "paper", "tiny", "tiny_sisa"]

# On forgotten pictures, unless the name says otherwise.
SCHEMES = {
    "labels, forgotten": "random+labels+hamming",
    "scores, forgotten": "random+scores+cosine",
    "scores l2, forgotten": "random+scores+l2",
    "sac, forgotten": "random+sac+l1",
    "zest, forgotten": "test-random-subsample+lime+cosine(masks=20)",
    "labels, retained": "train-random+labels+hamming",
    "scores, retained": "train-random+scores+cosine",
    "zest, retained": "random-subsample+lime+cosine(masks=20)",
    "adversarial, forgotten": "test-adversarial+ddv+cosine",
    "ipguard": "ipguard(margin=7)",
    "akh": "akh",
}


def tiny() -> Suite:
    """Procedural textures at 16 px; ResNet-8: minutes on two cores."""
    return _tiny("unlearning/tiny", "resnet8(width=8)")


def tiny_sisa() -> Suite:
    """The same for ensembles of three (SISA): what is withdrawn lies in one shard, and one member is trained anew."""
    return _tiny("unlearning/tiny-sisa", "ensemble(member=resnet8(width=8), members=3)", shards=3)


def cifar10() -> Suite:
    """Real CIFAR-10 pictures; ResNet-20: for a GPU."""
    ways = "epochs=30, shift=4, flip=true, learning_rate=0.2"
    return _suite("unlearning/cifar10", "CIFAR-10 (JPEG re-encoding)", "cifar10", "resnet20", ways, tune=5)


def paper() -> Suite:
    """CIFAR-100 of the hub; WRN-22-4, in the length that papers train."""
    ways = "epochs=200, shift=4, flip=true, learning_rate=0.1"
    return _suite("unlearning/paper", "CIFAR-100 of the hub", 'hf("uoft-cs/cifar100")', "wrn22-4", ways, tune=10)


def _tiny(name: str, net: str, shards: int = 1) -> Suite:
    data = "textures(size=16, images=4000, noise=0.1)"
    ways = "epochs=10, learning_rate=0.2"
    return _suite(name, "procedural textures at 16 px", data, net, ways, tune=3, shards=shards)


def _suite(name: str, about: str, data: str, net: str, ways: str, *, tune: int, shards: int = 1) -> Suite:
    left = f"forget({data}, share=0.05, shards={shards})"
    return Suite(
        name=name,
        about=f"{about}; {net}; 5 % of the pictures to forget",
        data=left,
        victims=models(net, f"{data}, {ways}", range(10, 13)),
        derived=_pretenders(left, tune),
        independents={
            "retrained": models(net, f"{left}, {ways}", range(200, 220)),
            "retrained, seed of a victim": models(net, f"{left}, {ways}", range(10, 13)),
        },
        null=models(net, f"{left}, {ways}", range(1000, 1019)),
        schemes=SCHEMES,
        alpha=0.05,
        layout="field",
    )


def _pretenders(left: str, tune: int) -> tuple[Derived, ...]:
    ways = f"part=victim+queries, seed=500, epochs={tune}"
    rows = {
        "fake: nothing": f"unlearn({left}, method=nothing, {ways})",
        "fake: tuned on retained": f"unlearn({left}, method=fine-tune, {ways})",
        "fake: quantised": "quantise(int8)",
        "approximate: ascent": f"unlearn({left}, method=ascent, {ways})",
        "approximate: random labels": f"unlearn({left}, method=random-labels, {ways})",
        "approximate: distilled": f"unlearn({left}, method=distil, {ways})",
    }
    return tuple(Derived(label, removal) for label, removal in rows.items())
