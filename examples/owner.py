# %% [markdown]
# # An owner's case
#
# You trained a classifier with a script of your own. Months later an ONNX file turns up at a competitor's, and their
# endpoint answers much as yours does. Was it made from your model? Every cell runs as it stands, in about half a
# minute, on pictures that scikit-learn brings along: `python examples/owner.py`, or cell by cell in an editor.

# %%
import math
import random
import tempfile
from pathlib import Path

import torch
from safetensors.torch import save_file
from sklearn.datasets import load_digits
from torch import nn

import whorl
from whorl.data import Dataset

FOLDER = Path(tempfile.mkdtemp())
digits = load_digits()
pictures = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 16
labels = torch.tensor(digits.target)
mine, kept_back, public = slice(0, 900), slice(900, 1300), slice(1300, None)

# %% [markdown]
# ## Your script
#
# Nothing in it knows whorl. What matters later: it takes a seed, and everything random comes from it.


# %%
def train(seed: int, chosen: slice = mine, epochs: int = 12) -> nn.Module:
    torch.manual_seed(seed % 2**63)
    net = nn.Sequential(
        nn.Conv2d(1, 16, 3), nn.ReLU(), nn.Conv2d(16, 16, 3), nn.ReLU(), nn.Flatten(), nn.Linear(256, 10)
    )
    return tune(net, chosen, epochs, 3e-3)


def tune(net: nn.Module, chosen: slice, epochs: int, rate: float) -> nn.Module:
    optimiser = torch.optim.Adam(net.parameters(), rate)
    inputs, targets = pictures[chosen], labels[chosen]
    for _ in range(epochs):
        for batch in torch.randperm(len(inputs)).split(50):
            optimiser.zero_grad()
            noisy = inputs[batch] + 0.05 * torch.randn_like(inputs[batch])
            nn.functional.cross_entropy(net(noisy), targets[batch]).backward()
            optimiser.step()
    return net.eval()


draws = random.Random(0)  # one draw, so that you see what is printed below; in earnest: draws = secrets.SystemRandom()
own_seed = draws.getrandbits(96)
model = train(own_seed)

# %% [markdown]
# ## What turned up
#
# A thief has tuned your weights on pictures of his own, and ships them as ONNX. Somebody honest trained the same
# architecture on those pictures. You would only see the two files.

# %%
stolen = train(own_seed)  # his copy of your weights
tune(stolen, public, epochs=3, rate=1e-4)
honest = train(draws.getrandbits(96), public)
for name, net in (("stolen", stolen), ("honest", honest)):
    size = ({0: torch.export.Dim("n")},)
    torch.onnx.export(net, (pictures[:2],), FOLDER / f"{name}.onnx", dynamic_shapes=size, verbose=False)

# %% [markdown]
# ## A lineup
#
# Train your recipe 19 times more, with seeds that nobody knows. A model that was made without yours resembles each of
# the 20 with equal chance, so yours comes first with a chance of 1 in 20, whatever the suspect is. Questions come
# from pictures that no model learned from. Do this before you look at any suspect, and keep the secret to yourself:
# it says which of the 20 is yours. Digits are easy, and all nets answer them alike; so each question is two of them,
# one over the other, where nets are of more than one mind.

# %%
own = torch.Generator().manual_seed(draws.getrandbits(63))
first, second = (torch.randint(kept_back.start, kept_back.stop, (2000,), generator=own) for _ in range(2))
blends = torch.lerp(pictures[first], pictures[second], 0.4)
held_out = Dataset(blends, labels[first], tuple("0123456789"), "digits that were kept back, two in each picture")
about = {"input_shape": (1, 8, 8), "classes": 10}
fingerprint = whorl.extract(model, data=held_out, scheme="random", budget=1, **about)
twins = {f"twin {number}": train(draws.getrandbits(96)) for number in range(19)}
fingerprint, secret = whorl.line_up(
    fingerprint,
    model,
    twins,
    data=held_out,
    size=1000,
    alpha=0.05,
    recipe="owner.py: train(seed)",
    victim_seed=own_seed,
    cache=FOLDER / "cache",
    **about,
)

# %% [markdown]
# Both suspects are asked as their files stand. The verdict says what its error rate rests on.

# %%
for name in ("stolen", "honest"):
    verdict = whorl.verify(fingerprint, FOLDER / f"{name}.onnx", secret=secret, cache=FOLDER / "cache")
    print(f"{name}: {verdict.decision}, p = {verdict.p_value:.3f} (alpha {verdict.alpha})")
    for caveat in verdict.caveats[:3]:
        print("   ", caveat)
    (FOLDER / f"{name}.html").write_text(whorl.verdict_page(verdict, fingerprint=fingerprint), encoding="utf-8")
    assert (verdict.decision == "derived") == (name == "stolen")

# %% [markdown]
# ## Their weights are at hand
#
# So nothing has to be asked: the weights themselves say it, with a p-value that needs no other model.

# %%
save_file(model.state_dict(), FOLDER / "mine.safetensors")
for name in ("stolen", "honest"):
    found = whorl.compare(FOLDER / "mine.safetensors", FOLDER / f"{name}.onnx")
    told = ", ".join(each.name for each in found.operations) or "nothing"
    print(f"{name}: {found.decision}; log10 p = {found.log_p / math.log(10):.0f}; what happened: {told}")
    assert (found.decision == "related") == (name == "stolen")

# %% [markdown]
# ## What you may say now
#
# To yourself: made from my model, with the error rate that each verdict states. Digits are easy: a thief who tunes
# three times as hard (`rate=3e-4`) passes this lineup, and not the comparison of weights.
#
# To a judge you chose the twins, the questions and the moment, so he has no reason to take your word: a claim takes
# these choices away (`whorl.make_claim`, docs/claims.md). The pages lie in the folder.

# %%
print(FOLDER)
