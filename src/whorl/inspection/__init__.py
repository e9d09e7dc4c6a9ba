"""Statistics that look for trojans, one a file: in a net beside clean ones, or in the pictures that it was shown."""

from whorl.catalog import Catalog
from whorl.inspection.base import Inspection, Statistic
from whorl.inspection.sieve import Sieve, Sifted

__all__ = ["INSPECTIONS", "SIEVES", "Inspection", "Sieve", "Sifted", "Statistic"]

INSPECTIONS: Catalog[Statistic] = Catalog(
    "inspections",
    {
        "feature_inversion": "whorl.inspection.feature_inversion:FeatureInversion",
        "max_margin": "whorl.inspection.max_margin:MaxMargin",
        "neural_cleanse": "whorl.inspection.neural_cleanse:NeuralCleanse",
        "neuron_noise": "whorl.inspection.neuron_noise:NeuronNoise",
        "weights_only": "whorl.inspection.weights_only:WeightsOnly",
    },
)
"""Statistics of a net by name, as `whorl inspections` lists them."""
SIEVES: Catalog[Sieve] = Catalog(
    "sieves",
    {
        "activation_clusters": "whorl.inspection.activation_clusters:ActivationClusters",
        "layer_ranks": "whorl.inspection.layer_ranks:LayerRanks",
        "spectral": "whorl.inspection.spectral:Spectral",
    },
)
"""Statistics of the pictures of a training set by name; `whorl inspections` lists them too."""
