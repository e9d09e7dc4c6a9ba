"""Models built from recipes: over two processes, after a kill, with cards that tell the truth."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

from whorl.data.base import _loaded
from whorl.engine.tasks import Task
from whorl.engine.workers import run_tasks
from whorl.errors import InvalidFile, UsageError, WhorlError
from whorl.nets.files import read_model
from whorl.nets.training import predict
from whorl.oracles.sklearn import SklearnOracle
from whorl.testing import tiny_data
from whorl.types import Access
from whorl.zoo.cache import Zoo, default_cache
from whorl.zoo.code import content_of_model
from whorl.zoo.recipe import parse_recipe

VICTIM = parse_recipe("train(mlp(width=16), digits(size=8), epochs=6, seed=1)")
TUNED = VICTIM.then("fine_tune(last, epochs=1)")
COARSE = TUNED.then("quantise(int4)")
STUDENT = VICTIM.then("extract('mlp(width=8)', epochs=2)")
PRUNED = VICTIM.then("prune_weights(0.95, epochs=1)")
FOREST = parse_recipe("train(random_forest(trees=5), digits(size=8), part=calibration, seed=2)")
LATER = parse_recipe("train(mlp(width=16), digits(size=8), epochs=6, share=0.5, seed=2)")


@pytest.fixture(scope="module")
def zoo(tmp_path_factory):
    """Built by two workers; only leaves are asked for, so ancestors come along."""
    made = Zoo(tmp_path_factory.mktemp("cache"))
    made.told = []
    made.build([COARSE, STUDENT, PRUNED, FOREST], workers=2, progress=lambda *told: made.told.append(told))
    return made


def test_ancestors_are_built_first_and_once(zoo):
    wanted = (VICTIM, TUNED, COARSE, STUDENT, PRUNED, FOREST)
    assert {card.digest for card in zoo.cards()} == {recipe.digest for recipe in wanted}
    assert zoo.told == [("models", done, 6) for done in range(7)]
    made = [zoo.card_path(recipe).stat().st_mtime_ns for recipe in (VICTIM, TUNED, COARSE)]
    assert made == sorted(made)
    assert LATER not in zoo


def test_cards_tell_the_truth(zoo):
    test = tiny_data("test")
    victim = zoo.oracle(VICTIM).labels(test.inputs())
    for recipe in (VICTIM, TUNED, COARSE, STUDENT, PRUNED, FOREST):
        card, labels = zoo.card(recipe), zoo.oracle(recipe).labels(test.inputs())
        assert card.recipe == str(recipe)
        assert card.digest == recipe.digest
        assert card.data == "digits(size=8, seed=0)"
        assert card.accuracy == pytest.approx(float((labels == test.labels).float().mean()))
        if recipe.parent:
            assert card.agreement == pytest.approx(float((labels == victim).float().mean()))
            assert card.victim_accuracy == zoo.card(VICTIM).accuracy
        assert card.seconds >= 0
    assert zoo.card(VICTIM).agreement == 1
    assert zoo.card(COARSE).parents == [TUNED.digest, VICTIM.digest]
    assert zoo.card(VICTIM).parents == []
    assert (zoo.card(COARSE).part, zoo.card(FOREST).part, zoo.card(VICTIM).part) == (
        "attacker",
        "calibration",
        "victim",
    )
    assert (zoo.card(FOREST).seed, zoo.card(COARSE).seed) == (2, 0)
    assert [card.recipe for card in zoo.cards()] == sorted(card.recipe for card in zoo.cards())
    assert len(list(zoo.cards())) == 6


def test_copies_that_lost_more_than_five_points_are_marked(zoo):
    cards = list(zoo.cards())
    assert [card.damaged for card in cards] == [card.accuracy < card.victim_accuracy - 0.05 for card in cards]
    assert zoo.card(PRUNED).damaged, "hardly a weight is left"
    assert not zoo.card(TUNED).damaged
    assert not zoo.card(VICTIM).damaged


def test_models_are_what_their_recipes_say(zoo):
    nets = {recipe: read_model(zoo.path(recipe)) for recipe in (VICTIM, TUNED, STUDENT)}
    assert nets[STUDENT][1].architecture == "mlp(width=8, depth=1)", "the thief's own architecture"
    assert nets[TUNED][1].architecture == nets[VICTIM][1].architecture == "mlp(width=16, depth=1)"
    one, other = nets[VICTIM][0].state_dict(), nets[TUNED][0].state_dict()
    assert {key for key in one if not one[key].equal(other[key])} == {"head.weight", "head.bias"}
    assert isinstance(zoo.oracle(FOREST), SklearnOracle)
    assert zoo.oracle(VICTIM).access is Access.WEIGHTS
    assert zoo.oracle(VICTIM).digest == VICTIM.digest
    assert zoo.oracle(VICTIM, name="ours").name == "ours"


def test_workers_and_one_process_build_the_same_bytes(zoo, tmp_path):
    alone = Zoo(tmp_path)
    alone.build([COARSE], workers=1)
    for recipe in (VICTIM, TUNED, COARSE):
        inputs = tiny_data("test").inputs()
        one, other = (predict(read_model(each.path(recipe))[0], inputs) for each in (zoo, alone))
        assert one.equal(other)


def test_what_is_there_is_not_built_again(zoo):
    stamps = {path: path.stat().st_mtime_ns for path in (zoo.cache / "zoo").iterdir()}
    told = []
    zoo.build([COARSE, FOREST, VICTIM], workers=2, progress=lambda *each: told.append(each))
    assert told == [("models", 4, 4)]
    assert {path: path.stat().st_mtime_ns for path in (zoo.cache / "zoo").iterdir()} == stamps


def test_share_of_the_data_is_drawn_by_the_seed(tmp_path):
    from whorl.zoo.training import training_data

    half, again = training_data(LATER), training_data(LATER)
    other = training_data(LATER.with_seed(3))
    assert len(half) == round(len(tiny_data("victim")) / 2)
    assert half.images.equal(again.images)
    assert not half.images.equal(other.images)


def test_a_model_that_was_not_built(zoo):
    with pytest.raises(UsageError, match="whorl zoo build"):
        zoo.oracle(LATER)


def test_a_damaged_card_is_one_clear_line(zoo, tmp_path):
    broken = Zoo(tmp_path)
    (broken.cache / "zoo").mkdir(parents=True)
    for text in ("{}", "[", '{"recipe": 3}'):
        broken.card_path(VICTIM).write_text(text)
        for read in (lambda: broken.card(VICTIM), lambda: list(broken.cards())):
            with pytest.raises(InvalidFile) as caught:
                read()
            assert "\n" not in str(caught.value)


def test_a_model_with_other_weights_than_its_card_states_is_not_opened(zoo, tmp_path):
    shutil.copytree(zoo.cache / "zoo", tmp_path / "zoo")
    shared = Zoo(tmp_path)
    assert shared.oracle(VICTIM).digest
    shutil.copy(shared.path(TUNED), shared.path(VICTIM))
    with pytest.raises(InvalidFile, match="other weights than its card states"):
        shared.oracle(VICTIM)


def test_the_cache_is_where_the_environment_says(monkeypatch, tmp_path):
    monkeypatch.setenv("WHORL_CACHE", str(tmp_path))
    assert default_cache() == tmp_path
    assert Zoo().cache == tmp_path
    monkeypatch.delenv("WHORL_CACHE")
    assert default_cache() == Path.home() / ".cache" / "whorl"
    monkeypatch.setenv("WHORL_CACHE", "")
    assert default_cache() == Path.home() / ".cache" / "whorl", "not the folder that one stands in"


def test_who_has_no_home_names_a_cache(monkeypatch, tmp_path):
    monkeypatch.delenv("HOME", raising=False)
    users = {user.pw_uid for user in pwd.getpwall()}
    monkeypatch.setattr(os, "getuid", lambda: max(users) + 1)
    monkeypatch.setenv("WHORL_CACHE", str(tmp_path))
    assert default_cache() == tmp_path
    monkeypatch.delenv("WHORL_CACHE")
    with pytest.raises(UsageError, match=r"no home folder .* give --cache, or set WHORL_CACHE"):
        default_cache()


def descendants(parent: int) -> list[int]:
    """Processes that this one began, and those that they began."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == parent:
            child = int(stat.parent.name)
            found += [child, *descendants(child)]
    return found


