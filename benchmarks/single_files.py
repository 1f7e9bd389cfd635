"""Converts full-size single files, as `shiftreg init FILE` does: how long, in how much memory.

    python benchmarks/single_files.py [1.4 2.1 XL]

The files have random weights, the real names and shapes, and are deleted again; the largest case
needs 20 GB of disk. Each is compared with what it became, tensor by tensor and bit for bit.
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from full_size_base import CLASSES, FAMILIES, Config
from torch import Tensor

from shiftreg.checkpoints import compare_checkpoint
from shiftreg.checkpoints.base_folder import read_config, single_file_family
from shiftreg.checkpoints.ckpt_file import write_ckpt
from shiftreg.checkpoints.compvis import long_name
from shiftreg.checkpoints.digested_file import DigestedFile
from shiftreg.checkpoints.merged import component_places, to_single_file
from shiftreg.checkpoints.stored import PIECE, TensorSource
from shiftreg.checkpoints.tensor_files import widest_first, write_safetensors
from shiftreg.pipelines import weight_shapes

# Family -> its configurations, dtype, suffix, whether averaged weights are in the file, too.
CASES = {
    "1.4": ("sd14", torch.float32, "ckpt", True),
    "2.1": ("sd21", torch.float16, "ckpt", False),
    "XL": ("sdxl", torch.float16, "safetensors", False),
}
CONVERT = """
import json, sys, time
from pathlib import Path
from shiftreg import api, pipelines
from shiftreg.settings import Settings

def peak():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) << 10

home, file, config = map(Path, sys.argv[1:])
workspace = api.open_workspace(Settings(home, "x", None))
pipelines.weight_shapes(config)
before, start = peak(), time.perf_counter()
made = api.convert_base(workspace, str(file), config=config)
print(json.dumps([str(made.folder), time.perf_counter() - start, peak() - before]))
"""


@dataclass(frozen=True)
class RandomTensor:
    """Random values, a piece at a time."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    seed: int

    def pieces(self) -> Iterator[Tensor]:
        generator = torch.Generator().manual_seed(self.seed)
        count = math.prod(self.shape)
        values = torch.randn(min(count, PIECE), generator=generator).to(self.dtype)
        for start in range(0, count, PIECE):
            yield values[: min(PIECE, count - start)]


def write_configuration(folder: Path, configs: Mapping[str, Config]) -> None:
    for part, config in configs.items():
        (folder / part).mkdir(parents=True)
        (folder / part / "config.json").write_text(json.dumps(config))
    index = {part: CLASSES[part] for part in configs}
    (folder / "model_index.json").write_text(json.dumps(index))


def write_file(file: Path, config: Path, dtype: torch.dtype, averaged: bool) -> None:
    shapes = weight_shapes(config)
    family = single_file_family(config)
    state: dict[str, TensorSource] = {}
    for part, expected in shapes.items():
        names = [long_name(name) if part.startswith("text") else name for name in expected]
        tensors = {
            name: RandomTensor(shape, dtype, number)
            for number, (name, shape) in enumerate(zip(names, expected.values(), strict=True))
        }
        places = component_places(part, names, read_config(config / part), family)
        state |= to_single_file(tensors, places)
    if averaged:
        state |= {
            "model_ema." + name.removeprefix("model.").replace(".", ""): tensor
            for name, tensor in state.items()
            if name.startswith("model.diffusion_model.")
        }
    with DigestedFile(file) as target:
        if file.suffix == ".ckpt":
            write_ckpt(target, state, {})
        else:
            write_safetensors(target, widest_first(state), {})


def seconds(start: float) -> float:
    return time.perf_counter() - start


def measure(name: str, room: Path) -> str:
    family, dtype, suffix, averaged = CASES[name]
    config, file = room / "config", room / f"model.{suffix}"
    write_configuration(config, FAMILIES[family])
    write_file(file, config, dtype, averaged)
    start = time.perf_counter()
    shutil.copyfile(file, room / "copy")
    copying = seconds(start)
    (room / "copy").unlink()
    start = time.perf_counter()
    with file.open("rb") as handle:
        hashlib.file_digest(handle, "sha256")
    digesting = seconds(start)
    command = [sys.executable, "-c", CONVERT, room / "home", file, config]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    folder, converting, memory = json.loads(done.stdout)
    comparison = compare_checkpoint(file, Path(folder), {})
    assert not comparison.differing
    assert not comparison.missing
    assert all(extra.startswith("model_ema.") for extra in comparison.extra)
    about = f"{name}, {str(dtype).removeprefix('torch.')}{', averaged' * averaged}, `.{suffix}`"
    return (
        f"| {about} | {file.stat().st_size / 1e9:.1f} GB | {memory / 1e6:.0f} MB | "
        f"{converting:.0f} s | {digesting:.0f} s | {copying:.0f} s |"
    )


def main() -> None:
    print("| file | size | memory | conversion | `sha256` alone | copy alone |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name in sys.argv[1:] or CASES:
        with tempfile.TemporaryDirectory() as room:
            print(measure(name, Path(room)), flush=True)


if __name__ == "__main__":
    main()
