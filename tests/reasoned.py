"""A lineup whose victim may stand outside of its twins, which the chance of a few small nets would forbid else."""

from __future__ import annotations

from whorl.detection.lineup import outermost
from whorl.fingerprints.files import write_fingerprint
from whorl.fingerprints.secret import read_secret, secret_path
from whorl.fingerprints.terms import terms_of
from whorl.lineups.figures import with_reasons
from whorl.schemes.opening import read_fingerprint


def reasoned(made, secret, why="a case of tests"):
    """The fingerprint with a reason for every figure that sets its victim apart."""
    apart = outermost(terms_of(made.candidates, made.task).figures, secret.place)
    return with_reasons(made, secret, dict.fromkeys(apart, why))


def reason_in(path):
    """The same for a file, in place."""
    write_fingerprint(reasoned(read_fingerprint(path), read_secret(secret_path(path))), path)
