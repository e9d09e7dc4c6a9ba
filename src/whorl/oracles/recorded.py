"""Answers kept on disk, so that what an interrupted verification paid for is not asked twice.

An address says nothing of the model behind it. So answers belong to a session (`whorl.oracles.record`), a finished
session is used again only on demand, and before old answers and new ones are mixed some of the old are asked again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import Tensor

from whorl.errors import OracleError, UsageError
from whorl.oracles.base import Chunk, Oracle
from whorl.oracles.record import Record
from whorl.oracles.wrappers import Wrapper
from whorl.types import Access

__all__ = ["SENTINELS", "Recorded"]

SENTINELS: Final = 8
"""Recorded answers that are asked again, at most, before others are taken for the same model's."""

TOLERANCE: Final = 0.01
"""How far a real-valued answer may move between two runs, as a share of the largest recorded one that is asked again.

A served model computes in whatever batches and precision its host chooses; bfloat16 rounds by up to 1/256 a step.
"""


class Recorded(Wrapper):
    """Replays what was answered in the same session of the file ``path``, and asks ``inner`` about the rest.

    An answer is found by the SHA-256 of the model's digest, its treatment by wrappers, its access and the input's
    float32 bytes. Inputs that occur twice in one call are asked once. ``inner.queries_spent`` counts what was really
    asked, sentinels included, ``replayed`` what was answered before this oracle was made, ``queries_spent`` every
    answer that was given.

    An unfinished session is gone on with. Before the first of its answers is given, up to `SENTINELS` of them, drawn
    by the session's name, are asked again: labels must be equal, other answers within `TOLERANCE`. With ``replay`` the
    same is done before the first new question, if there is any.

    Parameters:
        purpose: what is asked for, such as the id of a fingerprint; only sessions of this purpose are looked at.
        rule: how the answers are judged; an unfinished session goes on under its own rule only.
        replay: take the answers of the latest finished session of this purpose, and ask only what it lacks.

    Raises:
        UsageError: the file cannot be made at ``path``, ``inner`` has no digest to know it by, or there is no finished
            session to replay.
        InvalidFile: the file is no such record, is of an earlier layout, of another model or access, or is damaged.
        OracleError: another process holds the file, it cannot be written, or (when asked) an answer that was asked
            again differs from the recorded one.
    """

    def __init__(
        self, inner: Oracle, path: Path | str, *, purpose: str = "", rule: str = "", replay: bool = False
    ) -> None:
        if not inner.digest:
            raise UsageError(f"{inner.name} has no digest, so its answers cannot be told from another model's")
        super().__init__(inner, access=min(inner.access, Access.LOGITS))
        self.path = Path(path)
        owner = {
            "access": self.access.name,
            "classes": str(inner.classes),
            "input shape": str(list(inner.space.shape)),
            "model": inner.digest,
            "treatment": self.treatment,
        }
        self._salt = hashlib.sha256("\0".join(owner.values()).encode()).digest()
        self._replay = replay
        if replay and not self.path.is_file():  # or the file would be made in vain
            raise self._nothing_finished()
        self._record = Record(self.path, owner, longest=8 * self.classes)
        try:
            if not replay:
                self._record.resume(purpose, rule)
            elif not self._record.reopen(purpose):
                raise self._nothing_finished()
        except BaseException:
            self._record.close()
            raise
        self._asked: set[bytes] = set()  # since this oracle was made, so no replay
        self._generator = torch.Generator().manual_seed(int(self._record.session[:15], 16))
        self._drawn: set[bytes] = set()
        self._due: list[tuple[Tensor, Tensor]] = []  # inputs to ask again, each with its recorded answer

    def confirm(self, inputs: Tensor) -> None:
        """Ask the model again about inputs that it answered, and stop where it is another one by now.

        One that does not answer alike twice in a row either is the same for all that anybody can tell, and counts as
        ``unsteady``. What was never recorded is left out.
        """
        found = self._record.read(list(keys := dict(zip(self._keys(inputs), inputs, strict=True))))
        if not found or not self._asked:  # where all came from the record, nobody was asked who may have changed
            return
        asked = torch.stack([keys[key] for key in found])
        recorded = torch.stack([self._decode(answer) for answer, _ in found.values()])
        answers = self.inner.answers(asked)
        if not (differs := self._differ(answers, recorded)):
            self.replayed.sentinels += len(asked)
            return
        if self._differ(self.inner.answers(asked), answers):
            self.replayed.unsteady += differs
            return
        raise OracleError(
            f"{differs} of {len(asked)} questions that {self.name} answered before are answered otherwise now: it is "
            "another model than the one that was asked, or answers at random. Nothing was decided; ask it anew when it "
            "stays the same"
        )

    def finish(self) -> None:
        """Say that the session has led to what it was for: from now on it is asked anew unless ``replay`` is set."""
        self._record.finish()

    def close(self) -> None:
        """Close the file and let other processes have it. Everything that arrived is on disk already."""
        self._record.close()

    def _stream(self, inputs: Tensor) -> Iterator[Chunk]:
        places: dict[bytes, list[int]] = {}
        for position, key in enumerate(self._keys(inputs)):
            places.setdefault(key, []).append(position)
        found = self._record.read(list(places))
        known = {key: self._decode(answer) for key, (answer, _) in found.items()}
        old = sorted(known.keys() - self._asked)
        drawn = self._draw([key for key in old if key not in self._drawn])
        self._due += [(inputs[places[key][0]], known[key]) for key in drawn]
        unknown = [key for key in places if key not in known]
        if self._due and (unknown or self._asked or not self._replay):
            self._compare()
        if known:
            for key in old:
                self.replayed.given[found[key][1]] += len(places[key])
            yield _spread([places[key] for key in known], torch.stack(list(known.values())))
        if not unknown:
            return
        first = torch.tensor([places[key][0] for key in unknown])
        for positions, answers in self.inner.stream(inputs[first]):
            keys = [unknown[position] for position in positions.tolist()]
            self._record.write(dict(zip(keys, self._encode(answers), strict=True)))
            self._asked.update(keys)
            yield _spread([places[key] for key in keys], answers)

    def _draw(self, keys: list[bytes]) -> list[bytes]:
        chosen = torch.randperm(len(keys), generator=self._generator)[: SENTINELS - len(self._drawn)]
        drawn = [keys[position] for position in chosen.tolist()]
        self._drawn.update(drawn)
        return drawn

    def _compare(self) -> None:
        """Ask the sentinels that are due, in one round, and stop where the model is not the recorded one."""
        inputs, recorded = (torch.stack(each) for each in zip(*self._due, strict=True))
        answers = self.inner.answers(inputs)
        self.replayed.sentinels += len(inputs)
        if differs := self._differ(answers, recorded):
            anew = "leave out --replay" if self._replay else "give another file (--record FILE)"
            raise OracleError(
                f"{differs} of {len(inputs)} answers asked again differ from those in {self.path}: "
                f"{self.name} is another model by now, or one that does not answer alike twice. Nothing was decided; "
                f"to begin anew, {anew}"
            )
        self._due = []

    def _differ(self, answers: Tensor, recorded: Tensor) -> int:
        """How many answers are not the recorded ones."""
        if self.access is Access.LABELS:
            return int((answers != recorded).sum())
        return int(((answers - recorded).abs() > TOLERANCE * recorded.abs().max()).any(1).sum())

    def _keys(self, inputs: Tensor) -> Iterator[bytes]:
        for encoded in self.space.encode(inputs):
            yield hashlib.sha256(self._salt + encoded).digest()

    def _encode(self, answers: Tensor) -> list[bytes]:
        kind = np.dtype("<i8") if self.access is Access.LABELS else np.dtype("<f4")
        return [row.tobytes() for row in answers.detach().cpu().numpy().astype(kind, copy=False)]

    def _decode(self, answer: bytes) -> Tensor:
        labels = self.access is Access.LABELS
        size = 8 if labels else 4 * self.classes
        if len(answer) != size:
            raise self._record.damaged(f"an answer is not the {size} bytes that were recorded")
        value = torch.from_numpy(np.frombuffer(answer, "<i8" if labels else "<f4").copy())
        if labels and not 0 <= int(value) < self.classes:
            raise self._record.damaged(f"a label is {int(value)}, outside 0..{self.classes - 1}")
        if not labels and not bool(value.isfinite().all()):
            raise self._record.damaged("an answer is NaN or infinite")
        return value[0] if labels else value

    def _nothing_finished(self) -> UsageError:
        return UsageError(f"{self.path} holds no finished session of this kind to replay; leave out --replay")


def _spread(places: list[list[int]], answers: Tensor) -> Chunk:
    """Answers for every position of each input."""
    counts = torch.tensor([len(positions) for positions in places])
    flat = torch.tensor([position for positions in places for position in positions])
    return flat, answers.repeat_interleave(counts.to(answers.device), dim=0)
