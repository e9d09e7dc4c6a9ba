"""On the command line a message names what can be typed there."""

from __future__ import annotations

import pytest
import torch

from whorl.cli.console import typed


@pytest.mark.parametrize(
    ("message", "wanted"),
    [
        (
            "x holds weights without their architecture; give architecture=, as in 'resnet8(width=8)', timm:resnet18",
            "x holds weights without their architecture; give --architecture, as in 'resnet8(width=8)', timm:resnet18",
        ),
        (
            "does not say its input_shape; give input_shape=, classes= or",
            "does not say its input_shape; give --shape, --classes or",
        ),
        ("give input_shape=(channels, height, width)", "give --shape C,H,W"),
        ("as in architecture='resnet8(width=8)'", "as in --architecture 'resnet8(width=8)'"),
        ("to grant labels only, give access='labels'", "to grant labels only, give --set access=labels"),
        ("can be probabilities; give output=", "can be probabilities; give --set output=..."),
        ("type: --trust-host h (in Python trust_hosts=['h'])", "type: --trust-host h"),
        (
            "only(digits, classes=[0, 1]): only takes no such classes",
            "only(digits, classes=[0, 1]): only takes no such classes",
        ),
        ("f(a, output='x') is none", "f(a, output='x') is none"),
        ("type: --set key_env=A (in Python key_env='A')", "type: --set key_env=A"),
    ],
)
def test_keywords_of_python_become_options(message, wanted):
    assert typed(message) == wanted


def test_a_verb_says_what_to_type(whorl, case, tmp_path):
    torch.save({"a": torch.zeros(2)}, tmp_path / "bare.pt")
    done = whorl("extract", tmp_path / "bare.pt", "--data", "digits", "-o", tmp_path / "x.fp")
    assert "give --architecture" in done.stderr
    assert "architecture=" not in done.stderr
    done = whorl("inspect", tmp_path / "bare.pt", "--architecture", "mlp", "--data", "digits")
    assert "give --shape, --classes" in done.stderr
