"""The contract of a removal: the victim stays as it was, chance comes from the generator, access is respected."""

from __future__ import annotations

import torch
from torch import nn

from whorl.data import SOURCES, Dataset
from whorl.errors import AccessRefused
from whorl.oracles.base import Oracle
from whorl.removals.base import Removal
from whorl.testing.nets import tiny_data, tiny_victim
from whorl.testing.plugins import check_parameters
from whorl.testing.promises import promise
from whorl.testing.unchanged import chance_unchanged, lent, module_unchanged, same_bytes
from whorl.types import Access

__all__ = ["check_removal"]


def check_removal(removal: Removal) -> None:
    """Raise `AssertionError` unless the removal keeps the contract. It runs three times on `tiny_victim`."""
    name = type(removal).__name__
    check_parameters(removal)
    promise(isinstance(getattr(removal, "family", None), str) and removal.family, f"{name}.family names no family")
    promise(isinstance(removal.needs, Access), f"{name}.needs is an Access, not {removal.needs!r}")
    _check_refusal(removal)
    data = _data_of(removal)
    access = _lowest_access(removal, data)
    first, second = (_apply(removal, data, access) for _ in range(2))
    if isinstance(first, Oracle) or isinstance(second, Oracle):
        _check_served(first, second, name)
        return
    _check_output(first, name, len(data.classes))
    for (key, one), other in zip(first.state_dict().items(), second.state_dict().values(), strict=True):
        promise(same_bytes(one, other), f"{name} gives another {key} for the same seed of the generator")


def _data_of(removal: Removal) -> Dataset:
    """The thief's data: its own, where the removal names one."""
    own = removal.task
    return SOURCES.make(str(own)).load(removal.part) if own is not None else tiny_data(removal.part)


def _check_refusal(removal: Removal) -> None:
    if removal.needs is Access.LABELS:
        return
    victim = tiny_victim(Access(removal.needs - 1))
    try:
        removal(victim, _data_of(removal), generator=torch.Generator())
    except AccessRefused:
        spent = victim.queries_spent
        promise(not spent, f"{type(removal).__name__} asks {spent} queries before it refuses too little access")
        return
    raise AssertionError(f"{type(removal).__name__} declares {removal.needs.name} and is content with less")


def _lowest_access(removal: Removal, data: Dataset) -> Access:
    """The least access that these settings are content with; each lower one must be refused before the first query."""
    for access in Access:
        if access < removal.needs:
            continue
        victim = tiny_victim(access)
        try:
            removal(victim, data, generator=torch.Generator().manual_seed(0))
        except AccessRefused:
            spent = victim.queries_spent
            promise(not spent, f"{type(removal).__name__} asks {spent} queries before it refuses {access.name}")
            continue
        return access
    raise AssertionError(f"{type(removal).__name__} refuses a victim that grants everything")


def _apply(removal: Removal, data: Dataset, access: Access) -> nn.Module | Oracle:
    name = type(removal).__name__
    victim = tiny_victim(access)
    module = victim._module  # of our own making, so its access does not bind us
    lent(module)
    with chance_unchanged(name), module_unchanged(module, name):
        net = removal(victim, data, generator=torch.Generator().manual_seed(1))
    if isinstance(net, Oracle):
        return net
    own = {tensor.data_ptr() for tensor in module.state_dict().values()}
    shared = [key for key, tensor in net.state_dict().items() if tensor.data_ptr() in own]
    promise(not shared, f"the net of {name} shares memory with the victim: {', '.join(shared)}")
    return net


def _check_served(first: nn.Module | Oracle, second: nn.Module | Oracle, name: str) -> None:
    """Two oracles made alike answer alike, and as an oracle of the victim's shape does."""
    if not (isinstance(first, Oracle) and isinstance(second, Oracle)):
        raise AssertionError(f"{name} makes an oracle at one time and a net at another")
    inputs = tiny_data("test").inputs(slice(0, 20))
    one, other = first.answers(inputs), second.answers(inputs)
    promise(torch.equal(one, other), f"the oracle of {name} answers otherwise for the same seed of the generator")


def _check_output(net: nn.Module, name: str, classes: int) -> None:
    training = [key or "the whole" for key, child in net.named_modules() if child.training]
    promise(not training, f"{name} leaves the net in training mode: {', '.join(training)}")
    data = tiny_data("test")
    with torch.no_grad():
        logits = net(data.inputs(slice(0, 5)))
    wanted = (5, classes)
    promise(logits.shape == wanted, f"the net of {name} answers {list(logits.shape)}, not {list(wanted)}")
    promise(bool(logits.isfinite().all()), f"the net of {name} answers with NaN or infinity")
