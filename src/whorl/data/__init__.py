"""Pictures in [0, 1] with labels or numbers, in disjoint parts."""

from whorl.catalog import Catalog
from whorl.data.base import PARTS, Dataset, Source

__all__ = ["PARTS", "SOURCES", "Dataset", "Source"]

SOURCES: Catalog[Source] = Catalog(
    "data",
    {
        "breast_cancer": "whorl.data.tabular:BreastCancer",
        "corrupt": "whorl.data.corrupted:Corrupted",
        "diabetes": "whorl.data.diabetes:Diabetes",
        "digits": "whorl.data.digits:Digits",
        "forget": "whorl.data.forgotten:Forgotten",
        "noise": "whorl.data.noise:Noise",
        "only": "whorl.data.chosen:Chosen",
        "poisoned": "whorl.data.poisoned:Poisoned",
        "textures": "whorl.data.textures:Textures",
        "rows": "whorl.data.rows:Rows",
        "folder": "whorl.data.folder:Folder",
        "parquet": "whorl.data.parquet:Parquet",
        "cifar10": "whorl.data.parquet:Cifar10",
        "hf": "whorl.data.hub:HubDataset",
        "wine": "whorl.data.tabular:Wine",
    },
)
"""Data sources by name, as ``--data`` and recipes name them."""
