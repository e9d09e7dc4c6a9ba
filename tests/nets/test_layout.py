"""Nets are trained channels last but where that would write past a buffer."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from whorl.data.base import Dataset
from whorl.nets.layout import fastest_layout, laid_out
from whorl.nets.training import Schedule, build, fit, predict
from whorl.oracles.torch import TorchOracle
from whorl.removals import REMOVALS
from whorl.symmetry.alignment.paths import recompute_statistics


def net(architecture, channels=3):
    return build(architecture, (channels, 8, 8), 10, torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("architecture", "layout"),
    [
        ("resnet8(width=4)", torch.contiguous_format),  # shortcuts of 4 channels, strided
        ("resnet8(width=8)", torch.channels_last),
        ("mlp(width=8)", torch.channels_last),
    ],
)
def test_the_layout_follows_from_the_narrowest_strided_shortcut(architecture, layout):
    made = laid_out(net(architecture))
    assert fastest_layout(made) is layout
    kernels = [each.weight for each in made.modules() if isinstance(each, torch.nn.Conv2d)]
    assert all(each.is_contiguous(memory_format=layout) for each in kernels)


def test_training_a_narrow_net_leaves_the_heap_alone():
    """In a process of its own: on some processors what is damaged shows as a crash, anywhere and later."""
    code = "from whorl.testing import tiny_net\nfor seed in range(3): tiny_net(seed=seed)\nprint('sound')"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=300,
        env={"MALLOC_CHECK_": "3", "MALLOC_PERTURB_": "165", "OMP_NUM_THREADS": "1", "PATH": "/usr/bin:/bin"},
        check=False,
    )
    assert done.stdout.strip() == "sound", done.stderr[-500:]


class Viewing(torch.nn.Module):
    """A module as many write it, which flattens by ``view``."""

    def __init__(self, channels):
        super().__init__()
        self.body = torch.nn.Sequential(
            torch.nn.Conv2d(channels, 8, 3, padding=1), torch.nn.BatchNorm2d(8), torch.nn.ReLU()
        )
        self.head = torch.nn.Linear(8 * 36, 3)

    def forward(self, inputs):
        return self.head(self.body(inputs).view(len(inputs), -1))


@pytest.mark.parametrize("channels", [1, 3])
def test_a_module_that_flattens_by_view_is_trained_changed_and_asked(channels):
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(30, channels, 6, 6, generator=generator)
    data = Dataset(images, torch.arange(30) % 3, ("a", "b", "c"), "three classes")
    made = Viewing(channels)
    assert predict(made, images).shape == (30, 3)
    before = made.head.weight.detach().clone()
    fit(made, data, Schedule(epochs=1, learning_rate=0.1, batch=10), generator=generator)
    assert not torch.equal(made.head.weight, before)
    recompute_statistics(made, images)
    victim = TorchOracle(made, input_shape=(channels, 6, 6), classes=3)
    for removal in ("fine_tune(all, epochs=1)", "merge(epochs=1)"):
        changed = REMOVALS.make(removal)(victim, data, generator=generator)
        assert predict(changed, images).shape == (30, 3), removal
    assert torch.allclose(victim.answers(images), predict(made, images), atol=1e-5)


def test_folding_norms_warns_of_nothing_that_pytorch_does_itself() -> None:
    code = "from torch import nn; from whorl.oracles.torch import frozen; frozen(nn.Sequential(nn.Conv2d(1, 1, 1)))"
    done = subprocess.run(
        [sys.executable, "-W", "error::DeprecationWarning", "-c", code], capture_output=True, text=True, timeout=60
    )
    assert not done.returncode, done.stderr
