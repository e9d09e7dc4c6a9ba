"""One owner with a claim, a draw with a judge, and nets to suspect: perceptrons on digits."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from whorl.attest.draw import Draw, commitment
from whorl.claims.documents import Claim, Signed, read_signed
from whorl.claims.making import make_claim, read_secrets
from whorl.claims.opening import dispute, open_claim, read_opening
from whorl.oracles.wrappers import digests_of
from whorl.zoo.cache import Zoo
from whorl.zoo.recipe import parse_recipe

DATA = "digits(size=8)"
RECIPE = f"train(mlp(width=48), {DATA}, epochs=15, learning_rate=0.05)"
OTHER = f"train(mlp(width=24), {DATA}, epochs=15, learning_rate=0.05)"
SEED = 2**62 + 11
SIZE, OPENED, ALPHA = 60, 40, 0.2
JUDGE = bytes(31) + b"J"  # the judge's number in every draw here


def drawn(claim: str, suspect: str) -> Draw:
    """A finished draw of two honest parties, whose nonces are always the same, so that tests are."""
    purpose, judge, owner = dispute(claim, suspect), JUDGE, bytes(31) + b"O"
    return Draw(
        purpose,
        (
            ("judge", "commits", commitment("judge", purpose, judge)),
            ("owner", "commits", commitment("owner", purpose, owner)),
            ("owner", "reveals", owner.hex()),
            ("judge", "reveals", judge.hex()),
        ),
    )


@dataclass(frozen=True)
class Dispute:
    """Everything that an owner has, and nets to suspect."""

    folder: Path
    key: Ed25519PrivateKey
    claim: Signed[Claim]
    zoo: Zoo

    @property
    def secrets(self):
        return read_secrets(self.folder / "secrets")

    def net(self, recipe):
        self.zoo.build([parse_recipe(recipe)], workers=1)
        return self.zoo.oracle(parse_recipe(recipe))

    @property
    def victim(self):
        return self.net(str(parse_recipe(RECIPE).with_seed(SEED)))

    @property
    def copy(self):
        return self.net(f"{parse_recipe(RECIPE).with_seed(SEED)} -> fine_tune(all, epochs=3)")

    @property
    def stranger(self):
        return self.net(str(parse_recipe(RECIPE).with_seed(77)))

    def opened(self, suspect, folder, **options):
        """An opening for a suspect, verified."""
        digest = digests_of(suspect)[0]
        draw = drawn(self.claim.digest, digest)
        open_claim(self.claim, self.secrets, draw, digest, key=self.key, folder=folder, **options)
        return read_opening(folder, self.claim, [self.key.public_key()])


def begin(folder):
    """A claim of a trained victim, the same each time, with everything that opens it."""
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
