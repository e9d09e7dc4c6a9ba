"""Only the secret that was made with a lineup opens it."""

import stat
from dataclasses import replace

import pytest
from a_fingerprint import fingerprint

from whorl.errors import InvalidFile, UsageError
from whorl.fingerprints.secret import Secret, commit, read_secret, write_secret
from whorl.storage import write_json


def test_a_secret_opens_its_lineup_and_no_other(tmp_path):
    secret = commit(1)
    lineup = replace(fingerprint().candidates, commitment=secret.commitment)
    write_secret(secret, tmp_path / "s")
    assert stat.S_IMODE((tmp_path / "s").stat().st_mode) == 0o600
    assert read_secret(tmp_path / "s").open(lineup) == 1
    for wrong in (commit(1), replace(secret, place=0), replace(secret, place=2)):
        with pytest.raises(UsageError, match="does not open"):
            wrong.open(lineup)


def test_the_commitment_says_nothing_without_the_salt():
    assert commit(0).commitment != commit(0).commitment
    assert Secret("00" * 32, 0).commitment != Secret("00" * 32, 1).commitment


@pytest.mark.parametrize(
    "document", [{}, [], {"format": 1, "salt": "0", "victim": 0}, {"format": 1, "salt": "00" * 32}]
)
def test_other_files_hold_no_secret(tmp_path, document):
    write_json(tmp_path / "s", document)
    with pytest.raises(InvalidFile, match="no secret"):
        read_secret(tmp_path / "s")
