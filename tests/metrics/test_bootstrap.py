import numpy as np
import pytest

from whorl.errors import UsageError
from whorl.metrics import aruc, auc, auc_interval, cluster_bootstrap, cluster_bootstrap_difference


def victims(generator, count=12, copies=20, icc=0.5, shift=2.0):
    """Scores of which the share ``icc`` of the variance lies between victims; a shift of 2 has an AUC of .92135."""
    return [
        (
            shift + np.sqrt(icc) * generator.normal() + np.sqrt(1 - icc) * generator.normal(size=copies),
            np.sqrt(icc) * generator.normal() + np.sqrt(1 - icc) * generator.normal(size=copies),
        )
        for _ in range(count)
    ]


def test_clusters_cover_where_delong_does_not():
    generator = np.random.default_rng(0)
    truth, runs = 0.92135, 200
    bootstrap = delong = 0
    for _ in range(runs):
        clusters = victims(generator)
        bootstrap += truth in cluster_bootstrap(auc, clusters, generator=generator, replicates=200).interval
        delong += truth in auc_interval(*(np.concatenate(side) for side in zip(*clusters, strict=True)))
    assert bootstrap / runs > 0.85
    assert delong / runs < 0.65


def test_value_and_number_of_clusters():
    generator = np.random.default_rng(0)
    clusters = [([0.9, 0.4], [0.5]), ([0.3], [0.2, 0.35])]
    pooled = cluster_bootstrap(auc, clusters, generator=generator, replicates=50)
    assert pooled.value == auc([0.9, 0.4, 0.3], [0.5, 0.2, 0.35])
    assert pooled.clusters == 2
    averaged = cluster_bootstrap(auc, clusters, generator=generator, replicates=50, average=True)
    assert averaged.value == 0.5
    assert (averaged.interval.low, averaged.interval.high) == (0.5, 0.5)  # both victims have the same AUC


def test_an_average_of_two_victims_spans_both():
    clusters = [([1.0], [0.0]), ([0.6], [0.4])]
    estimate = cluster_bootstrap(aruc, clusters, generator=np.random.default_rng(0), replicates=200, average=True)
    assert estimate.value == pytest.approx(0.6)
    assert (estimate.interval.low, estimate.interval.high) == pytest.approx((0.2, 1.0))


def test_a_paired_difference_cancels_what_victims_have_in_common():
    generator = np.random.default_rng(0)
    first = victims(generator, shift=1.0)
    second = [(positives - 0.3, negatives) for positives, negatives in first]
    paired = cluster_bootstrap_difference(auc, first, second, generator=generator, replicates=300)
    alone = cluster_bootstrap(auc, first, generator=generator, replicates=300)
    assert paired.value > 0
    assert paired.interval.low > 0
    assert paired.interval.high - paired.interval.low < alone.interval.high - alone.interval.low
    same = cluster_bootstrap_difference(auc, first, first, generator=generator, replicates=50)
    assert (same.value, same.interval.low, same.interval.high) == (0, 0, 0)


def test_the_same_generator_gives_the_same_interval():
    clusters = victims(np.random.default_rng(3), count=4)
    one, other = (cluster_bootstrap(auc, clusters, generator=np.random.default_rng(5), replicates=50) for _ in "12")
    assert one == other


def test_one_victim_is_not_enough():
    with pytest.raises(UsageError, match="at least 2 victims"):
        cluster_bootstrap(auc, [([0.9], [0.1])], generator=np.random.default_rng(0))
    with pytest.raises(UsageError, match="same victims on both sides"):
        cluster_bootstrap_difference(
            auc, [([1.0], [0.0])] * 2, [([1.0], [0.0])] * 3, generator=np.random.default_rng(0)
        )
