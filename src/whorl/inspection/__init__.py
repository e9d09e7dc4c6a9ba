"""Statistics that look for trojans in a net, one a file, and what they say of one net among clean ones."""

from whorl.catalog import Catalog
from whorl.inspection.base import Inspection, Statistic

__all__ = ["INSPECTIONS", "Inspection", "Statistic"]

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