def wait_for(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.02)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for child processes in /proc")
def test_a_killed_build_resumes(tmp_path):
    """After kill -9 no worker goes on, no half file lies under a model's name, and only what is missing is built."""
    recipes = [VICTIM.with_seed(seed) for seed in range(40)]
    script = Path(__file__).with_name("build_tiny.py")
    process = subprocess.Popen(
        [sys.executable, str(script), str(tmp_path), *map(str, recipes)], env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    zoo = Zoo(tmp_path)
    try:
        wait_for(lambda: any(recipe in zoo for recipe in recipes))
        workers = descendants(process.pid)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert workers
    wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers), seconds=20)
    done = [recipe for recipe in recipes if recipe in zoo]
    assert 0 < len(done) < len(recipes), "the kill came too late to show anything"
    for path in (zoo.cache / "zoo").glob("*.safetensors"):
        read_model(path)
    stamps = {recipe.digest: zoo.path(recipe).stat().st_mtime_ns for recipe in done}
    told = []
    zoo.build(recipes[:-1], workers=1, progress=lambda *each: told.append(each))
    assert told[0][1] == sum(recipe in done for recipe in recipes[:-1])
    assert told[-1][1] == told[-1][2]
    assert {recipe.digest: zoo.path(recipe).stat().st_mtime_ns for recipe in done} == stamps
    assert all(
        zoo.oracle(recipe).labels(tiny_data("test").inputs(slice(0, 2))).shape == (2,) for recipe in recipes[:-1]
    )


