"""Attacks erasures of several methods, before and after hardening, and prints who was found again.

    python benchmarks/robustness.py --out docs/robustness.json

Each method erases each artist once, in a registry of the benchmark's own; every attack runs on the
base (does it find what is not erased?) and on the model without the artist by each method. What
hardening costs is measured on ordinary prompts and held-out prompts of other artists.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

from comparison import METHODS
from costs import erasure_costs
from rich.console import Console
from rich.progress import track
from rich.table import Table

from shiftreg import api, miniature
from shiftreg.plugins import known_attacks
from shiftreg.settings import load_settings

COMPARED = ("closed-form", "closed-form-hardened", "srs-me", "esd x", "concept-ablation", "uce")


def measure(
    workspace: api.Workspace, artist: str, methods: list[str], attacks: list[str], images: int
) -> dict[str, object]:
    """Erases an artist by every method, attacks all of them, and measures what each costs."""
    costs, versions = {}, {}
    for label in methods:
        method, options = METHODS.get(label, (label, {}))
        (result,) = api.erase(workspace, [artist], method=method, options=options, force=True)
        costs[label] = erasure_costs(workspace, result, images)
        versions[label] = result.version
    # The last one is attacked as the composition, the others as versions.
    last = methods[-1]
    against = [f"@{versions[label]}" for label in methods[:-1]]
    report = api.attack(workspace, artist, attacks=attacks, against=against, images=images)
    success: dict[str, dict[str, object]] = {}
    for score in report.scores:
        label = score.target
        if label == "composition":
            label = last
        for name, version in versions.items():
            if score.target.startswith(f"{artist}@{version} "):
                label = name
        success.setdefault(score.attack, {})[label] = {
            "success": score.success.value,
            "low": score.success.low,
            "high": score.success.high,
            "seconds": score.seconds,
        }
    return {"artist": artist, "images": images, "costs": costs, "success": success}


def show(results: list[dict]) -> None:
    """One table of successes, pooled over artists, and one of costs."""
    console = Console(width=150)
    methods = list(results[0]["costs"])
    columns = ["base", *methods]
    table = Table(title=f"Images in which the artist is found, {len(results)} artists")
    for column in ("Attack", *columns):
        table.add_column(column)
    for attack in results[0]["success"]:
        rates = [[r["success"][attack][c]["success"] for r in results] for c in columns]
        table.add_row(attack, *(f"{sum(row) / len(row):.0%}" for row in rates))
    console.print(table)
    costs = Table(title="Without attack, and what it costs (the worst artist)")
    for column in ("", *methods):
        costs.add_column(column)
    for key in results[0]["costs"][methods[0]]:
        worst = [max(r["costs"][m][key] for r in results) for m in methods]
        costs.add_row(key, *(f"{value:.4g}" for value in worst))
    console.print(costs)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--artists", nargs="*", default=["Caravaggio"])
    parser.add_argument("--methods", nargs="*", default=list(COMPARED))
    parser.add_argument("--attacks", nargs="*", default=list(known_attacks()))
    parser.add_argument("--images", type=int, default=8, help="images an attack and target")
    parser.add_argument("--out", type=Path, help="JSON; artists that are in it are kept")
    arguments = parser.parse_args()
    results = []
    if arguments.out and arguments.out.exists():
        results = json.loads(arguments.out.read_text())
    done = {result["artist"] for result in results}
    for artist in track([a for a in arguments.artists if a not in done], console=Console()):
        with tempfile.TemporaryDirectory() as home:
            workspace = api.open_workspace(load_settings(home=Path(home), base=miniature.NAME))
            results.append(
                measure(workspace, artist, arguments.methods, arguments.attacks, arguments.images)
            )
        if arguments.out:
            arguments.out.write_text(json.dumps(results, indent=2) + "\n")
    show(results)


if __name__ == "__main__":
    main()
