"""A claim and independent models, made once."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from disputes import ALPHA, DATA, OPENED, OTHER, RECIPE, SEED, SIZE, Dispute

from whorl.claims.documents import Claim, read_signed
from whorl.claims.making import make_claim
from whorl.zoo.cache import Zoo
from whorl.zoo.recipe import parse_recipe


@pytest.fixture(scope="session")
def case(tmp_path_factory):
    folder = tmp_path_factory.mktemp("claim")
    zoo, key = Zoo(folder / "zoo"), Ed25519PrivateKey.from_private_bytes(bytes(31) + b"K")
    victim = parse_recipe(RECIPE).with_seed(SEED)
    zoo.build([victim], workers=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("whorl.claims.making.secrets.token_bytes", lambda size: bytes(size - 1) + b"S")
        make_claim(
            zoo.oracle(victim),
            data=DATA,
            schemes=["akh", "igsm", "multipoint"],
            key=key,
            path=folder / "mine.claim",
            folder=folder / "secrets",
            size=SIZE,
            opened=OPENED,
            alpha=ALPHA,
            recipe=RECIPE,
            seed=SEED,
        )
    claim = read_signed(folder / "mine.claim", Claim, [key.public_key()])
    return Dispute(folder, key, claim, zoo)


@pytest.fixture(scope="session")
def strata(case):
    """Independent models of two kinds, which every judge here shares."""
    return {
        recipe: {f"{recipe} {seed}": case.net(str(parse_recipe(recipe).with_seed(seed))) for seed in range(900, 907)}
        for recipe in (RECIPE, OTHER)
    }
