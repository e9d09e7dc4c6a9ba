"""A net that predicts numbers: it learns by mean squared error, and its file may name one output."""

from __future__ import annotations

import json

import pytest
import torch
from sklearn.metrics import r2_score

from whorl.data import SOURCES
from whorl.errors import InvalidFile, UsageError
from whorl.nets.files import read_model, write_model
from whorl.nets.training import Schedule, _augment, build, determination, dimensions, fit, predict, task_of
from whorl.storage import read_tensors, write_tensors

SCHEDULE = Schedule(epochs=15, learning_rate=0.02, policy="one-cycle", batch=25)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def trained():
    data = SOURCES.make("diabetes").load("victim")
    net = build("mlp_regressor(width=32)", *dimensions("mlp_regressor", data), generator())
    net.standardise(data.inputs())
    fit(net, data, SCHEDULE, generator=generator(1))
    return net


def test_it_explains_more_of_held_out_patients_than_their_mean_does(trained):
    held_out = SOURCES.make("diabetes").load("test")
    outputs = predict(trained, held_out.inputs())
    assert outputs.shape == (len(held_out), 1)
    assert determination(outputs, held_out.labels) > 0.25
    untrained = build("mlp_regressor(width=32)", (1, 1, 10), 1, generator())
    assert determination(predict(untrained, held_out.inputs()), held_out.labels) < 0.1


def test_its_objective_is_the_mean_squared_error(trained):
    data = SOURCES.make("diabetes").load("test")
    expected = (predict(trained, data.inputs()) - data.labels).square().mean()
    assert trained.objective(data.inputs(), data.labels, generator()).item() == pytest.approx(float(expected), rel=1e-5)


def test_determination_is_the_variance_weighted_r2_and_never_negative():
    targets = torch.randn(50, 3, generator=generator())
    outputs = targets + 0.5 * torch.randn(50, 3, generator=generator(1))
    expected = r2_score(targets.numpy(), outputs.numpy(), multioutput="variance_weighted")
    assert determination(outputs, targets) == pytest.approx(expected, abs=1e-6)
    assert determination(targets, targets) == 1
    assert determination(-targets, targets) == 0


def test_file_of_one_output_round_trips(trained, tmp_path):
    path = tmp_path / "net.safetensors"
    write_model(trained, path, architecture="mlp_regressor(width=32)", input_shape=(1, 1, 10))
    read, header = read_model(path)
    assert (header.classes, header.format) == (1, 1)
    inputs = SOURCES.make("diabetes").load("test").inputs()
    assert torch.equal(predict(read, inputs), predict(trained, inputs))


def test_a_file_of_a_classifier_of_one_class_is_refused(trained, tmp_path):
    path = tmp_path / "net.safetensors"
    write_model(trained, path, architecture="mlp_regressor(width=32)", input_shape=(1, 1, 10))
    tensors, metadata = read_tensors(path)
    document = json.loads(metadata["whorl-model"]) | {"architecture": "mlp(width=32, depth=2)"}
    write_tensors(path, tensors, {"whorl-model": json.dumps(document)})
    with pytest.raises(InvalidFile, match="one class"):
        read_model(path)


def test_labels_of_another_task_are_refused(trained):
    digits, noise = SOURCES.make("digits(size=8)").load("test"), SOURCES.make("noise").load("test")
    for data in (digits, noise):
        with pytest.raises(UsageError, match="numbers to predict"):
            fit(trained, data, SCHEDULE, generator=generator())
    classifier = build("mlp", (1, 1, 10), 2, generator())
    with pytest.raises(UsageError, match="labelled pictures"):
        fit(classifier, SOURCES.make("diabetes").load("test"), SCHEDULE, generator=generator())


def test_rows_of_features_are_never_shifted():
    """Training with and without translations gives the same bytes, though translations would move features."""
    data = SOURCES.make("diabetes").load("queries")
    moved = _augment(data.inputs(), SCHEDULE, generator())
    assert not torch.equal(moved, data.inputs())
    weights = []
    for shift in (0, 1):
        net = build("mlp_regressor(width=8)", (1, 1, 10), 1, generator())
        fit(net, data, Schedule(epochs=1, learning_rate=0.01, batch=10, shift=shift), generator=generator())
        weights.append(net.head.weight)
    assert torch.equal(*weights)


def test_tasks_and_dimensions_by_name():
    digits, diabetes = SOURCES.make("digits(size=8)").load("test"), SOURCES.make("diabetes").load("test")
    assert [task_of(name) for name in ("resnet8", "mlp(width=4)", "mlp_regressor", "vae(latent=4)")] == [
        "classification",
        "classification",
        "regression",
        "generation",
    ]
    assert dimensions("resnet8", digits) == ((1, 8, 8), 10)
    assert dimensions("mlp_regressor", diabetes) == ((1, 1, 10), 1)
    assert dimensions("vae(latent=4)", digits) == ((1, 1, 4), 64)
    with pytest.raises(UsageError, match="latent"):
        dimensions("vae(latent=few)", digits)


def test_depths_that_are_none():
    with pytest.raises(UsageError, match="depth is a whole number from 1"):
        build("mlp_regressor(depth=0)", (1, 1, 10), 1, generator())
