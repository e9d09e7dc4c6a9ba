"""Nets are trained channels last but where that would write past a buffer."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from whorl.nets.layout import fastest_layout, laid_out
from whorl.nets.training import build


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
