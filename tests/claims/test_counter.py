"""What the other side shows: bound to the suspect, dated, and void where it does not hold for its own victim."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from disputes import ALPHA, DATA, drawn

from whorl.claims.counter import own_leaves_fault, read_artefact
from whorl.claims.documents import Claim, read_signed, write_signed
from whorl.claims.making import family_of, make_claim, read_secrets
from whorl.claims.opening import open_claim, read_opening
from whorl.errors import InvalidFile, UsageError
from whorl.oracles.wrappers import digests_of
from whorl.types import Representation


@pytest.fixture(scope="module")
def theirs(case, tmp_path_factory):
    """The suspect's holder claims the suspect, which was made from the victim."""
    folder, key = tmp_path_factory.mktemp("theirs"), Ed25519PrivateKey.from_private_bytes(bytes(31) + b"T")
    options = {"schemes": ["akh", "igsm", "multipoint"], "size": 20, "opened": 10, "alpha": ALPHA}
    make_claim(case.copy, data=DATA, key=key, path=folder / "claim", folder=folder / "secrets", **options)
    return folder, key


def test_an_artefact_names_the_suspect(case, theirs, tmp_path):
    folder, key = theirs
    suspect = digests_of(case.copy)
    found = read_artefact(folder / "claim", suspect, keys=[key.public_key()])
    assert found.stamp is None
    assert len(found.signers) == 1
    root = tmp_path / "training.log"
    root.write_text(json.dumps({"steps": 900, "weights": suspect[0]}))
    assert read_artefact(root, suspect).digest
    with pytest.raises(UsageError, match="does not name the suspect"):
        read_artefact(folder / "claim", digests_of(case.stranger))
    assert read_artefact(folder / "claim", ()).digest, "of an endpoint nobody sees the weights"
    for wrong in (root, folder / "claim"):
        with pytest.raises(InvalidFile):
            read_artefact(wrong, suspect, keys=[case.key.public_key()])
    with pytest.raises(UsageError, match="--tsa-root"):
        read_artefact(folder / "claim", suspect, token=root)


def opened_for(claim, secrets, key, victim, folder):
    digest = digests_of(victim)[0]
    open_claim(claim, secrets, drawn(claim.digest, digest), digest, key=key, folder=folder)
    return read_opening(folder, claim, [key.public_key()])


def test_a_claim_is_void_if_its_victim_fails_on_its_own_queries(case, theirs, tmp_path):
    folder, key = theirs
    claim, secrets = read_signed(folder / "claim", Claim, [key.public_key()]), read_secrets(folder / "secrets")
    honest = opened_for(claim, secrets, key, case.victim, tmp_path / "honest")
    assert own_leaves_fault(honest, case.copy) == ""
    invented = {
        name: replace(made, reference=Representation((made.reference.values + 1) % 10))
        for name, made in secrets.families.items()
    }
    forged = replace(secrets, families=invented)
    body = claim.body.model_copy(update={"families": {name: family_of(forged, name) for name in invented}})
    signed = write_signed(body, claim.victim, key, tmp_path / "forged")
    void = opened_for(signed, forged, key, case.victim, tmp_path / "void")
    assert "answers 0.0% of its own opened queries" in own_leaves_fault(void, case.copy)
