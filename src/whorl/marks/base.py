"""What every watermark shares: what is fixed before the draw, what is drawn, and how a suspect is asked for it.

A watermark is a scheme whose reference was not answered by the victim but drawn, or chosen, and then embedded. The
order makes the null exact: the inputs (or projections) are fixed and committed to; labels (or bits) are drawn that
nobody could foresee; they are embedded. Whatever a suspect answers that knows nothing of the draw, it matches by chance
alone (`whorl.detection.design`).
"""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Mapping
from typing import ClassVar, Literal, cast, final

import torch
from torch import Tensor, nn

from whorl.attest.draw import Draw
from whorl.data.base import Dataset
from whorl.detection.design import Design
from whorl.errors import InvalidFile, UsageError
from whorl.layouts import Layout
from whorl.representations.labels import Labels
from whorl.representations.similarity import Hamming
from whorl.schemes.base import Purpose, Scheme
from whorl.storage import canonical_json, digest_tensors
from whorl.types import Access, Fingerprint, Mark, Queries, Representation

__all__ = ["DRAWN_AS", "UNMARKED", "Kind", "TriggerMark", "Watermark", "commitment_of"]

Kind = Literal["labels", "bits"]
DRAWN_AS = "mark"  # the name of the stream that labels and bits come from
UNMARKED = "model"  # the note of bits in weights that holds the digest of the model before it was marked


class Watermark(Scheme):
    """One way to mark a model. Subclasses are frozen dataclasses whose fields are the paper's symbols, spelled out.

    An author writes ``sample`` (what is fixed before the draw), ``embed``, and, beside what any scheme has, says
    whether labels or bits are drawn (``kind``) and whether the draw gives the null (``null``): where nothing is drawn,
    only models made without the mark can (`whorl calibrate`), whoever asks.
    """

    purpose: ClassVar[Purpose] = "mark"
    null: ClassVar[Literal["design", "population"]] = "design"
    kind: ClassVar[Kind] = "labels"
    needs_victim: ClassVar[Access] = Access.WEIGHTS
    part: ClassVar[str] = "victim"

    @abstractmethod
    def embed(
        self, net: nn.Module, data: Dataset, queries: Queries, drawn: Tensor, *, generator: torch.Generator
    ) -> nn.Module:
        """Train the mark into ``net``, which is changed and returned; ``data`` is what it learned its task from.

        Shape:
            drawn: ``[n]`` int64, one label or bit for each query.
        """

    def choices(self, queries: Queries, classes: int) -> int:
        """From how many values each is drawn."""
        del queries
        return 2 if self.kind == "bits" else classes

    def chosen(self, queries: Queries) -> Tensor:
        """What is embedded where nothing is drawn, ``[n]`` int64: the companion ``chosen`` of such marks."""
        return queries.companions["chosen"]

    def reference(self, queries: Queries, drawn: Tensor) -> Representation:
        """What a marked model answers."""
        del queries
        return Representation(drawn)

    @final
    def design(self, fingerprint: Fingerprint) -> Design | None:
        """The design that the fingerprint's labels or bits were drawn by; None where none were.

        Raises:
            InvalidFile: the mark is not what its scheme draws, or the transcript of its draw breaks a promise.
        """
        if (mark := fingerprint.mark) is None or self.null == "population":
            return None
        drawn = mark.drawn
        if not len(drawn):
            raise UsageError(f"the {self.kind} of this mark were not drawn yet; draw and embed them: whorl mark --from")
        expected = self.reference(fingerprint.queries, drawn).values if len(drawn) == len(fingerprint.queries) else None
        if mark.kind != self.kind or expected is None or not torch.equal(expected, fingerprint.reference.values):
            raise InvalidFile(f"the {self.kind} of this mark are not those that its reference holds; it was not drawn")
        return Design(
            tuple(drawn.tolist()),
            self.choices(fingerprint.queries, fingerprint.classes),
            draws=_draws(mark),
            proof=Draw.read(mark.draw["transcript"]) if "transcript" in mark.draw else None,
            claim=commitment_of(fingerprint),
            name=DRAWN_AS,
            kind=self.kind,
        )


class TriggerMark(Watermark, Labels, Hamming):
    """A mark that shows in the labels of trigger inputs. An author writes ``sample`` and ``embed``.

    Triggers that are learned by heart beside the task are `whorl.marks.learning.LearnedTriggers`.

    Where a label must differ from a class that was fixed before the draw, the queries have a companion ``avoid``
    ``[n]``: the label is drawn from the other classes.
    """

    tensors: ClassVar[Mapping[str, Layout]] = {
        "inputs": Layout("n *input", "input"),
        "companions/avoid": Layout("n", "int64", 0, "k", optional=True),
    }

    def choices(self, queries: Queries, classes: int) -> int:
        """The classes, without the one to avoid."""
        return classes - ("avoid" in queries.companions)

    def reference(self, queries: Queries, drawn: Tensor) -> Representation:
        """The drawn labels as classes: those from the class to avoid on are one higher."""
        avoid = queries.companions.get("avoid")
        return Representation(drawn if avoid is None else drawn + (drawn >= avoid).long())


def commitment_of(fingerprint: Fingerprint) -> str:
    """SHA-256, in hexadecimal, of all that was fixed before the draw; what a draw has to be for.

    It is that of ``"whorl/mark/v1"`` and the canonical JSON (RFC 8785) of the scheme's expression, the input space,
    task and classes, the digest of all tensors of the queries (`whorl.storage.digest_tensors`), and their notes, of
    which `UNMARKED` names the weights that units of a suspect may be put in the order of (`whorl.marks.aligning`).
    """
    queries = fingerprint.queries
    tensors = {"inputs": queries.inputs}
    tensors |= {f"companions/{name}": values for name, values in queries.companions.items()}
    tensors |= {f"shared/{name}": values for name, values in queries.shared.items()}
    document = {
        "scheme": fingerprint.scheme,
        "space": fingerprint.space.expression,
        "task": fingerprint.task,
        "classes": fingerprint.classes,
        "queries": digest_tensors(tensors),
        "notes": dict(queries.notes),
    }
    return hashlib.sha256(b"whorl/mark/v1" + canonical_json(document)).hexdigest()


def _draws(mark: Mark) -> int:
    draws = cast(object, mark.draw.get("draws", 1))
    if type(draws) is not int or not 1 <= draws <= 1 << 32:
        raise InvalidFile("a mark was drawn at least once, and its file says another number")
    return draws
