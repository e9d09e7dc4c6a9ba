"""Stages of a job: what is left of each runs, what is made is kept before it counts, and all of it can be forgotten."""

from __future__ import annotations

from pathlib import Path

import pytest

from whorl.engine.stages import Stages


def write(path, text, folder, device):
    Path(path).write_text(f"{text} {folder} {device}")
    return len(text)


def double(names, folder, device):
    del folder, device
    return {name: 2 * int(name) for name in names}


def fail(folder, device):
    raise ValueError(folder, device)


@pytest.fixture
def told():
    return []


@pytest.fixture
def stages(tmp_path, told):
    return lambda **options: Stages(tmp_path, workers=1, progress=lambda *each: told.append(each), **options)


def test_a_task_knows_the_folder_the_device_and_the_gpu_that_it_takes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = [Stages(Path("cache"), device=device).task(write, "a", name="b") for device in ("cpu", "mps", "cuda:1")]
    assert [each.gpus for each in found] == [0, 0, 1]
    assert found[2].arguments == ("a", str(tmp_path / "cache"), "cuda:1")


def test_files_that_are_there_stay_unless_all_is_made_afresh(tmp_path, stages, told):
    paths = [str(tmp_path / name) for name in "ab"]

    def made(text, **options):
        job = stages(**options)
        return job.files("files", {path: job.task(write, path, text, name=path) for path in paths})

    Path(paths[0]).write_text("old")
    assert made("new") == {paths[1]: 3}
    assert told == [("files", 1, 2), ("files", 2, 2)]
    assert (Path(paths[0]).read_text(), Path(paths[1]).read_text()) == ("old", f"new {tmp_path} cpu")
    assert made("newer", fresh=True).keys() == set(paths)
    assert all(Path(path).read_text().startswith("newer") for path in paths)


def cells(job, groups):
    asked = []

    def ask(group, names):
        asked.append((group, names))
        return job.task(double, names, name=str(group))

    job.cells("cells", groups, ask)
    return asked


def test_only_cells_that_are_missing_are_asked_and_each_is_kept_under_its_key(stages, told):
    job = stages()
    job.store.put("k2", 0)
    groups = {"one": {"1": "k1", "2": "k2"}, "two": {"2": "k2"}, "three": {"3": "k3"}}
    assert cells(job, groups) == [("one", ("1",)), ("three", ("3",))]
    assert job.store.get_many(["k1", "k2", "k3"]) == {"k1": 2, "k2": 0, "k3": 6}
    assert told == [("cells", 1, 3), ("cells", 2, 3), ("cells", 3, 3)]
    assert cells(stages(), groups) == []
    assert [group for group, _ in cells(stages(fresh=True), groups)] == ["one", "two", "three"]
    assert job.store.get("k2") == 4


def test_what_was_made_before_a_task_failed_is_kept(stages):
    job = stages()

    def ask(group, names):
        return job.task(double, names, name="a") if group == 1 else job.task(fail, name="b")

    with pytest.raises(ValueError, match="cpu"):
        job.cells("cells", {1: {"1": "k1"}, 2: {"2": "k2"}}, ask)
    assert job.store.missing(["k1", "k2"]) == {"k2"}
