"""How long two checkpoints of 7 billion parameters take from a cold page cache, and how much memory.

    python benchmarks/lineage_speed.py FOLDER [-o benchmarks/results/lineage-speed.json]

Two Llama-shaped bf16 checkpoints of random numbers, in shards of at most 5 GB, are written to FOLDER (27 GB) and left
there for the next run. B is A with a twentieth of noise, so that every test finds something. Before each run the pages
of both are dropped from the cache; each run is a process of its own, whose wall-clock seconds, peak memory and bytes
read are kept. The disk's own rate is that of reading the same bytes in blocks of 8 MiB, cold, in the same run, before
and after it. Hidden layers are read twice, the second time from the page cache: the share of the disk's rate counts no
byte twice.
"""

from __future__ import annotations

import argparse
import json
import os
import select
import subprocess
import sys
import time
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from whorl.bench.result import describe_machine
from whorl.storage import write_json

LAYERS, WIDTH, HIDDEN, VOCABULARY, HEADS = 32, 4096, 11008, 32000, 32
SHARD = 5 << 30


def shapes(layers: int) -> dict[str, tuple[int, ...]]:
    found = {"model.embed_tokens.weight": (VOCABULARY, WIDTH)}
    for layer in range(layers):
        prefix = f"model.layers.{layer}"
        found |= {f"{prefix}.self_attn.{name}_proj.weight": (WIDTH, WIDTH) for name in "qkvo"}
        found |= {f"{prefix}.mlp.{name}_proj.weight": (HIDDEN, WIDTH) for name in ("gate", "up")}
        found |= {f"{prefix}.mlp.down_proj.weight": (WIDTH, HIDDEN)}
        found |= {f"{prefix}.{name}_layernorm.weight": (WIDTH,) for name in ("input", "post_attention")}
    return found | {"model.norm.weight": (WIDTH,), "lm_head.weight": (VOCABULARY, WIDTH)}


@lru_cache
def drawn(shape: tuple[int, ...], seed: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def tensor(place: int, shape: tuple[int, ...], noise: float) -> torch.Tensor:
    """Rows of one draw for each shape, begun at another place for each tensor: drawing each anew would take minutes."""
    if len(shape) == 1:
        return torch.ones(shape, dtype=torch.bfloat16)
    value = drawn(shape, 0)
    if noise:
        value = value + noise * drawn(shape, 1)
    return (value * 0.02).bfloat16().roll(37 * place, 0)


def write(folder: Path, noise: float, layers: int) -> None:
    """Shards with their index and configuration, unless they are there."""
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        return
    folder.mkdir(parents=True, exist_ok=True)
    groups: list[dict[str, tuple[int, ...]]] = [{}]
    size = 0
    for name, shape in shapes(layers).items():
        taken = 2 * shape[0] * (shape[1] if len(shape) > 1 else 1)
        if size + taken > SHARD:
            groups.append({})
            size = 0
        groups[-1][name] = shape
        size += taken
    places, number = {}, 0
    for shard, group in enumerate(groups, 1):
        file, held = f"model-{shard:05}-of-{len(groups):05}.safetensors", {}
        for name, shape in group.items():
            held[name], number, places[name] = tensor(number, shape, noise), number + 1, file
        save_file(held, folder / file)
    config = {"model_type": "llama", "hidden_size": WIDTH, "num_attention_heads": HEADS, "num_hidden_layers": layers}
    write_json(folder / "config.json", config)
    write_json(index, {"metadata": {}, "weight_map": places})


def drop(folders: list[Path]) -> None:
    for folder in folders:
        for path in folder.glob("*.safetensors"):
            with path.open("rb") as file:
                os.fsync(file.fileno())
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def plain_reading(folders: list[Path]) -> dict[str, float]:
    """Reading all bytes in sequence and doing nothing with them, cold: bytes a second, and what the processor did."""
    drop(folders)
    block, done, started, worked = bytearray(8 << 20), 0, time.perf_counter(), time.process_time()
    for path in sorted(path for folder in folders for path in folder.glob("*.safetensors")):
        with path.open("rb", buffering=0) as file:
            while count := file.readinto(block):
                done += count
    seconds = time.perf_counter() - started
    return {"rate": done / seconds, "wall_seconds": seconds, "cpu_seconds": time.process_time() - worked}


def resident(pid: int) -> int:
    """Peak of a process in KiB. Unlike ``ru_maxrss`` it begins anew with the program, not with the fork of this one."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next((int(line.split()[1]) for line in lines if line.startswith("VmHWM")), 0)


def measured(folders: list[Path], *options: str) -> dict[str, Any]:
    drop(folders)
    command = [sys.executable, "-c", "from whorl.cli.app import main; main()", "compare", *map(str, folders)]
    started = time.perf_counter()
    process = subprocess.Popen([*command, "--json", "--quiet", *options], stdout=subprocess.PIPE)
    assert process.stdout is not None
    peak = 0
    while not select.select([process.stdout], [], [], 0.05)[0]:  # it prints once, at the end
        peak = max(peak, resident(process.pid))
    told = json.loads(process.stdout.read())
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise RuntimeError(f"compare ended with {status}")
    seconds = time.perf_counter() - started
    return {
        "options": list(options),
        "wall_seconds": seconds,
        "cpu_seconds": usage.ru_utime + usage.ru_stime,
        "peak_mib": peak / 1024,
        "bytes_read": told["bytes_read"],
        "decision": told["decision"],
        "log10_p": told["log10_p"],
        "load": os.getloadavg()[0],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--layers", type=int, default=LAYERS)
    parser.add_argument("-o", "--output", type=Path, default=Path("benchmarks/results/lineage-speed.json"))
    options = parser.parse_args()
    folders = [options.folder / f"{name}-{options.layers}" for name in "ab"]
    for folder, noise in zip(folders, (0.0, 0.05), strict=True):
        write(folder, noise, options.layers)
    size = sum(path.stat().st_size for folder in folders for path in folder.glob("*.safetensors"))
    runs = []
    for extra in ((), ("--all-layers",)):
        before = plain_reading(folders)
        run = measured(folders, *extra)
        plain = [before, plain_reading(folders)]
        rate = min(size, run["bytes_read"]) / run["wall_seconds"]
        share = rate * sum(each["wall_seconds"] for each in plain) / (2 * size)
        runs.append({**run, "plain_reading": plain, "share_of_disk_rate": share})
        print(runs[-1], flush=True)
    machine = describe_machine("cpu").model_dump()
    write_json(options.output, {"machine": machine, "layers": options.layers, "bytes": size, "runs": runs})


if __name__ == "__main__":
    main()
