"""One small case for every verb: a model, its stolen copy, strangers, and what was made of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from whorl import ownership, populations
from whorl.cli.app import app
from whorl.cli.exits import VERBS, codes_of
from whorl.fingerprints.files import write_fingerprint
from whorl.nets.files import write_model
from whorl.removals import REMOVALS
from whorl.testing import tiny_data, tiny_net, tiny_victim

NET = "mlp(width=32)"
SCHEME = "ipguard(learning_rate=0.01)"
QUERIES = 40


@dataclass(frozen=True)
class Case:
    """Paths of the case. ``raw`` is the fingerprint without a null, ``calibrated`` with one of 19 models."""

    folder: Path
    victim: Path
    stolen: Path
    stranger: Path
    independents: Path
    raw: Path
    calibrated: Path
    queries: int = QUERIES


def save(net, path):
    path.parent.mkdir(exist_ok=True)
    write_model(net, path, architecture=NET, input_shape=net.input_shape)
    return path


@pytest.fixture(scope="session")
def case(tmp_path_factory):
    folder = tmp_path_factory.mktemp("case")
    victim = tiny_victim(architecture=NET)
    tune = REMOVALS.make("fine_tune(all, epochs=1)")
    stolen = tune(victim, tiny_data("attacker"), generator=torch.Generator().manual_seed(1))
    nets = {seed: tiny_net(seed=seed, part="calibration", architecture=NET) for seed in range(10, 29)}
    copies = populations.copies(victim, ["fine_tune(all, epochs=1)"], data="digits(size=8)", count=14)
    raw = ownership.extract(victim, data="digits(size=8)", scheme=SCHEME, budget=QUERIES)
    calibrated = ownership.calibrate(
        raw, {str(seed): net for seed, net in nets.items()}, pool="19 nets", derived=copies
    )
    write_fingerprint(raw, folder / "raw.fp")
    write_fingerprint(calibrated, folder / "calibrated.fp")
    for seed, net in nets.items():
        save(net, folder / "independents" / f"{seed}.safetensors")
    return Case(
        folder=folder,
        victim=save(victim.module, folder / "victim.safetensors"),
        stolen=save(stolen, folder / "stolen.safetensors"),
        stranger=save(tiny_net(seed=43, architecture=NET), folder / "stranger.safetensors"),
        independents=folder / "independents",
        raw=folder / "raw.fp",
        calibrated=folder / "calibrated.fp",
    )


@pytest.fixture
def whorl(tmp_path, monkeypatch):
    """Runs a verb in this process: ``whorl("verify", fp, suspect)`` has exit_code, stdout and stderr."""
    monkeypatch.setenv("WHORL_CACHE", str(tmp_path / "cache"))

    def run(*arguments):
        result = CliRunner().invoke(app, [str(argument) for argument in arguments])
        unexpected = result.exception is not None and not isinstance(result.exception, SystemExit)
        assert not unexpected, f"a traceback instead of one line: {result.exception!r}"
        words = [str(argument) for argument in arguments]
        verb = next((name for name in (" ".join(words[:2]), " ".join(words[:1])) if name in VERBS), None)
        assert verb is None or result.exit_code in codes_of(verb), f"the help of {verb} states no {result.exit_code}"
        return result

    return run
