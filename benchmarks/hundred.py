"""Registers the hundred concepts of docs/capacity.json on the miniature, and verifies all of them.

    python benchmarks/hundred.py

Ten minutes on two cores. Prints the max drift, the bounds, and every check that failed.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from shiftreg import api, miniature
from shiftreg.settings import load_settings

NAMES = Path(__file__).parents[1] / "docs" / "capacity.json"


def main() -> None:
    names = json.loads(NAMES.read_text(encoding="utf-8"))["names"]
    with tempfile.TemporaryDirectory() as home:
        settings = load_settings(home=Path(home), base=miniature.NAME)
        workspace = api.open_workspace(settings)
        api.register_base(workspace, steps=1)  # the samples of each erasure are not looked at
        results = api.erase(
            workspace, names, profile="svd:0.01", options={"naming": 32}, force=True
        )
        drifts = [result.metrics["max_drift"] for result in results]
        bounds = [result.metrics["drift_bound"] for result in results]
        print(f"{len(results)} erased; max drift {max(drifts):.2f}, bounds up to {max(bounds):.2f}")
        print(
            "every drift within its bound:",
            all(a <= b for a, b in zip(drifts, bounds, strict=True)),
        )
        workspace = api.open_workspace(settings)
        api.register_base(workspace)
        checks = api.verify(workspace, images=2).checks
        failed = [check for check in checks if not check.passed]
        print(f"{len(checks)} checks, {len(failed)} failed", *failed, sep="\n")


if __name__ == "__main__":
    main()
