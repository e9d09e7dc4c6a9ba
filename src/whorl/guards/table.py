"""All guards of one service in one table: honest accuracy, what thieves get, when they are noticed, who else is.

A guard that treats answers is a removal of the family ``defend`` (`whorl.removals`), seen from the owner's side. Two
guards watch and change nothing: PRADA's W and `whorl.detection.streams.StreamWatch`, over the questions that a thief
asks the service without a guard. Whatever they say of a thief stands beside what they say of honest clients.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
import torch
from torch import Tensor, nn

from whorl.data import SOURCES
from whorl.detection.streams import StreamWatch, rank_of_client
from whorl.engine.store import Store, cell_key
from whorl.errors import AccessRefused, UsageError
from whorl.guards.clients import BLOCK, LEAST, Client, clients, strangeness
from whorl.oracles.base import Oracle
from whorl.oracles.dawn import Dawn
from whorl.oracles.defended import DetectsQueries
from whorl.oracles.prada import Prada
from whorl.oracles.wrappers import Wrapper
from whorl.removals import REMOVALS, Removal
from whorl.removals.base import opened
from whorl.revisions import digest_of
from whorl.types import Access, told

__all__ = ["GUARDS", "NONE", "THIEVES", "GuardSettings", "guard_table"]

NONE: Final = "none"
GUARDS: Final = (
    "answer_rounded(1)",
    "answer_labels",
    "answer_reverse_sigmoid",
    "answer_poisoned(epsilon=1.0)",
    "answer_poisoned(epsilon=1.0, keep_label=false)",
    "misinform",
    "detect_queries",
    "answer_marked(share=0.005)",
    "answer_marked(share=0.05)",
)
THIEVES: Final = {
    "knockoff": "knockoff('mlp(width=64)', probabilities, budget=400)",
    "jacobian": "jacobian('mlp(width=64)', probabilities, rounds=3)",
    "data_free": "data_free('mlp(width=64)', budget=10000)",
}
"""Thieves by name; one that can learn from labels does so where a guard grants no more."""
DELTA: Final = 0.9  # W below which PRADA speaks of an attack
MOST_CLIENTS: Final = 1000
MOST_LENGTH: Final = 10_000
MOST_ASKED: Final = 1_000_000
WATCH: Final = 2000  # questions of a stream that are watched; PRADA compares each with all of its class


@dataclass(frozen=True)
class GuardSettings:
    """What a table is made of.

    Parameters:
        data: a data set, as an expression. Thieves hold its attacker part, clients ask about its calibration part, and
            accuracy and fidelity are measured on its test part.
        guards: removals of the family ``defend``, as expressions.
        thieves: removals of the family ``extract``, by name.
        clients: honest ones, at least 19, so that a rank can be .05, and at most 1,000.
        length: questions of each of them, at most 10,000; of all clients together 1,000,000.
        alpha: the rate of the watch that never ends.
        seed: of thieves, guards and clients.

    Raises:
        UsageError: an expression or number that does not fit.
    """

    data: str
    guards: tuple[str, ...] = GUARDS
    thieves: tuple[tuple[str, str], ...] = tuple(THIEVES.items())
    clients: int = 20
    length: int = 300
    alpha: float = 0.01
    seed: int = 0

    def __post_init__(self) -> None:
        if self.clients < 19:
            raise UsageError(f"thieves are ranked among 19 clients or more, not {self.clients}; give --clients 19")
        if max(self.clients / MOST_CLIENTS, self.length / MOST_LENGTH) > 1 or self.length < 1:
            raise UsageError(
                f"a table is of {MOST_CLIENTS:,} clients at most, who ask 1 to {MOST_LENGTH:,} questions each; these "
                f"are {self.clients:,} and {self.length:,}"
            )
        if self.clients * self.length > MOST_ASKED:
            raise UsageError(
                f"{self.clients:,} clients with {self.length:,} questions each ask more than {MOST_ASKED:,} in all: "
                "give a smaller --clients or --length"
            )
        for family, names in (("defend", self.guards), ("extract", [each for _, each in self.thieves])):
            for name in names:
                if REMOVALS.make(name).family != family:
                    what = "a guard" if family == "defend" else "a thief"
                    raise UsageError(f"{name} is not {what}, a removal of the family {family}; type whorl removals")
        if len({name for name, _ in self.thieves}) < len(self.thieves) or len(set(self.guards)) < len(self.guards):
            raise UsageError("each guard and each thief is named once")


def guard_table(
    victim: Oracle,
    settings: GuardSettings,
    *,
    folder: Path | None = None,
    progress: Callable[[str, int, int], None] = lambda *_: None,
) -> dict[str, Any]:
    """The table, as plain data; `docs/guards.md` says what is in it.

    Parameters:
        victim: the service's model, with its weights.
        folder: where finished parts are kept, so that an interrupted run goes on.

    Raises:
        AccessRefused: a model without weights.
        UsageError: one that does not fit the data, or no classifier.
    """
    if victim.access < Access.WEIGHTS:
        raise AccessRefused(
            f"a table of guards needs WEIGHTS; {victim.name} grants {told(victim.grants)}: give the file that holds "
            "them, and --architecture where it names none"
        )
    if victim.task != "classification":
        raise UsageError(f"guards are for classifiers; {victim.name} does {victim.task}")
    return _Table(victim, settings, folder, progress).made()


class _Listening(Wrapper):
    """Keeps what it is asked, up to `WATCH`."""

    def __init__(self, inner: Oracle) -> None:
        super().__init__(inner, access=min(inner.access, Access.PROBABILITIES))
        self.heard: list[Tensor] = []

    def _stream(self, inputs: Tensor) -> Any:
        if sum(map(len, self.heard)) < WATCH:
            self.heard.append(inputs.detach().clone())
        for positions, answers in self.inner.stream(inputs):
            yield positions, answers.softmax(1) if self.inner.access > Access.PROBABILITIES else answers

    @property
    def questions(self) -> Tensor:
        return torch.cat(self.heard)[:WATCH]


class _Table:
    def __init__(
        self,
        victim: Oracle,
        settings: GuardSettings,
        folder: Path | None,
        progress: Callable[[str, int, int], None],
    ) -> None:
        self.victim, self.settings = victim, settings
        self.store = Store(folder / "guards.sqlite") if folder is not None else None
        self.progress = progress
        self.done = 0
        source = SOURCES.make(settings.data)
        self.attacker, self.benign, self.test = (source.load(part) for part in ("attacker", "calibration", "test"))
        self.references = source.load("victim").inputs()
        self.inputs = self.test.inputs()
        self.truth = victim.labels(self.inputs)
        self._nets: dict[str, nn.Module | Oracle] = {}

    def made(self) -> dict[str, Any]:
        guards = (NONE, *self.settings.guards)
        self.total = len(guards) * (1 + len(self.settings.thieves)) + 1
        try:
            honest = self._kept("clients", self._clients)
            rows = [
                self._kept(guard, lambda guard=guard: self._honest(guard))
                | {
                    "thieves": {
                        name: self._kept(f"{guard} {name} {thief}", lambda g=guard, t=thief: self._stolen(g, t))
                        for name, thief in self.settings.thieves
                    }
                }
                for guard in guards
            ]
        finally:
            if self.store is not None:
                self.store.close()
        streams = {name: rows[0]["thieves"][name].pop("watched", None) for name, _ in self.settings.thieves}
        return {
            "model": self.victim.name,
            "digest": self.victim.digest,
            "data": self.settings.data,
            "seed": self.settings.seed,
            "guards": rows,
            "watches": self._watches(honest, {name: each for name, each in streams.items() if each}),
        }

    def _kept(self, what: str, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """A finished part, from the store where it is there."""
        s = self.settings
        code = digest_of(["whorl.guards.table", *(t for n in self._named(what) for t in REMOVALS.targets(n))])
        key = cell_key(what=what, of=self.victim.digest, data=s.data, seed=s.seed, n=(s.clients, s.length), code=code)
        if self.store is not None and key in self.store:
            document = self.store.get(key)
        else:
            document = make()
            if self.store is not None:
                self.store.put(key, document)
        self.done += 1
        self.progress("guards", self.done, self.total)
        return document

    def _named(self, what: str) -> list[str]:
        """Removals that a part rests on."""
        every = [*self.settings.guards, *(thief for _, thief in self.settings.thieves)]
        return sorted({each.partition("(")[0] for each in every if each in what})

    def _guarded(self, guard: str) -> Oracle:
        """The service behind a fresh guard; what was trained for one is trained once."""
        if guard == NONE:
            return self.victim
        if guard in self._nets:
            return opened(self._nets[guard], self.victim, name=guard)
        generator = torch.Generator().manual_seed(self.settings.seed + 1_000_003)
        # The owner's own pictures are those that the service learned from.
        own = SOURCES.make(self.settings.data).load("victim")
        made = REMOVALS.make(guard)(self.victim, own, generator=generator)
        if isinstance(made, nn.Module):
            self._nets[guard] = made
        return opened(made, self.victim, name=guard)

    def _honest(self, guard: str) -> dict[str, Any]:
        """Accuracy of what one client is answered about the test pictures, and agreement with the bare service."""
        answers = self._guarded(guard).labels(self.inputs)
        return {
            "guard": guard,
            "accuracy": _share(answers, self.test.labels),
            "agreement": _share(answers, self.truth),
        }

    def _stolen(self, guard: str, thief: str) -> dict[str, Any]:
        service = self._guarded(guard)
        listening = _Listening(service)
        removal: Removal = REMOVALS.make(thief)
        if service.access is Access.LABELS and getattr(removal, "answers", "") == "probabilities":
            removal = replace(cast(Any, removal), answers="labels")
        generator = torch.Generator().manual_seed(self.settings.seed + 500)
        try:
            net = removal(listening, self.attacker, generator=generator)
        except AccessRefused as refused:
            return {"fidelity": None, "queries": 0, "detected": None, "why": str(refused)}
        stolen = opened(net, self.victim, name="thief")
        found: dict[str, Any] = {
            "fidelity": _share(stolen.labels(self.inputs), self.truth),
            "queries": listening.queries_spent,
            "detected": service.monitor.detected if isinstance(service, DetectsQueries) else None,
        }
        if guard == NONE:
            found["watched"] = self._watched(Client(thief, listening.questions))
        if isinstance(service, Dawn):
            found |= _mark(service, stolen)
        return found

    def _clients(self) -> dict[str, Any]:
        s = self.settings
        made = clients(self.victim, self.benign, s.clients, s.length, s.seed)
        return {"clients": [{"kind": each.kind} | self._watched(each) for each in made]}

    def _watched(self, client: Client) -> dict[str, Any]:
        """What the two watches read of one stream."""
        monitor = Prada(self.victim.classes, 0.0)
        detected: int | None = None
        labels = self.victim.labels(client.inputs)
        for part in torch.arange(len(client.inputs)).split(10):
            monitor.watch(client.inputs[part], labels[part])
            if detected is None and monitor.lowest < DELTA:
                detected = monitor.asked
        return {
            "asked": len(client.inputs),
            "lowest": monitor.lowest,
            "detected": detected,
            "blocks": strangeness(client.inputs, self.references),
        }

    def _watches(self, honest: dict[str, Any], thieves: dict[str, dict[str, Any]]) -> dict[str, Any]:
        known = honest["clients"]
        alarms = [self._alarm(each, [other for other in known if other is not each], n) for n, each in enumerate(known)]
        means = [_mean(each["blocks"]) for each in known]
        prada = {
            name: {
                "asked": each["asked"],
                "statistic": each["lowest"],
                "detected": each["detected"],
                "p": rank_of_client(-each["lowest"], [-other["lowest"] for other in known]),
            }
            for name, each in thieves.items()
        }
        stream = {
            name: {
                "asked": each["asked"],
                "statistic": _mean(each["blocks"]),
                "detected": self._alarm(each, known, len(known) + number),
                "p": rank_of_client(_mean(each["blocks"]), means),
            }
            for number, (name, each) in enumerate(thieves.items())
        }
        return {
            "prada": {
                "delta": DELTA,
                "thieves": prada,
                "clients": _by_kind(known, [each["lowest"] for each in known], [each["detected"] for each in known]),
            },
            "stream": {"alpha": self.settings.alpha, "thieves": stream, "clients": _by_kind(known, means, alarms)},
        }

    def _alarm(self, stream: dict[str, Any], others: Sequence[dict[str, Any]], number: int) -> int | None:
        """After how many questions the watch that never ends raises its alarm."""
        chance = np.random.default_rng([self.settings.seed, number])
        watch = StreamWatch([each for other in others for each in other["blocks"]], self.settings.alpha, chance)
        watch.update(stream["blocks"])
        return None if watch.alarm is None else watch.alarm * BLOCK


def _mark(service: Dawn, stolen: Oracle) -> dict[str, Any]:
    """What the log of a marked service says of the thief's net: log10 of p, which is not below that of all matches."""
    if not service.altered:
        return {"altered": 0, "matches": 0, "cells": 0, "log10_p": 0.0}
    log = service.log
    found = log.test(stolen.labels(log.inputs))
    return {"altered": log.altered, "cells": found.n, "matches": found.matches, "log10_p": found.log_p / math.log(10)}


def _by_kind(
    known: Sequence[dict[str, Any]], statistics: Sequence[float], alarms: Sequence[int | None]
) -> list[dict[str, Any]]:
    return [
        {"kind": each["kind"], "asked": each["asked"], "statistic": statistic, "detected": alarm}
        for each, statistic, alarm in zip(known, statistics, alarms, strict=True)
    ]


def _share(answers: Tensor, wanted: Tensor) -> float:
    return float((answers == wanted).float().mean())


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else math.log(LEAST)
