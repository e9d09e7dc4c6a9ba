"""Oracles that treat their answers against thieves and against whoever wants to recognise them.

Each grants probabilities at most, like an interface, and keeps the name and digest of what it treats. What it draws
follows from the question (`whorl.oracles.chance`), so asking again tells nothing new.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from typing import Final, Literal

import torch
from torch import Tensor, nn

from whorl.errors import UsageError
from whorl.nets.training import predict
from whorl.oracles.base import Chunk, Oracle, require
from whorl.oracles.chance import uniform
from whorl.oracles.prada import Prada
from whorl.oracles.wrappers import Wrapper
from whorl.storage import digest_tensors
from whorl.types import Access

__all__ = ["DetectsQueries", "Lie", "Poisoned", "RandomAnswers", "ReverseSigmoid", "Shuffled", "poison"]

Lie = Literal["runner-up", "permuted"]

BLOCK: Final = 256  # questions that are asked before the next answers are given
EXACT: Final = 10  # classes up to which every subset is tried
EDGE: Final = 1e-5  # the predicted class stays ahead by this


class _Defended(Wrapper):
    """A treatment of labels or probabilities that may depend on the question."""

    def __init__(self, inner: Oracle, *, change: str) -> None:
        super().__init__(inner, access=min(inner.access, Access.PROBABILITIES), change=change)

    @abstractmethod
    def _treat(self, inputs: Tensor, answers: Tensor) -> Tensor:
        """The answers given to questions ``[m, c, h, w]``: labels ``[m]`` or probabilities ``[m, classes]``."""

    def _stream(self, inputs: Tensor) -> Iterator[Chunk]:
        for positions, answers in self.inner.stream(inputs):
            yield positions, self._treat(inputs[positions], self._granted(answers))

    def _granted(self, answers: Tensor) -> Tensor:
        return answers.softmax(1) if self.inner.access > Access.PROBABILITIES else answers


class ReverseSigmoid(_Defended):
    """y - beta (sigmoid(gamma logit(y)) - 1/2), scaled to a sum of 1: probabilities that tell little of their size.

    Paper: Lee et al., *Defending Against Neural Network Model Stealing Attacks Using Deceptive Perturbations*, IEEE
    S&P workshops 2019. With beta = gamma = 1, the defaults of a published implementation, every answer is uniform. At
    gamma = 1 the predicted class stays for every beta below 1; at others it may change where the answer is flat.

    Raises:
        UsageError: beta outside [0, 1], where answers could be negative, or gamma not above 0.
    """

    needs = Access.PROBABILITIES

    def __init__(self, inner: Oracle, beta: float = 0.7, gamma: float = 0.2) -> None:
        if not 0 <= beta <= 1 or not 0 < gamma < float("inf"):
            raise UsageError(f"the reverse sigmoid needs beta in [0, 1] and gamma above 0, not {beta} and {gamma}")
        super().__init__(inner, change=f"ReverseSigmoid(beta={beta}, gamma={gamma})")
        self.beta, self.gamma = beta, gamma

    def _treat(self, inputs: Tensor, answers: Tensor) -> Tensor:
        del inputs
        moved = answers - self.beta * ((self.gamma * answers.logit()).sigmoid() - 0.5)
        return moved / moved.sum(1, keepdim=True)


class Poisoned(_Defended):
    """MAD: probabilities moved, within ``epsilon`` in L1, to where a thief's gradient turns away most (`poison`).

    Paper: Orekondy, Schiele, Fritz, *Prediction Poisoning*, ICLR 2020. ``surrogate`` maps pictures to logits and stands
    for the thief's net at the start; an untrained one does.

    Raises:
        UsageError: epsilon outside (0, 2].
    """

    needs = Access.PROBABILITIES

    def __init__(self, inner: Oracle, surrogate: nn.Module, epsilon: float, *, keep_label: bool = True) -> None:
        if not 0 < epsilon <= 2:
            raise UsageError(f"probabilities lie at most 2 apart in L1: epsilon is in (0, 2], not {epsilon}")
        change = f"Poisoned(epsilon={epsilon}, keep_label={keep_label}, {digest_tensors(surrogate.state_dict())[:12]})"
        super().__init__(inner, change=change)
        self.surrogate, self.epsilon, self.keep_label = surrogate, epsilon, keep_label

    def _treat(self, inputs: Tensor, answers: Tensor) -> Tensor:
        assumed = predict(self.surrogate, inputs).softmax(1)
        return poison(answers, assumed, self.epsilon, keep_label=self.keep_label)


class RandomAnswers(_Defended):
    """With ``probability`` the answer names a class drawn at random, all alike likely.

    Of probabilities, those of the predicted and of the drawn class are exchanged.
    """

    def __init__(self, inner: Oracle, probability: float, *, seed: int = 0) -> None:
        if not 0 <= probability <= 1:
            raise UsageError(f"an answer is random with a probability in [0, 1], not {probability}")
        super().__init__(inner, change=f"RandomAnswers(probability={probability}, seed={seed})")
        self.probability, self.seed = probability, seed

    def _treat(self, inputs: Tensor, answers: Tensor) -> Tensor:
        chance, place = uniform(inputs, (2,), self.seed).unbind(1)
        labels = answers if self.access is Access.LABELS else answers.argmax(1)
        drawn = torch.where(chance < self.probability, (place * self.classes).long(), labels)
        return drawn if self.access is Access.LABELS else _exchange(answers, labels, drawn)


class Shuffled(_Defended):
    """The ``k`` largest probabilities are dealt at random among their own classes."""

    needs = Access.PROBABILITIES

    def __init__(self, inner: Oracle, k: int = 3, *, seed: int = 0) -> None:
        if not 2 <= k <= inner.classes:
            raise UsageError(f"{inner.name} has {inner.classes} classes, of which 2 or more are shuffled, not {k}")
        super().__init__(inner, change=f"Shuffled(k={k}, seed={seed})")
        self.k, self.seed = k, seed

    def _treat(self, inputs: Tensor, answers: Tensor) -> Tensor:
        values, classes = answers.topk(self.k, 1)
        dealt = uniform(inputs, (self.k,), self.seed).argsort(1)
        return answers.scatter(1, classes, values.gather(1, dealt))


class DetectsQueries(_Defended):
    """Answers truly until `Prada` suspects the stream of questions, and lies from then on.

    The lie names the ``runner-up`` (the two largest probabilities are exchanged) or the class after the predicted one
    (``permuted``: all classes move on by one). It watches the questions in the order asked, over all calls, until then.

    Parameters:
        delta: the smallest W that passes.

    Raises:
        UsageError: another lie, or delta outside [0, 1].
        AccessRefused: the runner-up of a model that grants labels only.
    """

    def __init__(self, inner: Oracle, delta: float = 0.9, lie: Lie = "runner-up") -> None:
        if lie not in ("runner-up", "permuted"):
            raise UsageError(f"a detected thief is told the runner-up or a permuted class, not {lie!r}")
        if lie == "runner-up":
            require(inner, Access.PROBABILITIES, "lying with the runner-up")
        super().__init__(inner, change=f"DetectsQueries(delta={delta}, lie={lie})")
        self.lie = lie
        self.monitor = Prada(inner.classes, delta)

    def _stream(self, inputs: Tensor) -> Iterator[Chunk]:
        # In the order asked, whatever order the inner oracle answers in.
        for positions in torch.arange(len(inputs)).split(BLOCK):
            asked = inputs[positions]
            yield positions, self._treat(asked, self._granted(self.inner.answers(asked)))

    def _treat(self, inputs: Tensor, answers: Tensor) -> Tensor:
        if self.access is Access.LABELS:
            lies = self.monitor.watch(inputs, answers)
            return torch.where(lies, (answers + 1) % self.classes, answers)
        lies = self.monitor.watch(inputs, answers.argmax(1))[:, None]
        first, second = answers.topk(2, 1).indices.unbind(1)
        lied = answers.roll(1, 1) if self.lie == "permuted" else _exchange(answers, first, second)
        return torch.where(lies, lied, answers)


def poison(probabilities: Tensor, assumed: Tensor, epsilon: float, *, keep_label: bool) -> Tensor:
    """The answers within ``epsilon`` of the true ones in L1 that turn the gradient of cross-entropy furthest.

    Orekondy et al. let G hold the gradients of -log p_k by the last layer's weights, row by row. Row k is (p - e_k) h,
    with p the surrogate's probabilities and h what its last layer reads, so G'y is (p - y) h for any y that sums to 1:
    h drops out of the angle between two of them, and p is all that is needed. Of the corners that serve as directions
    (the classes, or with ``keep_label`` the equal mixtures of sets that hold the predicted class) the best is taken,
    from all sets up to 10 classes and greedily above; the answer moves towards it as far as ``epsilon`` allows. The
    greedy search isn't cut at 1,024 corners, since one costs three sums.

    Shape:
        probabilities, assumed: ``[n, classes]``, each row with a sum of 1. Returns the same.
    """
    truth, surrogate = probabilities.double(), assumed.double()
    if keep_label:
        label = truth.argmax(1)
        corner = _all_sets(truth, surrogate, label) if truth.shape[1] <= EXACT else _greedy(truth, surrogate, label)
        corner = corner / corner.sum(1, keepdim=True)
        corner.scatter_add_(1, label[:, None], torch.full((len(label), 1), EDGE, dtype=corner.dtype))
        corner = corner / corner.sum(1, keepdim=True)
    else:
        each = torch.eye(truth.shape[1], dtype=truth.dtype)
        corner = each[_cosine(truth - surrogate, surrogate, each).argmin(1)]
    far = (corner - truth).abs().sum(1, keepdim=True).clamp_min(1e-12)
    return (truth + (epsilon / far).clamp_max(1) * (corner - truth)).float()


def _cosine(slope: Tensor, surrogate: Tensor, sets: Tensor) -> Tensor:
    """Cosine ``[n, s]`` between the true gradients and those of the equal mixtures of sets of classes ``[s, k]``."""
    size = sets.sum(1)
    return _angle(slope, surrogate, slope @ sets.T, surrogate @ sets.T, size)


def _angle(slope: Tensor, surrogate: Tensor, slopes: Tensor, masses: Tensor, size: Tensor) -> Tensor:
    """The same from sums over each set: of the true slope y - p, of the surrogate's p, and of its classes."""
    own = (slope * surrogate).sum(1, keepdim=True)
    length = surrogate.square().sum(1, keepdim=True) - 2 * masses / size + 1 / size
    return (slopes / size - own) / (slope.norm(dim=1, keepdim=True) * length.clamp_min(0).sqrt()).clamp_min(1e-12)


