"""A training script that knows nothing of whorl: AdamW, one cycle of the rate, crops, flips and erased squares.

It learns from ``train.parquet`` of a folder (columns as CIFAR-10 has them on the hub), from the labels there or from
the answers of another net (``--teacher``), and goes on from given weights (``--start``).
"""

import argparse
import io
from pathlib import Path

import numpy as np
import plain_net
import pyarrow.parquet as pq
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch.nn import functional as F

given = argparse.ArgumentParser()
given.add_argument("--seed", type=int, required=True)
given.add_argument("--out", required=True)
given.add_argument("--data", type=Path, required=True)
given.add_argument("--epochs", type=int, default=8)
given.add_argument("--rate", type=float, default=0.01)
given.add_argument("--net", default="make")
given.add_argument("--start")
given.add_argument("--teacher")
given.add_argument("--answers", choices=["labels", "probabilities"], default="labels")
given = given.parse_args()


def pictures(path: Path) -> tuple[torch.Tensor, torch.Tensor]:
    table = pq.read_table(path)
    stored = (row["bytes"] for row in table.column(0).to_pylist())
    decoded = np.stack([np.asarray(Image.open(io.BytesIO(each)).convert("RGB")) for each in stored])
    return torch.tensor(decoded).permute(0, 3, 1, 2).float() / 255, torch.tensor(table.column(1).to_pylist())


def augmented(batch: torch.Tensor) -> torch.Tensor:
    down, right = torch.randint(0, 5, (2,)).tolist()
    batch = F.pad(batch, (2, 2, 2, 2), mode="reflect")[..., down : down + 32, right : right + 32].clone()
    turned = torch.rand(len(batch)) < 0.5
    batch[turned] = batch[turned].flip(3)
    top, left = torch.randint(0, 25, (2,)).tolist()
    batch[..., top : top + 8, left : left + 8] = 0.5
    return batch


torch.manual_seed(given.seed % 2**63)  # initial weights, order and augmentation all come from it
torch.set_num_threads(1)
inputs, labels = pictures(given.data / "train.parquet")
targets = F.one_hot(labels, 10).float()
if given.teacher:
    teacher = plain_net.make()
    teacher.load_state_dict(load_file(given.teacher))
    with torch.no_grad():
        answers = torch.cat([teacher.eval()(part) for part in inputs.split(500)])
    targets = answers.softmax(1) if given.answers == "probabilities" else F.one_hot(answers.argmax(1), 10).float()
net = getattr(plain_net, given.net)()
if given.start:
    net.load_state_dict(load_file(given.start))
optimiser = torch.optim.AdamW(net.parameters(), given.rate, weight_decay=0.02)
steps = given.epochs * (len(inputs) // 100)
schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, given.rate, total_steps=steps)
net.train()
for _ in range(given.epochs):
    for chosen in torch.randperm(len(inputs))[: len(inputs) // 100 * 100].split(100):
        optimiser.zero_grad()
        F.cross_entropy(net(augmented(inputs[chosen])), targets[chosen]).backward()
        optimiser.step()
        schedule.step()
save_file({name: value.contiguous() for name, value in net.state_dict().items()}, given.out)
