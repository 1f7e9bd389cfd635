"""Checkpoints are larger than the memory of many a machine: they are never in it whole."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

UNET_FILE = "unet/diffusion_pytorch_model.safetensors"
LARGE = 128 << 20  # bytes, of one tensor
ALLOWED = 100 << 20
CASES = (
    ("model.safetensors", "base"),
    ("model.ckpt", "base"),
    ("model", "base"),
    ("single-precision.ckpt", "float32"),
)

SCRIPT = """
import json, sys
from pathlib import Path
import torch
from shiftreg.checkpoints import compare_checkpoint, export_checkpoint, parameter_reader

def peak():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) << 10

base, folder, layer, cases = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], sys.argv[4]
layers = {layer: parameter_reader(base)(layer).double() + 1}
before = peak()
for name, dtype in json.loads(cases):
    dtype = getattr(torch, dtype, None)
    export_checkpoint(base, layers, folder / name, {}, dtype=dtype)
    exported = peak()
    equal = compare_checkpoint(folder / name, base, layers, dtype).equal
    print(json.dumps([name, exported - before, peak() - before, equal]))
"""


@pytest.fixture(scope="module")
def large_base(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The miniature's structure, with a weight that has many more rows than it should."""
    folder = tmp_path_factory.mktemp("large") / "base"
    shutil.copytree(base, folder)
    tensors = load_file(folder / UNET_FILE)
    tensors["conv_out.weight"] = torch.ones(LARGE // 512, 256, dtype=torch.float16)
    save_file(tensors, folder / UNET_FILE, {"format": "pt"})
    return folder


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the system tells no peak")
def test_exporting_and_comparing_take_little_memory(large_base: Path, tmp_path: Path) -> None:
    layer = "mid_block.attentions.0.transformer_blocks.0.attn2.to_v"
    command = [sys.executable, "-c", SCRIPT, large_base, tmp_path, layer, json.dumps(CASES)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    results = [json.loads(line) for line in done.stdout.splitlines()]
    assert [name for name, *_ in results] == [name for name, _ in CASES]
    for name, exporting, comparing, equal in results:
        written = (tmp_path / name, *(tmp_path / name).rglob("*"))
        assert sum(file.stat().st_size for file in written) > LARGE
        assert equal
        assert exporting < ALLOWED, name
        assert comparing < ALLOWED, name


CONVERTING = """
import json, sys
from pathlib import Path
from shiftreg.checkpoints import export_checkpoint, single_file_contents
from shiftreg.checkpoints import sort_single_file, write_base
from shiftreg.checkpoints.base_folder import single_file_family, stored_component
from shiftreg.checkpoints.compvis import long_name

def peak():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) << 10

base, file, target = map(Path, sys.argv[1:])
export_checkpoint(base, {}, file, {})
shapes = {
    part: {
        long_name(name) if part.startswith("text") else name: tensor.shape
        for name, tensor in stored_component(base / part).items()
    }
    for part in single_file_family(base).single_file_classes
}
before = peak()
found = sort_single_file(file, single_file_contents(file), shapes, base)
write_base(found, base, target, {}, lambda done, total: None)
print(json.dumps(peak() - before))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the system tells no peak")
@pytest.mark.parametrize("suffix", ["ckpt", "safetensors"])
def test_converting_a_single_file_takes_little_memory(
    large_base: Path, tmp_path: Path, suffix: str
) -> None:
    target = tmp_path / "made"
    command = [sys.executable, "-c", CONVERTING, large_base, tmp_path / f"x.{suffix}", target]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    assert (target / UNET_FILE).stat().st_size > LARGE
    assert json.loads(done.stdout) < ALLOWED
