"""Settings that were chosen on the models that are to judge: the next calibration remembers, and the verdict tells."""

from __future__ import annotations

import pytest

import whorl
from whorl.errors import InvalidFile
from whorl.fingerprints.files import write_fingerprint
from whorl.schemes.opening import read_fingerprint
from whorl.testing import tiny_net, tiny_victim


@pytest.fixture(scope="module")
def nets():
    return {str(seed): tiny_net(seed=seed) for seed in range(100, 104)}


def calibrated(nets, log, *, scheme="random", seed=0, budget=4):
    made = whorl.extract(tiny_victim(), data="digits(size=8)", scheme=scheme, budget=budget, seed=seed)
    return whorl.calibrate(made, nets, pool="nets", log=log)


def told(fingerprint):
    return [each for each in whorl.verify(fingerprint, tiny_net(seed=7), alpha=0.5).caveats if "other settings" in each]


def test_a_verdict_tells_of_other_settings_that_the_same_models_calibrated(nets, tmp_path):
    assert told(calibrated(nets, tmp_path)) == []
    assert told(calibrated(nets, tmp_path)) == [], "the same settings again are no choice"
    assert "seed 0, 4 queries" in told(calibrated(nets, tmp_path, seed=1))[0]
    assert "and 1 more" in told(calibrated(nets, tmp_path, budget=5))[0]
    assert told(calibrated(nets, None, seed=2)) == [], "nothing is remembered where no folder is given"


def test_it_is_no_choice_on_other_models_by_another_scheme_or_of_another_victim(nets, tmp_path):
    calibrated(dict(list(nets.items())[:2]), tmp_path)
    assert told(calibrated(dict(list(nets.items())[2:]), tmp_path, seed=1)) == []
    assert told(calibrated(nets, tmp_path, scheme="ipguard(iterations=2)")) == []
    other = whorl.extract(tiny_victim(seed=9), data="digits(size=8)", scheme="random", budget=5)
    assert told(whorl.calibrate(other, nets, pool="nets", log=tmp_path)) == []


def test_the_file_keeps_it_and_its_id_holds_it(nets, tmp_path):
    calibrated(nets, tmp_path)
    known = calibrated(nets, tmp_path, seed=1)
    write_fingerprint(known, tmp_path / "a.fp")
    again = read_fingerprint(tmp_path / "a.fp")
    assert again.calibration.earlier == known.calibration.earlier
    assert len(again.calibration.earlier) == 1
    assert told(again)


@pytest.mark.parametrize("text", ["{}", "no json", '{"settings":"random","models":[1]}', "\xff"])
def test_a_damaged_memory_is_one_clear_line(nets, tmp_path, text):
    calibrated(nets, tmp_path)
    (path,) = tmp_path.iterdir()
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(InvalidFile, match="move it away to begin another"):
        calibrated(nets, tmp_path, seed=1)
