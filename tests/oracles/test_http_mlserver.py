"""The Open Inference Protocol against a real MLServer."""

import numpy as np
import pytest
import torch
from linear_oracle import linear_weights, pictures
from torch.testing import assert_close

from whorl.errors import OracleError
from whorl.oracles.convention import InputConvention
from whorl.oracles.http import HttpOracle, HttpSettings
from whorl.oracles.recorded import Recorded
from whorl.types import Access

SHAPE = (3, 8, 6)
CLASSES = 5
INPUTS = pictures(50, shape=SHAPE)


@pytest.fixture(scope="module")
def linear(mlserver, tmp_path_factory):
    path = tmp_path_factory.mktemp("linear") / "linear.npy"
    np.save(path, linear_weights(3 * 8 * 6, CLASSES).numpy())
    return mlserver(path)


@pytest.fixture(scope="module")
def convolution(mlserver, tmp_path_factory):
    """A small network as ONNX behind MLServer, and the module itself."""
    torch.manual_seed(0)
    module = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(4 * 6 * 4, CLASSES)
    ).eval()
    path = tmp_path_factory.mktemp("convolution") / "convolution.onnx"
    torch.onnx.export(module, (torch.rand(2, *SHAPE),), path, dynamo=True, dynamic_shapes=({0: "n"},), verbose=False)
    return module, mlserver(path)


def oracle(served, *, access=Access.LOGITS, shape=SHAPE, convention=None, **settings):
    url, model = served
    return HttpOracle(
        HttpSettings(url=url, model=model, batch=8, concurrency=3, **settings),
        input_shape=shape,
        classes=CLASSES,
        access=access,
        convention=convention,
    )


def test_a_linear_model_answers_as_here(linear):
    expected = INPUTS.flatten(1) @ linear_weights(3 * 8 * 6, CLASSES)
    assert_close(oracle(linear, flat=True).logits(INPUTS), expected)


def test_normalisation_happens_before_sending(linear):
    convention = InputConvention(range=(-1, 1), mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7))
    sent = (INPUTS * 2 - 1 - torch.tensor([0.1, 0.2, 0.3]).view(3, 1, 1)) / torch.tensor([0.5, 0.6, 0.7]).view(3, 1, 1)
    expected = sent.flatten(1) @ linear_weights(3 * 8 * 6, CLASSES)
    assert_close(oracle(linear, flat=True, convention=convention).logits(INPUTS), expected, atol=1e-4, rtol=1e-4)


def test_an_onnx_model_answers_as_the_module_and_is_recorded(convolution, tmp_path):
    module, served = convolution
    expected = module(INPUTS).detach()
    endpoint = oracle(served)
    recorded = Recorded(endpoint, tmp_path / "answers.sqlite")
    assert_close(recorded.logits(INPUTS), expected, atol=1e-5, rtol=1e-4)
    assert_close(recorded.logits(INPUTS), expected, atol=1e-5, rtol=1e-4)
    assert endpoint.sent == endpoint.queries_spent == len(INPUTS)


def test_a_shape_that_the_model_does_not_take_is_refused_before_the_first_query(convolution, linear):
    endpoint = oracle(convolution[1], convention=InputConvention(layout="NHWC"))
    with pytest.raises(OracleError, match=r"takes inputs of shape \[-1, 3, 8, 6\]; \[n, 8, 6, 3\] would be sent"):
        endpoint.logits(INPUTS)
    unflattened = oracle(linear)
    with pytest.raises(OracleError, match=r"http\.flat"):
        unflattened.logits(INPUTS)
    assert endpoint.sent == unflattened.sent == 0


def test_a_model_that_is_not_there_ends_in_one_line(linear):
    endpoint = oracle((linear[0], "missing"))
    with pytest.raises(OracleError, match=r"/v2/models/missing/infer answers 404: .*missing") as refusal:
        endpoint.logits(INPUTS[:1])
    assert "\n" not in str(refusal.value)


def test_logits_declared_as_probabilities_are_found_out(linear):
    with pytest.raises(OracleError, match="is no probability; if these are logits"):
        oracle(linear, flat=True, access=Access.PROBABILITIES).probabilities(INPUTS)
