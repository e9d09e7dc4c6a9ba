"""Fixtures for every room."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from families import make
from real_server import MLServer

from whorl.testing import tiny_data, tiny_victim


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    """Nets of the tests are so small that a second thread costs more than it gives, above all beside other tests."""
    torch.set_num_threads(1)


@pytest.fixture
def victim():
    """An oracle around a tiny net that the test may change, granting everything; trained once per session."""
    return tiny_victim()


@pytest.fixture(scope="session")
def attacker_data():
    """What the thief holds."""
    return tiny_data("attacker")


@pytest.fixture(scope="session")
def held_out():
    """Pictures on which nobody trained."""
    return tiny_data("test")


@pytest.fixture(scope="session")
def mlserver(tmp_path_factory):
    """One MLServer for the whole session: ``url, name = mlserver("model.onnx")`` serves a file through it."""
    server = MLServer(tmp_path_factory.mktemp("mlserver"))
    try:
        server.wait()
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="session")
def saved(tmp_path_factory):
    """``saved(family, seed)``: the folder that `transformers` writes."""
    folders: dict[tuple[str, int], Path] = {}

    def save(family: str, seed: int = 0) -> Path:
        if (family, seed) not in folders:
            folder = tmp_path_factory.mktemp(f"{family}-{seed}")
            make(family, seed).save_pretrained(folder)
            folders[family, seed] = folder
        return folders[family, seed]

    return save
