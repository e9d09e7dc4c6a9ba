"""Pictures are told apart by what they show, not by where they lie: other files of the same name give new cells."""

from __future__ import annotations

import pytest
from PIL import Image
from tiny_suite import models, tiny_suite

from whorl.bench.grid import plan, run_grid
from whorl.bench.quality import measure_quality
from whorl.bench.runner import run
from whorl.data.base import _loaded
from whorl.engine.store import Store
from whorl.suites.suite import Derived
from whorl.zoo.code import content_key, content_of_model


@pytest.fixture
def place(tmp_path):
    """Call it for other pictures at the same place, as a process of its own would find them."""
    link = tmp_path / "pictures"

    def exchange(number):
        folder = tmp_path / f"project {number}"
        for kind in ("ant", "bee"):
            (folder / kind).mkdir(parents=True)
            for each in range(30):
                Image.effect_noise((8, 8), 90).save(folder / kind / f"{each}.png")
        link.unlink(missing_ok=True)
        link.symlink_to(folder)
        content_of_model.cache_clear()
        _loaded.cache_clear()
        return f"folder('{link}', size=8)"

    return exchange


def suite_on(data):
    settings = f"{data}, epochs=1"
    return tiny_suite(
        data=data,
        victims=models("mlp(width=4)", settings, (0,)),
        derived=(Derived("int8", "quantise(int8)"),),
        independents={"same": models("mlp(width=4)", settings, (10,))},
        null=models("mlp(width=4)", settings, (20, 21)),
        known=(),
        schemes={"random": "random"},
        sweep={},
        chosen="",
        budget=4,
        budgets={},
    )


def test_a_run_on_other_pictures_of_the_same_name_is_another(place, tmp_path):
    cache = tmp_path / "cache"
    found = []
    for number in range(2):
        suite = suite_on(place(number))
        for again in range(2):
            run(suite, folder=cache, workers=1)
            run_grid(plan(suite, schemes="random+labels+hamming", budgets=(10,), seeds=1), folder=cache, workers=1)
            measure_quality(suite, folder=cache, workers=1)
            counts = [len(list((cache / kind).glob("*.safetensors"))) for kind in ("fingerprints", "queries")]
            found.append([*counts, len(Store(cache / "results.sqlite"))])
            assert again == 0 or found[-1] == found[-2]
    assert found[2] == [2 * count for count in found[0]]


def test_data_without_files_leave_keys_as_they_were(place):
    (drawn,) = models("mlp(width=4)", "digits(size=8)", (0,))
    assert content_key([drawn], "digits(size=8)") == {}
    data = place(0)
    (read,) = models("mlp(width=4)", data, (0,))
    assert content_key([drawn, read]).keys() == content_key([drawn], data).keys() == {"content"}
