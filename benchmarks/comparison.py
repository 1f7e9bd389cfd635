"""Compares all methods on the paper's scenes 1 and 4, and prints its table.

    python benchmarks/comparison.py --out docs/comparison.json

Every method erases the artists c0 to c5 once, in a process of its own; a step of a scene composes
the shifts of those that are erased in it. FD is the Frechet distance in AlexNet's features (not
FID), ACC the share of images that the style classifier still recognises, LPIPS the distance to
the base's image of the same seed; each over artists that are forgotten, recovered (erased before,
restored now) or regular (never erased), and over plain prompts.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from erasure import Bench, Cell
from rich.console import Console
from rich.table import Table

from shiftreg import api, miniature, pipelines
from shiftreg.api.composition.compose import plan_shifts
from shiftreg.compose import merged_weights
from shiftreg.evaluation.frechet import alexnet_features, frechet_distance
from shiftreg.evaluation.perceptual import lpips_distances
from shiftreg.settings import load_settings

# Numbers of the artists that are erased after each step.
SCENES = {
    "Scene 1": ((0, 1, 2, 3, 4, 5), (2, 3, 4, 5), (3, 4, 5)),
    "Scene 4": (
        (0, 1, 2), (1, 2), (1, 2, 3, 4), (2, 3, 4), (2, 3, 4, 5), (3, 4, 5),
    ),
}  # fmt: skip
ERASED = 6
# Method, its options: the learning rates of the papers are for a model a hundred times as large,
# and these were chosen so that the concept is gone, or no setting was found that erases.
METHODS: dict[str, tuple[str, dict[str, object]]] = {
    "closed-form": ("closed-form", {}),
    "srs-me": ("srs-me", {}),
    "srs-me-joint": ("srs-me-joint", {"batch_size": 4, "iterations": 200}),
    "srs-me-free": ("srs-me-free", {"iterations": 100, "learning_rate": 3e-4}),
    "esd x": ("esd", {"iterations": 60, "learning_rate": 3e-4, "batch_size": 4}),
    "esd u": ("esd", {"layers": "u", "iterations": 60, "learning_rate": 1e-4, "batch_size": 4}),
    "concept-ablation": ("concept-ablation", {"iterations": 60, "learning_rate": 3e-4}),
    "forget-me-not": ("forget-me-not", {}),
    "uce": ("uce", {}),
    "speed-like": ("speed-like", {}),
}


def measure(label: str, images: int) -> dict[str, object]:
    """Erases by one method, and measures all steps of both scenes."""
    method, options = METHODS[label]
    with tempfile.TemporaryDirectory() as home:
        workspace = api.open_workspace(load_settings(home=Path(home), base=miniature.NAME))
        bench = Bench(workspace, images)
        before_erasing = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        artists = bench.artists[:ERASED]
        results = api.erase(workspace, artists, method=method, options=options, force=True)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        seconds = [result.metrics["seconds"] for result in results]
        cells = {artist: bench.names([artist]) for artist in bench.artists}
        cells["plain"] = Cell(bench.plain().prompts * 2, ())
        for cell in cells.values():
            bench.generate_base(cell)
        generated: dict[tuple[int, ...], dict[str, np.ndarray]] = {}
        scenes = {
            scene: [_judge(bench, cells, steps, step, generated) for step in range(len(steps))]
            for scene, steps in SCENES.items()
        }
    return {
        "method": label,
        # A joint training is one for all, and each of its shifts tells the whole time.
        "seconds": max(seconds) if method == "srs-me-joint" else sum(seconds),
        "megabytes": peak / 1024,
        "megabytes before": before_erasing / 1024,
        "scenes": scenes,
    }


def _judge(
    bench: Bench,
    cells: dict[str, Cell],
    steps: Sequence[tuple[int, ...]],
    step: int,
    generated: dict[tuple[int, ...], dict[str, np.ndarray]],
) -> dict[str, dict[str, float]]:
    erased = steps[step]
    if erased not in generated:
        workspace = bench.workspace
        names = [bench.artists[i] for i in erased]
        composition = plan_shifts(
            workspace, api.plan_composition(workspace, api.Selection(only=names))
        )
        unet = workspace.pipeline.unet
        weights = merged_weights(pipelines.parameters(unet), composition)
        with pipelines.applied_weights(unet, weights):
            generated[erased] = {name: bench.generate(cell) for name, cell in cells.items()}
    once = {i for earlier in steps[:step] for i in earlier}
    groups = {
        "forgotten": erased,
        "recovered": tuple(sorted(once - set(erased))),
        "regular": tuple(range(ERASED, len(bench.artists))),
    }
    named = {group: [bench.artists[i] for i in numbers] for group, numbers in groups.items()}
    named["plain"] = ["plain"]
    return {
        group: _score(bench, [cells[n] for n in names], [generated[erased][n] for n in names])
        for group, names in named.items()
        if names
    }


def _score(bench: Bench, cells: list[Cell], after: list[np.ndarray]) -> dict[str, float]:
    before = np.concatenate([bench.base_images(cell) for cell in cells])
    changed = np.concatenate(after)
    scores = {
        "FD": frechet_distance(alexnet_features(before), alexnet_features(changed)),
        "LPIPS": float(lpips_distances(before, changed).mean()),
    }
    if cells[0].labels:
        labels = Cell((), tuple(label for cell in cells for label in cell.labels))
        scores["ACC"] = bench.style_shares(labels, changed)[0]
    return scores


def table(scene: str, results: Sequence[dict]) -> Table:
    """The paper's table of one scene after its last step that has recovered concepts."""
    shown = Table(title=f"{scene}, after its last step (FD / ACC / LPIPS)")
    for column in ("Method", "Forgotten", "Recovered", "Regular", "Plain", "Seconds", "Peak MB"):
        shown.add_column(column)
    for result in results:
        last = result["scenes"][scene][-1]
        cells = [
            f"{s['FD']:.2f} / {s['ACC']:.0%} / {s['LPIPS']:.3f}"
            if "ACC" in s
            else f"{s['FD']:.2f} / {s['LPIPS']:.3f}"
            for s in (last[group] for group in ("forgotten", "recovered", "regular", "plain"))
        ]
        time, memory = f"{result['seconds']:.1f}", f"{result['megabytes']:.0f}"
        shown.add_row(result["method"], *cells, time, memory)
    return shown


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=10, help="images a prompt")
    parser.add_argument("--methods", nargs="*", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--out", type=Path, help="JSON; measured methods in it are kept")
    parser.add_argument("--alone", choices=list(METHODS), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.alone:
        print(json.dumps(measure(arguments.alone, arguments.images)))
        return
    results = {}
    if arguments.out and arguments.out.exists():
        results = {r["method"]: r for r in json.loads(arguments.out.read_text())}
    for method in arguments.methods:
        # A process of its own: peak memory never falls.
        command = [sys.executable, __file__, "--alone", method, "--images", str(arguments.images)]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        results[method] = json.loads(done.stdout.splitlines()[-1])
        print(method, json.dumps(results[method]["scenes"]["Scene 1"][-1]), flush=True)
        if arguments.out:
            kept = [results[m] for m in METHODS if m in results]
            arguments.out.write_text(json.dumps(kept, indent=2) + "\n")
    console = Console(width=150)
    for scene in SCENES:
        console.print(table(scene, [results[m] for m in METHODS if m in results]))


if __name__ == "__main__":
    main()
