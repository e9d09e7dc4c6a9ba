# %% [markdown]
# # A researcher's scheme
#
# An idea: what a model says of pictures of which a part is covered is its own affair, for nobody trained it on them.
# Is agreement there a fingerprint? A scheme is one class; what surrounds it (access, seeds, counting, calibration) is
# there already. Every cell runs as it stands, in about a minute: `python examples/scheme.py`.

# %%
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from annotated_types import Interval

import whorl
from whorl.data import Dataset
from whorl.metrics.roc import auc
from whorl.queries.base import draw
from whorl.schemes.matching import Matching
from whorl.testing import check_scheme
from whorl.types import Access, Queries

# %% [markdown]
# ## The scheme
#
# `Matching` compares labels one by one, so only the queries are left to write. Fields are what an expression may set,
# as in `covered(side=0.5)`; what is out of range is refused in one line.


# %%
@dataclass(frozen=True, kw_only=True)
class Covered(Matching):
    """Pictures with a grey square at a random place, ``side`` of the picture's own long, of 0 to 1."""

    name: ClassVar[str] = "covered"
    paper: ClassVar[str] = "none: the example of examples/scheme.py"
    idea: ClassVar[str] = "Agreement on pictures of which a part is covered."
    blind: ClassVar[str] = "whatever answers covered pictures as its own training told it"
    needs_victim: ClassVar[Access] = Access.LABELS

    side: Annotated[float, Interval(gt=0, lt=1)] = 0.6

    def sample(self, victim: whorl.Oracle, data: Dataset, *, budget: int, generator: torch.Generator) -> Queries:
        """Covered pictures, as float32 in [0, 1]."""
        del victim
        inputs = data.inputs(draw(data, budget, generator)).clone()
        height, width = (max(1, round(self.side * axis)) for axis in inputs.shape[2:])
        for picture in inputs:
            top, left = (
                int(torch.randint(axis - size + 1, (), generator=generator))
                for axis, size in zip(picture.shape[1:], (height, width), strict=True)
            )
            picture[:, top : top + height, left : left + width] = 0.5
        return Queries(inputs)


# %% [markdown]
# ## Is it one?
#
# What every scheme must keep: equal seeds give equal bytes, files are read back, budgets hold, answers are not looked
# at twice, and more.

# %%
check_scheme(Covered())

# %% [markdown]
# ## Does it tell copies from strangers?
#
# Three victims, each with copies of its own, and independent models that see all victims' questions. More than one
# victim, for a scheme that works on one net may do so by luck. Beside it stand a published scheme and plain pictures.

# %%
NET = "train(lenet5, digits(size=8), learning_rate=0.05, batch=50, epochs=20)"
DATA = "digits(size=8)"
REMOVALS = ["fine_tune(all)", "prune_weights(1/2)", "retrain(last)", "extract(lenet5, learning_rate=0.05, epochs=20)"]
victims = whorl.strangers(NET, 3, first_seed=0)
strangers = whorl.strangers(NET, 12, first_seed=100)
schemes = [Covered(), whorl.SCHEMES.make("ipguard(learning_rate=0.01)"), whorl.SCHEMES.make("random")]

pictures = whorl.SOURCES.make(DATA)
scores = {str(scheme): {"copies": {}, "strangers": []} for scheme in schemes}
for number, victim in enumerate(victims.values()):
    copies = whorl.copies(victim, REMOVALS, data=DATA, count=2)
    for scheme in schemes:
        fingerprint = scheme.extract(victim, pictures.load(scheme.part), budget=100, seed=number)
        held = scores[str(scheme)]
        held["strangers"] += [scheme.observe(fingerprint, each).similarity for each in strangers.values()]
        for removal, made in copies.items():
            held["copies"].setdefault(removal, []).extend(scheme.observe(fingerprint, each).similarity for each in made)

# %% [markdown]
# The area under the curve: how often a copy is more like its victim than a stranger is. Three victims say which way
# it goes, and no more; the suites have intervals over more of them.

# %%
print(f"{'AUC':>40}", *(f"{removal[:18]:>20}" for removal in REMOVALS))
for scheme, held in scores.items():
    areas = [auc(held["copies"][removal], held["strangers"]) for removal in REMOVALS]
    print(f"{scheme[:40]:>40}", *(f"{area:20.2f}" for area in areas))
    assert min(areas[:2]) > 0.9  # copies that nobody disguised

# %% [markdown]
# ## Every table, for nothing
#
# With an entry point of its own (`[project.entry-points."whorl.schemes"]`, `covered = "covered:Covered"`) the scheme
# has a column in every suite, a line on the leaderboard, and its place in every verb: docs/leaderboard.md goes
# through it.
