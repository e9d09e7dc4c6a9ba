"""What the workers of a run do, they do once."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from tiny_suite import least_suite

from whorl.bench.runner import run
from whorl.zoo import making


def test_a_suspect_is_opened_once_for_all_fingerprints(tmp_path, monkeypatch):
    suite = least_suite()
    run(suite, folder=tmp_path, workers=1)
    opened, read_model = Counter(), making.read_model

    def counting(path):
        opened[path.stem.partition("-")[0]] += 1
        return read_model(path)

    monkeypatch.setattr(making, "read_model", counting)
    result = run(replace(suite, alpha=0.3), folder=tmp_path, workers=1)  # other cells, the same fingerprints
    assert len(result.cells) == 8
    nets = [suspect.recipe for suspect in suite.suspects() if not suspect.recipe.is_estimator]
    assert opened == {recipe.digest: 1 for recipe in nets}