def test_tasks_that_wait_for_each_other_are_refused():
    tasks = {1: Task(abs, (-1,), (2,)), 2: Task(abs, (-2,), (1,)), 3: Task(abs, (-3,))}
    for workers in (1, 2):
        with pytest.raises(WhorlError, match="circle"):
            list(run_tasks(tasks, workers=workers))


def test_results_come_with_their_keys():
    tasks = {number: Task(pow, (number, 2), (number - 1,)) for number in range(1, 6)}
    for workers in (1, 2):
        assert list(run_tasks(tasks, workers=workers)) == [(number, number**2) for number in range(1, 6)]


def test_a_worker_that_is_killed_is_one_clear_line():
    tasks = {number: Task(os._exit, (1,)) for number in range(2)}
    with pytest.raises(WhorlError, match="run the same again"):
        list(run_tasks(tasks, workers=2))


def test_an_error_in_a_worker_arrives():
    tasks = {0: Task(int, ("x",)), 1: Task(abs, (-1,))}
    with pytest.raises(ValueError, match="invalid literal"):
        list(run_tasks(tasks, workers=2))


def test_a_folder_of_the_same_name_with_other_pictures_makes_another_model(tmp_path):
    place = tmp_path / "pictures"
    zoo = Zoo(tmp_path / "cache")
    text = f"train(mlp(width=4), only('folder({place}, size=8)', classes=[0, 1]), epochs=1)"
    for number in range(2):
        folder = tmp_path / f"project {number}"
        for name in ("ant", "bee", "cat"):
            (folder / name).mkdir(parents=True)
            for each in range(12):
                Image.effect_noise((8, 8), 90).save(folder / name / f"{each}.png")
        place.unlink(missing_ok=True)
        place.symlink_to(folder)
        content_of_model.cache_clear()  # as in a process of its own
        _loaded.cache_clear()
        assert parse_recipe(text) not in zoo
        zoo.build([parse_recipe(text)], workers=1)
    one, other = zoo.cards()
    assert one.weights != other.weights
    assert sorted(card.older for card in (one, other)) == ["", "the files of its data"]


def test_a_share_of_nothing_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"share=0.0001 of \d+ inputs is none"):
        Zoo(tmp_path).build([parse_recipe("train(mlp, digits(size=8), share=1/10000)")], workers=1)


def test_a_folder_may_be_named_by_a_text(tmp_path):
    assert Zoo(str(tmp_path)).cache == Zoo(tmp_path).cache == tmp_path