def _all_sets(truth: Tensor, surrogate: Tensor, label: Tensor) -> Tensor:
    """The best set ``[n, k]`` of 0 and 1 among all that hold the label."""
    classes = truth.shape[1]
    numbers = torch.arange(1, 2**classes)
    sets = (numbers[:, None] >> torch.arange(classes) & 1).to(truth.dtype)
    chosen: list[Tensor] = []
    for part in torch.arange(len(truth)).split(BLOCK):
        cosine = _cosine(truth[part] - surrogate[part], surrogate[part], sets)
        chosen.append(cosine.masked_fill(sets.T[label[part]] == 0, torch.inf).argmin(1))
    return sets[torch.cat(chosen)] if chosen else truth


def _greedy(truth: Tensor, surrogate: Tensor, label: Tensor) -> Tensor:
    """The set ``[n, k]`` that grows from the label by the best class each time, while that helps."""
    slope = truth - surrogate
    chosen = torch.zeros_like(truth).scatter(1, label[:, None], 1)
    alone = _cosine(slope, surrogate, torch.eye(truth.shape[1], dtype=truth.dtype))
    best = alone.gather(1, label[:, None]).squeeze(1)
    growing = torch.ones(len(truth), dtype=torch.bool)
    for size in range(2, truth.shape[1] + 1):
        slopes, masses = (each + (chosen * each).sum(1, keepdim=True) for each in (slope, surrogate))
        cosine = _angle(slope, surrogate, slopes, masses, torch.tensor(size)).masked_fill(chosen > 0, torch.inf)
        value, added = cosine.min(1)
        growing &= value < best
        if not bool(growing.any()):
            break
        chosen[growing, added[growing]] = 1
        best = torch.where(growing, value, best)
    return chosen


def _exchange(answers: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """Probabilities ``[m, classes]`` with those of two classes ``[m]`` exchanged."""
    pair = torch.stack([first, second], 1)
    return answers.scatter(1, pair, answers.gather(1, pair.flip(1)))
