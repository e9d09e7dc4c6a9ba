"""Pictures in [0, 1] with labels, in disjoint parts."""

from whorl.catalog import Catalog
from whorl.data.base import PARTS, Dataset, Source

__all__ = ["PARTS", "SOURCES", "Dataset", "Source"]

SOURCES: Catalog[Source] = Catalog(
    "data",
    {
        "digits": "whorl.data.digits:Digits",
        "textures": "whorl.data.textures:Textures",
        "folder": "whorl.data.folder:Folder",
        "parquet": "whorl.data.parquet:Parquet",
        "cifar10": "whorl.data.parquet:Cifar10",
        "hf": "whorl.data.hub:HubDataset",
    },
)
