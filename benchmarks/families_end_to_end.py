"""Takes full-size bases of other families from `init` to an adapter: how long, in how much memory.

    python benchmarks/families_end_to_end.py --folder /tmp/full-size            # sd21 and sdxl
    python benchmarks/families_end_to_end.py --families toy --out /tmp/try.json # a few minutes

The bases have random weights (full_size_base.py), in float16 to save disk: 7 GB for XL, and as
much again for the export; all is deleted. Each step is a process of its own, with its own peak.

Loaded in float32, XL takes 14 GB: 2.6 billion parameters of its UNet, 0.8 of its text encoders.
Images of 1024 x 1024 beside that might not fit into 23 GiB, so the bases' `sample_size` is made
small, which changes no weight: what `erase` generates and predicts is of 128 x 128. Random weights
show nothing anyway. For the same reason files are verified tensor by tensor against base plus
shifts, and not with `shiftreg verify`, which generates many; drifts are those that `erase`
measures. Random text encoders hardly tell prompts apart, so that shifts can be smaller than
float16's steps: the adapter, in float32, is where `inspect` has to find the shift; what it finds in
the export is said.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from full_size_base import FAMILIES, write_base
from rows.measure import machine

from shiftreg import api, checkpoints
from shiftreg.api.composition.contents import expected_weights, file_check, read_recipe
from shiftreg.settings import Settings

CONCEPT = "Caravaggio"
SAMPLE_SIZE = 16  # of latents
DRIFT = 1e-5  # of keys and values of protected prompts, as the gate of verify
Values = dict[str, Any]


def opened(room: Path) -> api.Workspace:
    return api.open_workspace(Settings(room / "home", "base", None))


def init(room: Path) -> Values:
    record = api.register_base(
        opened(room),
        str(room / "base"),
        name="base",
        triggers={"CCS 2024": ""},
        protected=["Picasso", "Van Gogh"],
        preserved=["a church"],
        subjects=["church"],
        steps=1,
        guidance=1.0,
    )
    return {"layers that read the text": len(record.layers), "passed": bool(record.layers)}


def erase(room: Path) -> Values:
    (result,) = api.erase(opened(room), [CONCEPT], method="closed-form", reason="benchmark")
    drift = result.metrics["max_drift"]
    return {
        "max drift": drift,
        "relative change": result.metrics["relative_change"],
        "passed": drift <= DRIFT and result.metrics["relative_change"] > 0,
    }


def export(room: Path) -> Values:
    workspace = opened(room)
    plan = api.plan_composition(workspace)
    result = api.export_composition(workspace, plan, room / "export.safetensors")
    effect = result.rounding
    kept = effect is None or effect.compensated is None or effect.compensated <= effect.plain
    return {"dtype": result.dtype, "bytes": result.path.stat().st_size, "passed": kept}


def verify(room: Path) -> Values:
    workspace, file = opened(room), room / "export.safetensors"
    recipe = read_recipe(workspace, file)
    check, _ = file_check(workspace, file, recipe, expected_weights(workspace, recipe))
    return {"tensors that differ": check.value, "passed": check.passed}


def adapter(room: Path) -> Values:
    workspace, file = opened(room), room / "adapter.safetensors"
    plan = api.plan_adapter(workspace, file, api.Selection(only=[CONCEPT]))
    result = api.export_adapter(workspace, plan, request=api.ReleaseRequest(reason="benchmark"))
    read = checkpoints.read_foreign(file, workspace.folder)
    shift = workspace.shift_of(CONCEPT, 1)
    same = all(
        torch.equal(read.deltas[f"{layer}.weight"], shift.delta_weight(layer).float())
        for layer in shift.layers
    )
    return {"bytes": result.path.stat().st_size, "passed": same}


def inspect(room: Path) -> Values:
    found = {
        name: [
            s.concept for s in api.inspect_file(opened(room), room / f"{name}.safetensors").shifts
        ]
        for name in ("export", "adapter")
    }
    return {f"in the {name}": shifts for name, shifts in found.items()} | {
        "passed": found["adapter"] == [CONCEPT]
    }


STEPS: dict[str, Callable[[Path], Values]] = {
    step.__name__: step for step in (init, erase, export, verify, adapter, inspect)
}


def in_child(step: str, room: Path) -> Values:
    """Runs a step in this process, and says what it took."""
    start = time.perf_counter()
    values = STEPS[step](room)
    seconds = time.perf_counter() - start
    # Not getrusage, whose peak includes the parent's at the time of the fork.
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    peak = next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))
    return {"step": step, "seconds": seconds, "peak_megabytes": peak / 1024} | values


def measure(family: str, room: Path) -> list[Values]:
    """Runs all steps on a base, as far as they go."""
    (room / "home").mkdir()
    write_base(room / "base", family, sample_size=SAMPLE_SIZE)
    rows: list[Values] = []
    for step in STEPS:
        command = [sys.executable, __file__, "--child", step, "--folder", str(room)]
        done = subprocess.run(command, check=False, stdout=subprocess.PIPE, text=True)
        if done.returncode:
            rows.append({"step": step, "passed": False, "exit_code": done.returncode})
            break
        rows.append(json.loads(done.stdout.splitlines()[-1]))
        print(row(family, rows[-1]), flush=True)
    return rows


def row(family: str, values: Values) -> str:
    """A line of the table."""
    shown = ("step", "seconds", "peak_megabytes", "passed")
    checks = ", ".join(
        f"{key}: {value:.3g}" if isinstance(value, float) else f"{key}: {value}"
        for key, value in values.items()
        if key not in shown
    )
    took = f"{values.get('seconds', 0):.1f} s | {values.get('peak_megabytes', 0):.0f} MB"
    verdict = "ok" if values["passed"] else "**no**"
    return f"| {family} | {values['step']} | {took} | {checks} | {verdict} |"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--families", nargs="+", choices=list(FAMILIES), default=["sd21", "sdxl"])
    parser.add_argument("--folder", type=Path, help="for bases and exports; deleted afterwards")
    parser.add_argument("--out", type=Path, help="write this JSON file, too")
    parser.add_argument("--child", choices=list(STEPS), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        print(json.dumps(in_child(given.child, given.folder)))
        return
    print("| base | step | time | peak | found | passed |")
    print("| --- | --- | --- | --- | --- | --- |", flush=True)
    results: Values = {"machine": machine(), "families": {}}
    if given.folder:
        given.folder.mkdir(parents=True, exist_ok=True)
    for family in given.families:
        room = Path(tempfile.mkdtemp(dir=given.folder))
        try:
            results["families"][family] = measure(family, room)
        finally:
            shutil.rmtree(room)
        if given.out:
            given.out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    if not all(line["passed"] for rows in results["families"].values() for line in rows):
        sys.exit(1)


if __name__ == "__main__":
    main()
