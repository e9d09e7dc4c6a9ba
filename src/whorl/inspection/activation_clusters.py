"""Activation clusters: classes whose features fall into a small and a large group, of which the small one is named.

Paper: Chen et al., *Detecting Backdoor Attacks on Deep Neural Networks by Activation Clustering*, SafeAI 2019, arXiv
1811.03728. For each class the features that the head reads are brought to ten dimensions and divided by 2-means. A
class is suspicious where its smaller group holds less than ``share`` of it and the silhouette is above ``silhouette``;
the paper gives ranges, which were not checked here, so both are settings. PCA stands for the paper's ICA.

The option of a toolbox that names the smaller group of every class is no decision, and is not offered.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Final

import numpy as np
import torch
from annotated_types import Gt, Le

from whorl.data.base import Dataset
from whorl.inspection.features import Cut
from whorl.inspection.sieve import Found, Sieve
from whorl.oracles.torch import TorchOracle
from whorl.settings import Count, Probability
from whorl.types import Access

__all__ = ["ActivationClusters"]

FEWEST: Final = 8  # pictures of a class, below which two groups say nothing
MOST_PAIRED: Final = 2000  # pictures of a class for the silhouette, which compares all pairs


@dataclass(frozen=True, kw_only=True)
class ActivationClusters(Sieve):
    """How much nearer a picture is to the small group of its class than to the large one; a class has its silhouette.

    Parameters:
        dimensions: that features are brought to by PCA.
        share: of its class below which the smaller group is suspicious.
        silhouette: above which the two groups are apart.
        restarts: of 2-means.
    """

    name: ClassVar[str] = "activation_clusters"
    paper: ClassVar[str] = "Chen et al., SafeAI 2019, arXiv 1811.03728"
    idea: ClassVar[str] = "Classes whose features fall into two groups that lie apart, of which the smaller is named."
    blind: ClassVar[str] = "triggers on about half of a class, and those whose pictures the head reads alike"
    needs: ClassVar[Access] = Access.WEIGHTS
    clean: ClassVar[int] = 0

    dimensions: Count = 10
    share: Annotated[float, Gt(0), Le(0.5)] = 0.35
    silhouette: Probability = 0.1
    restarts: Count = 10

    def find(self, net: TorchOracle, data: Dataset, clean: Dataset | None, *, generator: torch.Generator) -> Found:
        """Numbers of pictures and of classes."""
        del clean
        features = Cut(net, self.name).seen(data.inputs()).cpu().numpy()
        values, named = np.zeros(len(data)), np.zeros(len(data), dtype=bool)
        apart = np.zeros(net.classes)
        labels = data.labels.numpy()
        for label in range(net.classes):
            seed = int(torch.randint(2**31, (), generator=generator))
            places = np.flatnonzero(labels == label)
            if len(places) < FEWEST or np.ptp(features[places], axis=0).max() == 0:
                continue
            values[places], small, apart[label] = self._divide(features[places].astype(np.float64), seed)
            if small.mean() < self.share and apart[label] > self.silhouette:
                named[places[small]] = True
        return Found(torch.from_numpy(values), torch.from_numpy(named), torch.from_numpy(apart))

    def _divide(self, features: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray, float]:
        """For each picture of one class its number and whether it is of the smaller group, and their silhouette."""
        from sklearn.cluster import KMeans
        from sklearn.decomposition import PCA
        from sklearn.metrics import silhouette_score

        reduced = PCA(min(self.dimensions, *features.shape), random_state=seed).fit_transform(features)
        means = KMeans(2, n_init=self.restarts, random_state=seed).fit(reduced)  # pyright: ignore[reportArgumentType]
        groups = np.asarray(means.labels_)
        if not 0 < groups.sum() < len(groups):
            return np.zeros(len(features)), np.zeros(len(features), dtype=bool), 0.0
        smaller = int(groups.mean() < 0.5)
        lengths = means.transform(reduced)
        paired = min(len(reduced), MOST_PAIRED)
        score = float(silhouette_score(reduced, groups, sample_size=paired, random_state=seed))
        return lengths[:, 1 - smaller] - lengths[:, smaller], groups == smaller, score
