"""What a fingerprint asks, one idea a file."""

from whorl.catalog import Catalog
from whorl.queries.base import Sampler

__all__ = ["QUERIES", "Sampler"]

QUERIES: Catalog[Sampler] = Catalog(
    "queries",
    {
        "adversarial": "whorl.queries.adversarial:AdversarialPairs",
        "boundary": "whorl.queries.boundary:Boundary",
        "common-errors": "whorl.queries.negatives:CommonErrors",
        "mixtures": "whorl.queries.mixtures:Mixtures",
        "negative": "whorl.queries.negatives:Negatives",
        "negative-adversarial": "whorl.queries.adversarial:NegativeAdversarialPairs",
        "negative-augment": "whorl.queries.negatives:MixedErrors",
        "negative-subsample": "whorl.queries.negatives:MaskedErrors",
        "random": "whorl.queries.natural:Natural",
        "random-subsample": "whorl.queries.masks:Masks",
    },
)
