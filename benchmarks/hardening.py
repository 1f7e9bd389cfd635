"""Breaks hardened erasures again and again, and prints how much more rarely they break.

    python benchmarks/hardening.py --out docs/hardening.json

Each artist is erased by the closed form, and by the hardened one with several seeds: other random
words to start from. Concept inversion attacks each with several seeds of its own, none of which a
hardening used. What is in the file already is not done again.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from costs import erasure_costs
from rich.console import Console
from rich.progress import track
from rich.table import Table

from shiftreg import api, miniature
from shiftreg.attacks.results import BASE, COMPOSITION
from shiftreg.evaluation.intervals import mean
from shiftreg.settings import load_settings

ATTACK = "concept-inversion"
FIRST_SEED = 1000  # of the attacks, far from those that hardening draws its words from
PLAIN = "closed-form"


def measure(
    workspace: api.Workspace, artist: str, rounds: int, seed: int, attacks: int, images: int
) -> dict[str, Any]:
    """Erases an artist once, attacks it with several seeds, and measures what it costs.

    Args:
        workspace: An empty registry's.
        artist: Who is erased.
        rounds: Of hardening; 0 for the closed form alone.
        seed: Of the hardening.
        attacks: How many.
        images: Images an attack.
    """
    method, options = PLAIN, {}
    if rounds:
        method, options = "closed-form-hardened", {"rounds": rounds}
    (erased,) = api.erase(
        workspace, [artist], method=method, options=options, seed=seed, force=True
    )
    costs = erasure_costs(workspace, erased, images)
    found: dict[str, list[float]] = {BASE: [], COMPOSITION: []}
    for number in range(attacks):
        report = api.attack(
            workspace, artist, attacks=[ATTACK], images=images, seed=FIRST_SEED + number
        )
        for score in report.scores:
            found[score.target].append(score.success.value)
    return {
        "artist": artist,
        "rounds": rounds,
        "seed": seed,
        "images": images,
        **costs,
        "detected under attack on the base": found[BASE],
        "detected under attack": found[COMPOSITION],
    }


def show(results: list[dict[str, Any]]) -> None:
    """A row for each artist and number of rounds, and one for all artists."""
    table = Table(title=f"Images in which {ATTACK} brings the artist back")
    columns = ("Artist", "Rounds", "Erasures", "Attacks", "AttackResult", "95%", "Each attack")
    for column in columns:
        table.add_column(column)
    artists = list(dict.fromkeys(one["artist"] for one in results))
    for rounds in sorted({one["rounds"] for one in results}):
        alike = [one for one in results if one["rounds"] == rounds]
        for name, some in (
            *((artist, [one for one in alike if one["artist"] == artist]) for artist in artists),
            ("all", alike),
        ):
            if not some:
                continue
            shares = [share for one in some for share in one["detected under attack"]]
            # Images of one attack are alike: attacks are resampled, not images.
            found = mean(np.array(shares))
            table.add_row(
                name,
                str(rounds),
                str(len(some)),
                str(len(shares)),
                f"{found.value:.0%}",
                f"{found.low:.0%} to {found.high:.0%}",
                "" if name == "all" else " ".join(f"{share:.0%}" for share in shares),
            )
    console = Console(width=140)
    console.print(table)
    costs = Table(title="Without attack, and what it costs: the worst erasure")
    keys = [
        key
        for key, value in results[0].items()
        if isinstance(value, float) and not key.startswith("detected under attack")
    ]
    rounds_measured = sorted({one["rounds"] for one in results})
    for column in ("", *(f"{rounds} rounds" for rounds in rounds_measured)):
        costs.add_column(column)
    for key in keys:
        worst = [max(one[key] for one in results if one["rounds"] == r) for r in rounds_measured]
        costs.add_row(key, *(f"{value:.3g}" for value in worst))
    console.print(costs)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--artists", nargs="*", default=["Caravaggio", "Van Gogh", "Picasso"])
    parser.add_argument("--rounds", nargs="*", type=int, default=[0, 3])
    parser.add_argument("--seeds", type=int, default=2, help="hardened erasures an artist")
    parser.add_argument("--attacks", type=int, default=3, help="attacks an erasure")
    parser.add_argument("--images", type=int, default=8, help="images an attack")
    parser.add_argument("--out", type=Path, help="JSON; what is in it is kept")
    given = parser.parse_args()
    results: list[dict[str, Any]] = []
    if given.out and given.out.exists():
        results = json.loads(given.out.read_text(encoding="utf-8"))
    done = {(one["artist"], one["rounds"], one["seed"]) for one in results}
    # The closed form is the same for all seeds.
    wanted = [
        (artist, rounds, seed)
        for rounds, seed, artist in product(given.rounds, range(given.seeds), given.artists)
        if (rounds or not seed) and (artist, rounds, seed) not in done
    ]
    for artist, rounds, seed in track(wanted, console=Console()):
        with tempfile.TemporaryDirectory() as home:
            workspace = api.open_workspace(load_settings(home=Path(home), base=miniature.NAME))
            results.append(measure(workspace, artist, rounds, seed, given.attacks, given.images))
        if given.out:
            given.out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    show(results)


if __name__ == "__main__":
    main()
