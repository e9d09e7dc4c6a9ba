"""The contract of a net of the catalog: its shape, its objective, its chance, and units that are what it says."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Final

import torch
from torch import Tensor, nn

from whorl.nets import NETS
from whorl.nets.base import Decoder, HiddenUnits, Net
from whorl.nets.training import build
from whorl.testing.promises import promise
from whorl.testing.unchanged import chance_unchanged, same_bytes

__all__ = ["check_net"]

COUNT: Final = 5
TOLERANCE: Final = 1e-4  # relative


def check_net(architecture: str, *, input_shape: tuple[int, int, int] = (3, 16, 16), classes: int = 7) -> None:
    """Raise `AssertionError` unless nets of an architecture keep the contract.

    Parameters:
        architecture: an expression of `NETS`, as in ``mlp(width=8)``.
        input_shape, classes: what to build it for.

    Raises:
        UsageError: it cannot be built at all; the message says what is needed.
    """
    bound = str(NETS.bind(architecture))
    promise(str(NETS.bind(bound)) == bound, f"{architecture} with its defaults is {bound}, which reads back otherwise")

    def drawn(seed: int) -> nn.Module:
        return build(architecture, input_shape, classes, torch.Generator().manual_seed(seed))

    with chance_unchanged(architecture):
        net = drawn(0)
    assert isinstance(net, Net)  # `build` refuses anything else
    promise(
        (net.input_shape, net.classes) == (input_shape, classes),
        f"{architecture} was built for {input_shape} and {classes}, and says {net.input_shape} and {net.classes}",
    )
    _check_chance(architecture, net, drawn)
    inputs = torch.rand(COUNT, *input_shape, generator=torch.Generator().manual_seed(1))
    _check_answers(architecture, net, inputs)
    _check_objective(architecture, net, inputs)
    _check_standardise(architecture, net, inputs)
    _check_units(architecture, net, inputs)


def _check_chance(name: str, net: nn.Module, drawn: Callable[[int], nn.Module]) -> None:
    states = [each.state_dict() for each in (net, drawn(0), drawn(1))]
    for key, value in states[0].items():
        promise(same_bytes(value, states[1][key]), f"{name}: {key} differs between two nets of the same seed")
    promise(
        any(not same_bytes(value, states[2][key]) for key, value in states[0].items()),
        f"{name} gives the same net for another seed",
    )


def _check_answers(name: str, net: Net, inputs: Tensor) -> None:
    net.eval()
    with torch.inference_mode(), chance_unchanged(name):
        answers = net(inputs)
        single = torch.cat([net(each) for each in inputs.split(1)])
    due = (len(inputs), net.classes)
    promise(
        answers.shape == due and answers.is_floating_point(),
        f"{name} answers {list(answers.shape)} {answers.dtype}; float [n, classes] = {list(due)} is due",
    )
    promise(bool(answers.isfinite().all()), f"{name} answers with NaN or infinity")
    promise(_alike(single, answers), f"{name} in evaluation answers otherwise when it is asked one by one")


def _check_objective(name: str, net: Net, inputs: Tensor) -> None:
    net = copy.deepcopy(net).train()
    generator = torch.Generator().manual_seed(2)
    pictures = inputs
    if isinstance(net, Decoder):  # it learns from pictures of as many pixels as it makes
        pictures = torch.rand(len(inputs), 1, 1, net.classes, generator=generator)
    targets = torch.arange(len(inputs)) % net.classes
    if net.task == "regression":
        targets = torch.rand(len(inputs), net.classes, generator=generator)
    with chance_unchanged(name):
        loss = net.objective(pictures, targets, generator)
    promise(loss.ndim == 0 and bool(loss.isfinite()), f"the objective of {name} is {loss}, not one finite number")
    loss.backward()
    slopes = {key: value.grad for key, value in net.named_parameters() if value.requires_grad}
    promise(
        any(slope is not None and bool(slope.any()) for slope in slopes.values()), f"{name} learns nothing: no gradient"
    )
    promise(
        all(slope is None or bool(slope.isfinite().all()) for slope in slopes.values()),
        f"a gradient of the objective of {name} is NaN or infinite",
    )


def _check_standardise(name: str, net: Net, inputs: Tensor) -> None:
    net = copy.deepcopy(net)
    parameters = {key: value.detach().clone() for key, value in net.named_parameters()}
    net.standardise(inputs)
    moved = [key for key, value in net.named_parameters() if not same_bytes(value, parameters[key])]
    promise(not moved, f"{name}.standardise writes to weights: {', '.join(moved)}")


def _check_units(name: str, net: Net, inputs: Tensor) -> None:
    """Units that are what the net says can change places without a change of its function."""
    net, generator = copy.deepcopy(net).eval(), torch.Generator().manual_seed(3)
    for value in net.parameters():  # fresh norms are alike in every unit, so that none would be missed
        value.data += 0.1 * torch.randn(value.shape, generator=generator)
    for number in range(len(net.hidden_units())):
        changed = copy.deepcopy(net)
        _reverse(changed.hidden_units()[number])
        with torch.inference_mode():
            same = _alike(changed(inputs), net(inputs))
        promise(same, f"the hidden units {number} of {name} are not what it says: reversed, they change its answers")


def _reverse(units: HiddenUnits) -> None:
    made = units.count
    order = torch.arange(made - 1, -1, -1)
    for layer in (units.producer, *units.carriers):
        for tensor in (*layer.parameters(recurse=False), *layer.buffers(recurse=False)):
            if tensor.ndim and tensor.shape[0] == made:
                tensor.data = tensor.data[order]
    weight = units.consumer.weight
    wide = weight.shape[1] // made  # positions that a unit has once it is flattened
    weight.data = weight.data.unflatten(1, (made, wide))[:, order].flatten(1, 2)


def _alike(first: Tensor, second: Tensor) -> bool:
    return bool((first - second).abs().max() <= TOLERANCE * second.abs().max().clamp_min(1e-6))
