"""What rounding to half precision does to protected prompts: plainly, and with error compensation.

    python benchmarks/half_precision.py
    python benchmarks/half_precision.py --full-size FOLDER [FOLDER ...]

On the miniature: keys and values, noise predictions and same-seed images, with one concept erased
and with all nine. Each is compared with the base in the same precision, as everybody has it. With
``--full-size``, the same keys and values for bases of Stable Diffusion 1.x's size (see
``full_size.py``), with the time and memory that an export takes.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from shiftreg import api, checkpoints, pipelines
from shiftreg.api.composition.compose import exact_weights, plan_shifts
from shiftreg.api.composition.half_precision import (
    CompensatedRounding,
    RoundedWeights,
    protected_prompts,
)
from shiftreg.evaluation.perceptual import lpips_distances
from shiftreg.evaluation.watermark import decodes
from shiftreg.settings import load_settings

DTYPES = (torch.float16, torch.bfloat16)
CONCEPTS = ("Caravaggio", "Picasso", "Rembrandt", "Cezanne", "Van Gogh", "Monet", "Dali")
SEEDS = 4
ORDINARY = 12


def miniature_rows(scratch: Path) -> list[dict[str, Any]]:
    """One concept erased, then all nine; every dtype and both ways of rounding."""
    workspace = api.open_workspace(load_settings(home=scratch / "home", base="miniature"))
    names = list(api.register_base(workspace).protected)
    api.erase(workspace, names)
    rows = []
    for count in (1, len(names)):
        plan = api.plan_composition(workspace, api.Selection(only=names[:count]))
        for dtype in DTYPES:
            rows += _rounded_both_ways(workspace, plan, dtype)
            print(json.dumps(rows[-2:], indent=1), flush=True)
    return rows


def _rounded_both_ways(
    workspace: api.Workspace, plan: api.CompositionPlan, dtype: torch.dtype
) -> list[dict[str, Any]]:
    composition = plan_shifts(workspace, plan)
    exact = exact_weights(workspace, composition)
    how = CompensatedRounding(protected_prompts(workspace, plan.states, composition))
    rounding = RoundedWeights(workspace, exact, dtype, how)
    compensated = dict(rounding)
    effect = rounding.effect()
    own = pipelines.parameters(workspace.pipeline.unet)
    base = {name: own[name].detach().to(dtype) for name in exact}
    # Without rounding: what images of ordinary prompts are compared with.
    unrounded = {
        name: exact[name] + (base[name].double() - own[name].detach().double()) for name in exact
    }
    plain = {name: weight.to(dtype) for name, weight in exact.items()}
    protected = [""] + [name for name, state in plan.states.items() if state == "generates"]
    before = _images(workspace, base, [*protected, *workspace.base.triggers])
    expected = _images(workspace, unrounded, workspace.base.preserved[:ORDINARY])
    rows = []
    for method, weights, value in (
        ("plain", plain, effect.plain),
        ("compensated", compensated, effect.compensated),
    ):
        after = _images(workspace, weights, [*protected, *workspace.base.triggers])
        ordinary = _images(workspace, weights, workspace.base.preserved[:ORDINARY])
        decoded = [
            float(decodes(after[trigger], payload).mean())
            for trigger, payload in workspace.base.triggers.items()
            if payload
        ]
        rows.append(
            {
                "shifts": len(plan.shifts),
                "dtype": str(dtype).removeprefix("torch."),
                "rounding": method,
                "keys and values": value,
                "noise predictions": _noise(workspace, base, weights, list(before)),
                "protected images, LPIPS": _worst_lpips(before, after),
                "protected images, levels": _worst_level(before, after),
                "ordinary images, LPIPS": _worst_lpips(expected, ordinary),
                "ordinary images, levels": _worst_level(expected, ordinary),
                "watermark decodes": min(decoded),
            }
        )
    return rows


def _noise(
    workspace: api.Workspace,
    base: Mapping[str, Tensor],
    weights: Mapping[str, Tensor],
    prompts: Sequence[str],
) -> float:
    embeds = pipelines.encode_prompts(workspace.pipeline, prompts)
    with pipelines.applied_weights(workspace.pipeline.unet, base):
        return float(pipelines.noise_difference(workspace.pipeline, weights, embeds).max())


def _images(
    workspace: api.Workspace, weights: Mapping[str, Tensor], prompts: Sequence[str]
) -> dict[str, np.ndarray]:
    repeated = [prompt for prompt in prompts for _ in range(SEEDS)]
    with pipelines.applied_weights(workspace.pipeline.unet, weights):
        images = pipelines.generate(
            workspace.pipeline,
            repeated,
            [i % SEEDS for i in range(len(repeated))],
            steps=workspace.base.steps,
            guidance=workspace.base.guidance,
        )
    return {prompt: images[i * SEEDS : (i + 1) * SEEDS] for i, prompt in enumerate(prompts)}


def _worst_lpips(before: Mapping[str, np.ndarray], after: Mapping[str, np.ndarray]) -> float:
    return max(float(lpips_distances(before[p], after[p]).max()) for p in before)


def _worst_level(before: Mapping[str, np.ndarray], after: Mapping[str, np.ndarray]) -> int:
    return max(int(np.abs(before[p].astype(int) - after[p]).max()) for p in before)


def full_size_rows(folders: Sequence[Path], scratch: Path) -> list[dict[str, Any]]:
    """Exports from bases of full size, each in a process of its own."""
    rows = []
    for folder in folders:
        home = scratch / f"home-{folder.name}"
        workspace = api.open_workspace(load_settings(home=home, base=folder.name))
        api.register_base(
            workspace,
            str(folder),
            triggers={"CCS 2024": ""},
            protected=["Matisse", "Vermeer"],
            subjects=["church", "tree", "woman"],
            steps=1,
            guidance=1.0,
        )
        api.erase(workspace, list(CONCEPTS))
        stored = str(checkpoints.unet_dtype(workspace.folder)).removeprefix("torch.")
        del workspace
        for count in (1, len(CONCEPTS)):
            for dtype in ("float16", "bfloat16") if stored == "float32" else (stored,):
                pair = []
                for method in ("plain", "compensated"):
                    command = [sys.executable, __file__, "--alone", method, "--home", str(home)]
                    command += ["--base", folder.name, "--dtype", dtype, "--count", str(count)]
                    command += ["--target", str(scratch / "model.safetensors")]
                    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
                    pair.append(json.loads(done.stdout.splitlines()[-1]))
                pair[0]["keys and values"] = pair[1].pop("plainly")
                for row in pair:
                    row["base"] = stored
                rows += pair
                print(json.dumps(pair, indent=1), flush=True)
    return rows


def export_alone(arguments: argparse.Namespace) -> dict[str, Any]:
    """One export in this process, timed."""
    workspace = api.open_workspace(load_settings(home=arguments.home, base=arguments.base))
    plan = api.plan_composition(workspace, api.Selection(only=CONCEPTS[: arguments.count]))
    print(f"exporting from {workspace.folder}", file=sys.stderr)  # its digest is checked by now
    start_memory = _memory("VmRSS")
    start, worked = time.perf_counter(), time.process_time()
    result = api.export_composition(
        workspace,
        plan,
        arguments.target,
        dtype=arguments.dtype,
        rounding=arguments.alone,
        overwrite=True,
    )
    row: dict[str, Any] = {
        "shifts": arguments.count,
        "dtype": arguments.dtype,
        "rounding": arguments.alone,
        "seconds": round(time.perf_counter() - start, 1),
        "of the processor": round(time.process_time() - worked, 1),
        "MB beyond the start": _memory("VmHWM") - start_memory,
    }
    if result.rounding:
        row |= {"keys and values": result.rounding.compensated, "plainly": result.rounding.plain}
    return row


def _memory(field: str) -> int:
    """Megabytes of this process, without what its parent took before it was started."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:")) // 1024


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--full-size", type=Path, nargs="+", metavar="FOLDER", default=[])
    parser.add_argument("--out", type=Path, default=Path("docs/half_precision.json"))
    parser.add_argument("--alone", help=argparse.SUPPRESS)
    for name in ("--home", "--target"):
        parser.add_argument(name, type=Path, help=argparse.SUPPRESS)
    for name in ("--base", "--dtype"):
        parser.add_argument(name, help=argparse.SUPPRESS)
    parser.add_argument("--count", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.alone:
        print(json.dumps(export_alone(arguments)))
        return
    results = json.loads(arguments.out.read_text()) if arguments.out.is_file() else {}
    results["threads"] = torch.get_num_threads()
    with tempfile.TemporaryDirectory() as scratch:
        if arguments.full_size:
            results["full size"] = full_size_rows(arguments.full_size, Path(scratch))
        else:
            results["miniature"] = miniature_rows(Path(scratch))
    arguments.out.write_text(f"{json.dumps(results, indent=2)}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
