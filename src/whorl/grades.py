"""On what a verdict rests, from weights that nobody can dress up to the owner's own word, and the sentence for it."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

__all__ = ["Grade", "Origin"]

Origin = Literal["owner", "judge", "design"]
"""Who chose a null: the owner of the fingerprint, a judge, or nobody, where the design of the test gives it."""


class Grade(StrEnum):
    """A weights; B a mark with drawn labels; C a judge's null or twins; D the owner's own null or twins.

    Only D does not resist a dishonest owner: it is for the owner's own eyes.
    """

    A = "A"
    B = "B"
    C = "C"
    D = "D"

    @staticmethod
    def of(origin: Origin) -> Grade:
        """The grade of a verdict by a null of this origin."""
        return {"owner": Grade.D, "judge": Grade.C, "design": Grade.B}[origin]

    @property
    def sentence(self) -> str:
        """Who chose the null, as verdicts and their pages say it."""
        return {
            Grade.A: "the evidence is in the weights, and the null is a symmetry of training, which nobody chose",
            Grade.B: "the null is given by the design of the test, which nobody chose",
            Grade.C: "the null was chosen by the judge",
            Grade.D: "the null was chosen by whoever made this fingerprint",
        }[self]

    def caveat(self, word: str) -> str:
        """The first caveat of a verdict.

        Parameters:
            word: what is to be believed where an owner chose the null, as in "its models were made without the victim".
        """
        rests = f": the error rate rests on their word that {word}" if self is Grade.D else ""
        return f"{self.sentence}{rests} (grade {self})"
