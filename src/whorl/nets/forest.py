"""Random forests: the IPGuard table's negatives that have no gradient and no boundary in common with a net."""

from __future__ import annotations

from sklearn.ensemble import RandomForestClassifier

from whorl.settings import Count, Seed

__all__ = ["random_forest"]


def random_forest(seed: Seed, *, trees: Count = 100) -> RandomForestClassifier:
    """An unfitted forest on flattened pixels, single-threaded and reproducible."""
    return RandomForestClassifier(n_estimators=trees, random_state=seed, n_jobs=1)
