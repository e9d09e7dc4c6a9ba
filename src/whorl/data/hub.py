"""Picture data sets of the Hugging Face hub, where they are stored as parquet."""

from __future__ import annotations

import re
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from whorl.data.base import Dataset, Source
from whorl.data.parquet import Tables
from whorl.data.pictures import OwnSides
from whorl.errors import InvalidFile, MissingExtra, UsageError, WhorlError
from whorl.expressions import Call
from whorl.settings import Seed

__all__ = ["TIMEOUT", "HubDataset", "asking_hub"]

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
    size: OwnSides = 0
    seed: Seed = 0

    def _load(self, part: str) -> Dataset:
        train, test = _download(self.name, self.config)
        expression = str(Call("hf", kwargs=tuple(vars(self).items())))
        return Tables(train, test, size=self.size).load(part, seed=self.seed, expression=expression)


@lru_cache(maxsize=16)  # all parts of a study come from one revision
def _download(name: str, config: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The local paths of the shards of the train split, and of the test split."""
    otherwise = 'fetch its files elsewhere and use parquet("TRAIN.parquet", "TEST.parquet")'
    with asking_hub(name, "data set", example='hf("uoft-cs/cifar10")', otherwise=otherwise) as api:
        # The one listing that is not tried again for half a minute when there is no network.
        info = api.dataset_info(name, timeout=TIMEOUT, files_metadata=True)
        sizes = {file.rfilename: file.size or 0 for file in info.siblings or []}
        splits = _shards(name, config, sizes)
        fetched = [
            tuple(api.hf_hub_download(name, shard, repo_type="dataset", revision=info.sha) for shard in shards)
            for shards in splits
        ]
    return fetched[0], fetched[1]


@contextmanager
def asking_hub(name: str, kind: str, *, example: str, otherwise: str) -> Generator[Any]:
    """A ``huggingface_hub.HfApi``, to be asked about the repository ``name``; what it raises becomes one line.

    Parameters:
        kind: what the repository holds, as in ``data set``.
        example: a name of that kind as a user writes it.
        otherwise: what to do where the hub can't be reached.

    Raises `UsageError` for a name that the hub does not have, `WhorlError` when it cannot be reached or answers as the
    hub never does, `MissingExtra` without huggingface_hub.
    """
    try:
        from huggingface_hub import HfApi
        from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError, RevisionNotFoundError
    except ImportError:
        raise MissingExtra(f"{kind}s of the Hugging Face hub", "hub") from None
    try:
        yield HfApi()
    except WhorlError:
        raise
    except HFValidationError:
        raise UsageError(f"{name!r} is no name of a {kind}; give one as in {example}") from None
    except (RepositoryNotFoundError, RevisionNotFoundError):
        raise UsageError(
            f"the hub has no {kind} {name!r} that you may read; check the name, or type: hf auth login"
        ) from None
    except Exception as error:  # whichever HTTP library the client uses, and answers that are not the hub's
        reason = (str(error).splitlines() or [""])[0] or type(error).__name__
        raise WhorlError(
            f"cannot get {name!r} from the Hugging Face hub: {reason[:200]}. Check the network, or {otherwise}."
        ) from None


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
