"""Who is traced when users mix the weights of their copies, or damage them.

    python benchmarks/collusion.py -o benchmarks/results/collusion.json

Five owners with a ResNet-8 on digits each, 20 users with copies by a Tardos code for three colluders (seeds of nets,
codes and removals from 300 on; settings were chosen on others). For each owner five groups of users mix their copies in
every way of `MIXTURES`, alone where one copy is enough; what ends in "aligned" was put in the order of the owner's net
first. `traced` counts leaks with at least one guilty user accused at .001, `framed` leaks with any innocent accused.
Strangers are nets of the same recipe that hold no row, asked as they are and aligned.
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from whorl.bench.result import describe_machine
from whorl.marks.user_codes import Codes, copy_for, prepare_codes, tardos_plan, traced
from whorl.metrics import clopper_pearson
from whorl.nets.training import accuracy
from whorl.oracles.torch import TorchOracle
from whorl.removals import REMOVALS
from whorl.storage import write_json
from whorl.testing import tiny_data, tiny_net

NET, DATA = "resnet8(width=8)", "digits(size=8)"
OWNERS, GROUPS, USERS, COLLUDERS, FIRST = 5, 5, 20, 3, 300
ALPHA = 0.001

Mixture = Callable[[Sequence[nn.Module], torch.Generator], nn.Module]


def mixed(how: Callable[[Tensor, str], Tensor]) -> Mixture:
    """Every tensor of the copies, stacked, through a function of them and of its name."""

    def mix(nets: Sequence[nn.Module], generator: torch.Generator) -> nn.Module:
        del generator
        made = copy.deepcopy(nets[0])
        states = [net.state_dict() for net in nets]
        found = {name: how(torch.stack([each[name].double() for each in states]), name) for name in states[0]}
        made.load_state_dict({name: value.to(states[0][name].dtype) for name, value in found.items()})
        return made

    return mix


def weighted(nets: Sequence[nn.Module], generator: torch.Generator) -> nn.Module:
    """Averaged by random weights."""
    share = torch.rand(len(nets), generator=generator, dtype=torch.float64) + 0.2
    share /= share.sum()
    return mixed(lambda stack, _: torch.tensordot(share, stack, 1))(nets, generator)


def layers(nets: Sequence[nn.Module], generator: torch.Generator) -> nn.Module:
    """Each layer from a random copy."""
    names = sorted({name.rpartition(".")[0] for name in nets[0].state_dict()})
    whose = dict(zip(names, torch.randint(len(nets), (len(names),), generator=generator).tolist(), strict=True))
    return mixed(lambda stack, name: stack[whose[name.rpartition(".")[0]]])(nets, generator)


def then(first: Mixture, expression: str) -> Mixture:
    """A removal after mixing."""

    def mix(nets: Sequence[nn.Module], generator: torch.Generator) -> nn.Module:
        removal = REMOVALS.make(expression)
        made = removal(oracle(first(nets, generator)), tiny_data("attacker"), generator=generator)
        assert isinstance(made, nn.Module)
        return made

    return mix


average = mixed(lambda stack, _: stack.mean(0))
MIXTURES: dict[str, tuple[int, Mixture]] = {
    "one copy": (1, average),
    "one copy, fine-tuned": (1, then(average, "fine_tune(all)")),
    "one copy, pruned by half": (1, then(average, "prune_weights(1/2)")),
    "one copy, int8": (1, then(average, "quantise(int8)")),
    "one copy, units reordered": (1, then(average, "reparametrise")),
    "one copy, units reordered, aligned": (1, then(average, "reparametrise")),
    "average": (3, average),
    "weighted average": (3, weighted),
    "least of each weight": (3, mixed(lambda stack, _: stack.amin(0))),
    "largest of each weight": (3, mixed(lambda stack, _: stack.amax(0))),
    "median of each weight": (3, mixed(lambda stack, _: stack.median(0).values)),
    "layer by layer": (3, layers),
    "average, fine-tuned": (3, then(average, "fine_tune(all)")),
    "average, fine-tuned, units reordered, aligned": (3, then(then(average, "fine_tune(all)"), "reparametrise")),
}


def oracle(net: nn.Module) -> TorchOracle:
    return TorchOracle(net, input_shape=(1, 8, 8), classes=10)


def accused(codes: Codes, net: nn.Module, align_to: nn.Module | None = None) -> set[int]:
    known = None if align_to is None else oracle(align_to)
    return set(traced(codes, oracle(net), ALPHA, align_to=known).accused)


def share(count: int, trials: int) -> dict[str, float]:
    bounds = clopper_pearson(count, trials)
    return {"count": count, "trials": trials, "rate": count / trials, "low": bounds.low, "high": bounds.high}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, required=True)
    output = parser.parse_args().output
    found = {name: {"traced": 0, "framed": 0, "guilty": 0, "accuracy": 0.0} for name in MIXTURES}
    costs: list[float] = []
    strangers = 0
    test = tiny_data("test")
    for owner in range(OWNERS):
        net = tiny_net(seed=FIRST + owner, architecture=NET)
        users = [f"user {number}" for number in range(USERS)]
        prepared = prepare_codes(oracle(net), users, DATA, colluders=COLLUDERS, seed=FIRST + owner)
        # Rows by a seed, where an owner's are secret: so that another run draws them again.
        codes = replace(prepared, code=tardos_plan(prepared).sampled(np.random.default_rng(FIRST + owner)))
        copies = [copy_for(codes, oracle(net), user) for user in users[: GROUPS * COLLUDERS]]
        costs += [accuracy(net, test) - accuracy(each, test) for each in copies]
        stranger = tiny_net(seed=FIRST + 100 + owner, architecture=NET)
        strangers += bool(accused(codes, stranger) | accused(codes, stranger, net))
        for group in range(GROUPS):
            for name, (count, mix) in MIXTURES.items():
                guilty = list(range(group * COLLUDERS, group * COLLUDERS + count))
                generator = torch.Generator().manual_seed(FIRST + owner * GROUPS + group)
                made = mix([copies[each] for each in guilty], generator)
                named = accused(codes, made, net if name.endswith("aligned") else None)
                of = found[name]
                of["traced"] += bool(named & set(guilty))
                of["framed"] += bool(named - set(guilty))
                of["guilty"] += len(named & set(guilty))
                of["accuracy"] += accuracy(made, test)
        print(owner, found, flush=True)
    trials = OWNERS * GROUPS
    rows: dict[str, Any] = {
        name: {
            "colluders": MIXTURES[name][0],
            "traced": share(int(of["traced"]), trials),
            "framed": share(int(of["framed"]), trials),
            "guilty": share(int(of["guilty"]), trials * MIXTURES[name][0]),
            "accuracy": of["accuracy"] / trials,
        }
        for name, of in found.items()
    }
    document = {
        "command": "python benchmarks/collusion.py",
        "machine": describe_machine("cpu").model_dump(),
        "alpha": ALPHA,
        "owners": OWNERS,
        "users": USERS,
        "cost": {"mean": sum(costs) / len(costs), "largest": max(costs)},
        "strangers with anybody accused": share(strangers, OWNERS),
        "mixtures": rows,
    }
    write_json(output, document)


if __name__ == "__main__":
    main()
