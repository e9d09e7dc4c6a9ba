"""One small change for all pictures that fools the victim, asked at points that represent what the victim sees.

Papers: Moosavi-Dezfooli et al., *Universal Adversarial Perturbations*, CVPR 2017, for the perturbation; Peng et al.,
*Fingerprinting Deep Neural Networks Globally via Universal Adversarial Perturbations*, CVPR 2022, for points, views and
encoder; Khosla et al., *Supervised Contrastive Learning*, NeurIPS 2020, equation 2, for the encoder's loss.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from sklearn.cluster import KMeans
from torch import Tensor
from torch.nn.functional import normalize

from whorl.data.base import Dataset
from whorl.errors import UsageError
from whorl.layouts import Layout
from whorl.oracles.base import Oracle
from whorl.oracles.pool import Pool
from whorl.queries.base import PooledSampler, draw, gradient_of
from whorl.queries.descent import Adam
from whorl.queries.perceptron import Lesson, finished, perceptron, refuse_strangers, respond, signals
from whorl.settings import Count, Positive, Probability, Radius
from whorl.types import Access, Queries

__all__ = ["UniversalPerturbation", "contrastive_loss", "neighbourhoods", "perturb", "view_index"]


@dataclass(frozen=True, kw_only=True)
class UniversalPerturbation(PooledSampler):
    """Pairs of a picture and the same picture under one perturbation, as several views of one pair per cluster.

    The budget's n pairs make ``views`` views of ceil(n / views) clusters each: another neighbour in every cluster is
    another view. Where n is no multiple, the last view borrows from the first. The encoder learns from the answers
    of the victim and of the shadow models: the victim and its copies are one class, each independent model is another.

    Parameters:
        epsilon: largest change of a pixel (the paper's xi), in units of [0, 1].
        fooling: share of the pictures whose label is to change (1 - delta); the search stops there.
        epochs: most passes of the search over the pictures.
        batch: pictures in a step of the search.
        learning_rate: Adam's for the perturbation, in units of [0, 1] pixels.
        pictures: most pictures to search and cluster.
        views: views that the points make.
        neighbours: pictures of a cluster from which training views are drawn, at least ``views``.
        encode: whether to train an encoder. Without it views are compared as they are and the pool is not asked.
        steps: training steps of the encoder.
        encoder_rate: Adam's for the encoder.
        draws: views of each model in a training step.
        width: hidden units of the encoder.
        dimensions: of its embedding.
        temperature: of the contrastive loss.
    """

    needs_victim: ClassVar[Access] = Access.GRADIENTS
    part: ClassVar[str] = "victim"
    tensors: ClassVar[Mapping[str, Layout]] = {
        "inputs": Layout("n 2 *input", "input"),
        "shared/perturbation": Layout("*input", low=-1, high=1),
        "shared/views": Layout("looks clusters", "int64", 0, "n"),
        "shared/encoder.0.weight": Layout("hidden 2*k*clusters", optional=True),
        "shared/encoder.0.bias": Layout("hidden", optional=True),
        "shared/encoder.1.weight": Layout("embedded hidden", optional=True),
        "shared/encoder.1.bias": Layout("embedded", optional=True),
    }

    epsilon: Radius = 0.1
    fooling: Probability = 0.9
    epochs: Count = 20
    batch: Count = 64
    learning_rate: Positive = 0.01
    pictures: Count = 1000
    views: Count = 5
    neighbours: Count = 20
    encode: bool = True
    steps: Count = 300
    encoder_rate: Positive = 0.001
    draws: Count = 8
    width: Count = 50
    dimensions: Count = 20
    temperature: Positive = 0.2

    def sample_with(
        self, victim: Oracle, data: Dataset, pool: Pool, *, budget: int, generator: torch.Generator
    ) -> Queries:
        """Pairs ``[n, 2, c, h, w]``; the perturbation, the views and the encoder are shared."""
        pool.require(1, 2, "the encoder")
        refuse_strangers(victim, pool, "the encoder")
        views = min(self.views, budget)
        clusters, choice = -(-budget // views), max(self.neighbours, views)
        if len(data) < (needed := max(clusters, choice)):
            raise UsageError(f"{needed} pictures are needed and the data hold {len(data)}; give more or ask for fewer")
        images = data.inputs(draw(data, min(len(data), max(self.pictures, needed)), generator))
        change = self._perturbation(victim, images, generator)
        pairs = torch.stack([images, (images + change).clamp(0, 1)], 1)
        scores = _pair_scores(victim, pairs)
        near = neighbourhoods(scores[:, 0], clusters, choice, generator)
        shared = {"perturbation": change, "views": view_index(budget, views)}
        if self.encode:
            weights = self._encoder([victim, *pool.copies], pool.independent, pairs, near, generator)
            shared |= finished(weights, "encoder")
        labels = scores.argmax(2)
        notes = {"fooled": float((labels[:, 0] != labels[:, 1]).float().mean())}
        return Queries(pairs[near[:, :views].T.flatten()[:budget]], notes=notes, shared=shared)

    def _perturbation(self, victim: Oracle, images: Tensor, generator: torch.Generator) -> Tensor:
        device = getattr(victim, "device", images.device)
        model, labels = gradient_of(victim), victim.labels(images).to(device)
        images = images.to(device)
        change = torch.zeros_like(images[0])
        adam = Adam(change, self.learning_rate)
        for _ in range(self.epochs):
            for rows in torch.randperm(len(images), generator=generator).split(self.batch):
                change = perturb(model, images[rows], labels[rows], change, adam, self.epsilon)
            with torch.no_grad():
                answers = torch.cat([model((part + change).clamp(0, 1)) for part in images.split(self.batch)])
            if float((answers.argmax(1) != labels).float().mean()) >= self.fooling:
                break
        return change.cpu()

    def _encoder(
        self,
        family: Sequence[Oracle],
        strangers: Sequence[Oracle],
        pairs: Tensor,
        near: Tensor,
        generator: torch.Generator,
    ) -> dict[str, Tensor]:
        """Weights of the encoder of views ``[2 * classes * clusters]``, trained on random views of every model."""
        chosen, position = near.unique(return_inverse=True)  # clusters share pictures; each is asked once
        models = [*family, *strangers]
        answers = torch.stack([signals(_pair_scores(model, pairs[chosen]), model.task) for model in models])[
            :, position
        ]
        kind = torch.tensor([*[0] * len(family), *range(1, len(strangers) + 1)]).repeat_interleave(self.draws)
        model = torch.arange(len(models)).repeat_interleave(self.draws)[:, None]
        cluster = torch.arange(len(near))
        weights = perceptron((answers[0, :, 0].numel(), self.width, self.dimensions), generator)
        lesson = Lesson(weights, self.encoder_rate)
        for _ in range(self.steps):
            drawn = torch.randint(near.shape[1], (len(model), len(near)), generator=generator)
            embedded = normalize(respond(weights, answers[model, cluster, drawn].flatten(1)), dim=1)
            lesson.learn(contrastive_loss(embedded, kind, self.temperature))
        return weights


def perturb(
    model: Callable[[Tensor], Tensor], images: Tensor, labels: Tensor, change: Tensor, adam: Adam, epsilon: float
) -> Tensor:
    """One step on the fooling loss: the margin by which the victim's own label still leads, 0 once it does not.

    Shape:
        images: ``[b, c, h, w]``; labels: ``[b]``, the victim's own. Returns the next change ``[c, h, w]``, each pixel
        within ``epsilon`` of 0.
    """
    change = change.detach().requires_grad_()
    logits = model((images + change).clamp(0, 1))
    own = logits.gather(1, labels[:, None]).squeeze(1)
    other = logits.scatter(1, labels[:, None], -torch.inf).amax(1)
    (slope,) = torch.autograd.grad((own - other).clamp_min(0).mean(), change)
    return (change.detach() - adam.step(slope)).clamp(-epsilon, epsilon)


def neighbourhoods(scores: Tensor, clusters: int, count: int, generator: torch.Generator) -> Tensor:
    """The ``count`` pictures nearest each k-means centre, a cluster's own members first, in random order.

    Shape:
        scores: ``[n, classes]``. Returns positions ``[clusters, count]`` int64.
    """
    seed = int(torch.randint(2**31, (), generator=generator))
    points = scores.double()
    found = KMeans(clusters, random_state=seed).fit(points.numpy())
    distance = torch.cdist(torch.from_numpy(found.cluster_centers_), points)
    outside = torch.from_numpy(found.labels_) != torch.arange(clusters)[:, None]
    near = (distance + outside * (1 + distance.max())).sort(dim=1, stable=True).indices[:, :count]
    return near.gather(1, torch.rand(near.shape, generator=generator).argsort(1))


def view_index(budget: int, views: int) -> Tensor:
    """Which of ``budget`` queries make each view: ``[views, ceil(budget / views)]`` int64, column m from cluster m."""
    clusters = -(-budget // views)
    index = torch.arange(views * clusters).unflatten(0, (views, clusters))
    return torch.where(index < budget, index, index.remainder(clusters))


def contrastive_loss(embedded: Tensor, kind: Tensor, temperature: float) -> Tensor:
    """Supervised contrastive loss (Khosla et al., equation 2), the mean over the batch.

    Shape:
        embedded: ``[b, d]`` of length 1; kind: ``[b]`` int64, each at least twice.
    """
    itself = torch.eye(len(kind), dtype=torch.bool)
    alike = (embedded @ embedded.T / temperature).masked_fill(itself, -torch.inf)
    share = (alike - alike.logsumexp(1, keepdim=True)).masked_fill(itself, 0)
    partners = (kind[:, None] == kind) & ~itself
    return -((share * partners).sum(1) / partners.sum(1)).mean()


def _pair_scores(oracle: Oracle, pairs: Tensor) -> Tensor:
    """Scores ``[n, 2, classes]`` of pairs ``[n, 2, c, h, w]``, asked in one batch."""
    return oracle.scores(pairs.flatten(0, 1)).unflatten(0, pairs.shape[:2])
