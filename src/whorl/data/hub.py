"""Picture data sets of the Hugging Face hub, where they are stored as parquet."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from whorl.data.base import Dataset, Source
from whorl.data.parquet import Tables
from whorl.errors import InvalidFile, MissingExtra, UsageError, WhorlError
from whorl.expressions import Call

__all__ = ["HubDataset"]

# As in plain_text/train-00000-of-00001.parquet, data/train.parquet or default/train/0000.parquet.
_SHARD = re.compile(r"(?:(?P<config>.+?)/)?(?P<split>train|test|validation|valid|val)(?:[-_]\d[^/]*|/[^/]*)?\.parquet")
TEST_SPLITS: Final = ("test", "validation", "valid", "val")  # in the order of preference
TIMEOUT: Final = 10  # seconds
MAX_DOWNLOAD: Final = 32 * 2**30  # bytes; what is larger does not fit in memory either


@dataclass(frozen=True)
class HubDataset(Source):
    """A data set of the hub, as in ``hf("uoft-cs/cifar10")``, at its newest revision, kept in the hub's own cache.

    The parquet files of the split ``train`` are divided into the parts as in `whorl.data.parquet.Parquet`; those of
    ``test``, else of ``validation``, are the part ``test``. ``config`` is the folder of the files in the repository,
    needed where there are several. ``size`` and ``seed`` as in `Parquet`.

    Raises `UsageError` for a name or config that the hub does not have, `InvalidFile` as `Parquet` does or for more
    than 32 GiB, `WhorlError` when the hub cannot be reached, `MissingExtra` without huggingface_hub.
    """

    name: str
    config: str = ""
    size: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        Tables((), size=self.size)

    def _load(self, part: str) -> Dataset:
        train, test = _download(self.name, self.config)
        expression = str(Call("hf", kwargs=tuple(vars(self).items())))
        return Tables(train, test, size=self.size).load(part, seed=self.seed, expression=expression)


@lru_cache(maxsize=16)  # all parts of a study come from one revision
def _download(name: str, config: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The local paths of the shards of the train split, and of the test split."""
    try:
        from huggingface_hub import HfApi
        from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError
    except ImportError:
        raise MissingExtra("data sets of the Hugging Face hub", "hub") from None
    api = HfApi()
    try:
        # The one listing that is not tried again for half a minute when there is no network.
        info = api.dataset_info(name, timeout=TIMEOUT, files_metadata=True)
        sizes = {file.rfilename: file.size or 0 for file in info.siblings or []}
        splits = _shards(name, config, sizes)
        fetched = [
            tuple(api.hf_hub_download(name, shard, repo_type="dataset", revision=info.sha) for shard in shards)
            for shards in splits
        ]
    except WhorlError:
        raise
    except HFValidationError:
        raise UsageError(f'{name!r} is no name of a data set; give one as in hf("uoft-cs/cifar10")') from None
    except RepositoryNotFoundError:
        raise UsageError(
            f"the hub has no data set {name!r} that you may read; check the name, or type: hf auth login"
        ) from None
    except Exception as error:  # whichever HTTP library the client uses, and answers that are not the hub's
        reason = (str(error).splitlines() or [""])[0] or type(error).__name__
        raise WhorlError(
            f"cannot get {name!r} from the Hugging Face hub: {reason[:200]}. Check the network, "
            f'or fetch its files elsewhere and use parquet("TRAIN.parquet", "TEST.parquet").'
        ) from None
    return fetched[0], fetched[1]


def _shards(name: str, config: str, sizes: Mapping[str, int]) -> tuple[list[str], list[str]]:
    """Which files of a repository are the train split, and which the test split, in order."""
    configs: dict[str, dict[str, list[str]]] = {}
    for file in sorted(sizes):
        if (match := _SHARD.fullmatch(file)) and ".." not in file.split("/"):
            configs.setdefault(match["config"] or "", {}).setdefault(match["split"], []).append(file)
    configs = {folder: splits for folder, splits in configs.items() if "train" in splits}
    if not configs:
        raise UsageError(f"the data set {name!r} has no parquet files of a split train; use one that has")
    if config not in configs and (config or len(configs) > 1):
        known = ", ".join(list(configs)[:20])
        raise UsageError(f"the data set {name!r} has the configs {known}; give one, as in config={next(iter(configs))}")
    splits = configs[config] if config in configs else next(iter(configs.values()))
    train, test = splits["train"], next((splits[split] for split in TEST_SPLITS if split in splits), [])
    if (total := sum(sizes[file] for file in train + test)) > MAX_DOWNLOAD:
        raise InvalidFile(f"the data set {name!r} has {total >> 30} GiB; at most {MAX_DOWNLOAD >> 30} are fetched")
    return train, test
