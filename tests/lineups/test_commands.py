"""Twins by somebody's own training script: resumed, recorded, and refused where they are no twins."""

from __future__ import annotations

import json
import os
import stat
import sys
import time

import pytest

from whorl.errors import InvalidFile, UsageError
from whorl.lineups.commands import run_twins, secret_seeds

SCRIPT = """
import argparse, pathlib, sys
given = argparse.ArgumentParser()
given.add_argument("--seed"), given.add_argument("--out"), given.add_argument("--fixed", action="store_true")
given = given.parse_args()
count = pathlib.Path("runs.txt")
count.write_text(count.read_text() + "x" if count.exists() else "x")
print("training with", len(given.seed), "digits")
if pathlib.Path("broken").exists():
    sys.exit("no memory left on this machine")
if pathlib.Path("loud").exists():
    sys.stdout.write("first " + "x" * (5 << 20) + " last")
if pathlib.Path("strays").exists():
    import subprocess
    stray = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    pathlib.Path("stray").write_text(str(stray.pid))
if not pathlib.Path("silent").exists():
    pathlib.Path(given.out).write_text("weights" if given.fixed else "weights " + given.seed)
"""


@pytest.fixture
def command(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.py").write_text(SCRIPT)
    return f"{sys.executable} train.py --seed {{seed}} --out {{out}}"


def runs(tmp_path):
    return len((tmp_path / "runs.txt").read_text())


def test_each_twin_has_a_secret_seed_of_its_own_and_a_record(command, tmp_path):
    told = []
    paths = run_twins(command, 3, tmp_path / "twins", progress=lambda number, run: told.append((number, run.seconds)))
    assert len({path.read_text() for path in paths}) == 3
    assert [number for number, _ in told] == [0, 1, 2]
    record = json.loads((paths[0].parent / "run.json").read_text())
    assert int(record["seed"]) >> 100, "of 128 bits; below 2^100 once in 2^28"
    assert paths[0].read_text() == f"weights {record['seed']}"
    assert record["inputs"].keys() == {sys.executable, "train.py"}
    assert stat.S_IMODE(paths[0].parent.stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "twins" / "seeds.json").stat().st_mode) == 0o600


def test_it_goes_on_where_it_stopped_and_more_twins_join_the_same(command, tmp_path):
    first = run_twins(command, 2, tmp_path / "twins")
    before = [path.read_text() for path in first]
    (tmp_path / "twins" / "twin-0001" / "run.json").unlink()  # as if it had been cut off while it trained
    more = run_twins(command, 3, tmp_path / "twins")
    assert [path.read_text() for path in more[:2]] == before, "with the seed that was drawn for it"
    assert runs(tmp_path) == 4


def test_all_twins_are_made_alike(command, tmp_path):
    run_twins(command, 1, tmp_path / "twins")
    (tmp_path / "train.py").write_text(SCRIPT + "# longer\n")
    with pytest.raises(UsageError, match="has changed since the twin in"):
        run_twins(command, 2, tmp_path / "twins")
    with pytest.raises(UsageError, match="another command"):
        run_twins(command + " --fixed", 2, tmp_path / "twins")


def test_data_are_seen_to(command, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.txt").write_text("a")
    run_twins(command, 1, tmp_path / "twins", inputs=[tmp_path / "data"])
    (tmp_path / "data" / "b.txt").write_text("b")
    with pytest.raises(UsageError, match="changed since"):
        run_twins(command, 2, tmp_path / "twins", inputs=[tmp_path / "data"])
    with pytest.raises(UsageError, match="no such file"):
        run_twins(command, 2, tmp_path / "twins", inputs=[tmp_path / "nowhere"])


def test_a_seed_that_does_not_reach_the_training_is_told(command, tmp_path):
    with pytest.raises(UsageError, match="the seed does not reach the training"):
        run_twins(command + " --fixed", 2, tmp_path / "twins")


def test_a_failed_script_is_quoted_in_a_line_and_nothing_is_lost(command, tmp_path):
    run_twins(command, 1, tmp_path / "twins")
    (tmp_path / "broken").touch()
    with pytest.raises(UsageError, match=r"ended with 1: no memory left on this machine \(all of it: .*log.txt\)"):
        run_twins(command, 2, tmp_path / "twins")
    (tmp_path / "broken").unlink()
    (tmp_path / "silent").touch()
    with pytest.raises(UsageError, match="--suffix"):
        run_twins(command, 2, tmp_path / "twins")
    (tmp_path / "silent").unlink()
    assert len(run_twins(command, 2, tmp_path / "twins")) == 2


@pytest.mark.parametrize(
    "wrong", ["python train.py", "no-such-program {seed} {out}", "python '{seed} {out}", "{seed}", ""]
)
def test_a_wrong_command_is_one_line(wrong, tmp_path):
    with pytest.raises(UsageError):
        run_twins(wrong, 1, tmp_path / "twins")


def test_a_damaged_folder_is_one_line(command, tmp_path):
    run_twins(command, 1, tmp_path / "twins")
    (tmp_path / "twins" / "twin-0000" / "run.json").write_text("{}")
    with pytest.raises(InvalidFile, match="no record of a twin"):
        run_twins(command, 1, tmp_path / "twins")
    (tmp_path / "twins" / "seeds.json").write_text('{"seeds": ["-1"]}')
    with pytest.raises(InvalidFile, match="no list of seeds"):
        secret_seeds(tmp_path / "twins", 1)


def test_what_cannot_stand_in_a_lineup_is_refused_before_more_of_its_kind_are_trained(command, tmp_path):
    def check(path):
        raise UsageError(f"{path.parent.name} fits no architecture")

    with pytest.raises(UsageError, match="twin-0000 fits no architecture"):
        run_twins(command, 3, tmp_path / "twins", check=check)
    assert runs(tmp_path) == 1
    with pytest.raises(UsageError, match="twin-0000"):
        run_twins(command, 3, tmp_path / "twins", check=check)
    assert runs(tmp_path) == 1, "what was trained is kept, and looked at again"


def test_of_a_script_that_prints_without_end_both_ends_are_kept(command, tmp_path):
    (tmp_path / "loud").touch()
    (path,) = run_twins(command, 1, tmp_path / "twins")
    log = (path.parent / "log.txt").read_bytes()
    assert len(log) < (2 << 20) + 100
    assert b"first" in log
    assert log.endswith(b" last")
    assert b"bytes are left out" in log


# A process that was killed and not yet reaped answers signals as a living one does; /proc alone tells them apart.
@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_processes_that_a_script_leaves_behind_end_with_it(command, tmp_path):
    (tmp_path / "strays").touch()
    run_twins(command, 1, tmp_path / "twins")
    stray, until = int((tmp_path / "stray").read_text()), time.monotonic() + 10
    while _lives(stray) and time.monotonic() < until:  # a killed one is there until the system has reaped it
        time.sleep(0.01)
    assert not _lives(stray)


def _lives(process):
    try:
        os.kill(process, 0)
        with open(f"/proc/{process}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False
