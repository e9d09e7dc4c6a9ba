from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub.constants
import pytest
import torch
from hub_server import COMMIT, Hub, point_at, running_hub
from huggingface_hub import close_session
from written_pictures import NAMES, encode, keys, labelled, write

from whorl.data import PARTS, SOURCES
from whorl.data.hub import HubDataset
from whorl.data.parquet import Parquet
from whorl.errors import InvalidFile, UsageError, WhorlError

INFO = "/api/datasets/"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """The stand-in of the hub, with the client pointed at it and its cache in the test's own folder."""
    with running_hub(tmp_path, monkeypatch) as server:
        yield server


def shard(folder: Path, seed: int, *, first: int = 0, last: int | None = None) -> bytes:
    pictures, labels = labelled(seed)
    encoded = [encode(picture) for picture in pictures[first:last]]
    return Path(write(folder / "shard.parquet", encoded, labels[first:last], names=list(NAMES))).read_bytes()


def test_shards_are_fetched_once_and_read_as_parquet_files_are(hub: Hub, tmp_path: Path) -> None:
    whole, test = shard(tmp_path, 0), shard(tmp_path, 1)
    hub.repositories["someone/insects"] = {
        "README.md": b"pictures",
        "data/train-00001-of-00002.parquet": shard(tmp_path, 0, first=70),
        "data/train-00000-of-00002.parquet": shard(tmp_path, 0, last=70),
        "data/test-00000-of-00001.parquet": test,
        "data/train_extra-00000-of-00001.parquet": shard(tmp_path, 2),
        "data/../../train.parquet": shard(tmp_path, 3),
    }
    (tmp_path / "train.parquet").write_bytes(whole)
    (tmp_path / "test.parquet").write_bytes(test)
    local = Parquet(str(tmp_path / "train.parquet"), str(tmp_path / "test.parquet"), seed=7)
    for part in PARTS:
        fetched, read = HubDataset("someone/insects", seed=7).load(part), local.load(part)
        assert torch.equal(fetched.images, read.images)
        assert torch.equal(fetched.labels, read.labels)
        assert fetched.classes == NAMES
        assert fetched.expression == 'hf(name="someone/insects", config="", size=0, seed=7)'
        assert fetched.expression == str(SOURCES.bind('hf("someone/insects", seed=7)'))
    gets = [asked for asked in hub.asked if asked.startswith("GET") and "someone/insects" in asked]
    assert len(gets) == len(set(gets)) == 4
    assert not any(word in asked for asked in hub.asked for word in ("extra", "README", ".."))


def test_without_a_test_split_validation_takes_its_place_and_else_train_is_divided(hub: Hub, tmp_path: Path) -> None:
    hub.repositories["a/with"] = {"train.parquet": shard(tmp_path, 0), "validation.parquet": shard(tmp_path, 1)}
    hub.repositories["a/without"] = {"default/train/0000.parquet": shard(tmp_path, 0)}
    assert keys(HubDataset("a/with").load("test").images) == {p.transpose(2, 0, 1).tobytes() for p in labelled(1)[0]}
    assert sum(len(HubDataset("a/without", size=8).load(part)) for part in PARTS) == len(labelled()[0])


def test_several_configs_need_one_to_be_named(hub: Hub, tmp_path: Path) -> None:
    hub.repositories["a/several"] = {
        "large/train-00000-of-00001.parquet": shard(tmp_path, 0),
        "small/train-00000-of-00001.parquet": shard(tmp_path, 0, last=60),
    }
    for config in ("", "middle"):
        with pytest.raises(UsageError, match="has the configs large, small; give one, as in config=large"):
            HubDataset("a/several", config).load("victim")
    assert sum(len(HubDataset("a/several", "small").load(part)) for part in PARTS) == 60


def test_what_the_hub_does_not_have_is_said_in_one_line(hub: Hub) -> None:
    hub.repositories["a/script"] = {"loader.py": b"print(1)", "data/test-00000-of-00001.parquet": b""}
    refusals = {
        "a/absent": "no data set 'a/absent' that you may read; check the name, or type: hf auth login",
        "../../etc": "no name of a data set",
        "a/script": "no parquet files of a split train",
    }
    for name, reason in refusals.items():
        with pytest.raises(UsageError, match=reason) as caught:
            HubDataset(name).load("victim")
        assert str(caught.value).isprintable()
    with pytest.raises(UsageError, match="size=2"):
        HubDataset("a/absent", size=2)


def test_hostile_repositories_are_refused(hub: Hub) -> None:
    hub.repositories["a/damaged"] = {"train.parquet": b"no parquet"}
    hub.repositories["a/huge"] = {"data/train.parquet": b"", "data/test.parquet": b""}
    hub.sizes["data/train.parquet"] = 40 * 2**30
    with pytest.raises(InvalidFile, match=r"train\.parquet is damaged or no parquet file"):
        HubDataset("a/damaged").load("victim")
    with pytest.raises(InvalidFile, match="has 40 GiB; at most 32 are fetched"):
        HubDataset("a/huge").load("victim")
    assert not any("huge" in asked for asked in hub.asked if INFO not in asked)


@pytest.mark.parametrize(
    "answer",
    [(200, b"<html>Log in to this network</html>"), (200, b"[]"), (200, b"{}"), (500, b"sorry"), (418, b"\xff")],
)
def test_answers_that_are_not_the_hubs_end_in_one_line(hub: Hub, answer: tuple[int, bytes]) -> None:
    hub.plain["a/odd"] = answer
    with pytest.raises(WhorlError, match=r"cannot get 'a/odd' from the Hugging Face hub: .*use parquet\(") as caught:
        HubDataset("a/odd").load("victim")
    assert str(caught.value).isprintable()


def test_a_file_that_is_listed_but_absent_ends_in_one_line(hub: Hub, tmp_path: Path) -> None:
    hub.repositories["a/gone"] = {"train.parquet": shard(tmp_path, 0)}
    listing = {"id": "a/gone", "sha": COMMIT, "siblings": [{"rfilename": "train-0.parquet", "size": 9}]}
    hub.plain["a/gone"] = (200, json.dumps(listing).encode())
    with pytest.raises(WhorlError, match="cannot get 'a/gone'") as caught:
        HubDataset("a/gone").load("victim")
    assert str(caught.value).isprintable()


def test_without_a_network_one_line_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:  # bound but not listening: a connection is refused at once
        taken.bind(("127.0.0.1", 0))
        point_at(taken.getsockname()[1], tmp_path, monkeypatch)
        for offline in (False, True):
            monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", offline)
            close_session()
            with pytest.raises(WhorlError, match=r"cannot get 'a/far' from .* Check the network, or") as caught:
                HubDataset("a/far").load("victim")
            assert str(caught.value).isprintable()
    close_session()
