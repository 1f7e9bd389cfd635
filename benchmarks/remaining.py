"""What is left of a concept in the network's own terms, beside what the classifier sees.

python benchmarks/remaining.py --images 20 --out remaining.json
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from shiftreg import api, miniature, pipelines
from shiftreg.api.composition.contents import Contents
from shiftreg.api.composition.images import remaining
from shiftreg.compose import Composition, merged_weights
from shiftreg.concepts import Concept
from shiftreg.evaluation.classifier import load_classifier
from shiftreg.settings import Settings
from shiftreg.shift import ConceptShift

METHODS = (
    "closed-form",
    "closed-form-hardened",
    "srs-me",
    "esd",
    "concept-ablation",
    "uce",
    "speed-like",
)
ARTISTS = ("Caravaggio", "Picasso", "Jackson Pollock")
PARTS = (1.0, 0.75, 0.5, 0.25)  # of the closed form's change


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--methods", nargs="+", default=METHODS)
    parser.add_argument("--artists", nargs="+", default=ARTISTS)
    parser.add_argument("--images", type=int, default=20)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        workspace = api.open_workspace(Settings(Path(folder) / "home", miniature.NAME, None))
        for method in arguments.methods:
            for artist in arguments.artists:
                for row in measured(workspace, method, artist, arguments.images):
                    rows.append(row)
                    print(row, flush=True)
                    arguments.out.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


def measured(
    workspace: api.Workspace, method: str, artist: str, images: int
) -> Iterator[dict[str, object]]:
    (result,) = api.erase(workspace, [artist], method=method, force=True)
    shift = workspace.shift_of(artist, result.version)
    for part in PARTS if method == "closed-form" else (1.0,):
        factors = {layer: part * factor for layer, factor in shift.factors.items()}
        yield {
            "method": method if part == 1 else f"{part:.0%} of closed-form",
            "artist": artist,
            "left_in_layers": result.metrics.get("left_in_layers") if part == 1 else None,
            **looked_at(workspace, replace(shift, factors=factors), images),
        }


def looked_at(workspace: api.Workspace, shift: ConceptShift, images: int) -> dict[str, float]:
    """What is left by noise predictions, and in how many images the artist is found."""
    composition = Composition.of(shift.base_digest, [shift])
    weights = merged_weights(pipelines.parameters(workspace.network), composition)
    plan = api.plan_composition(workspace)
    checks = remaining(workspace, Contents(plan, composition, weights), 1.0)
    seen = {check.subject.split(", ")[1]: check.value for check in checks}
    pairs = Concept(shift.concept).held_out_pairs(
        workspace.base.held_out_templates, workspace.base.subjects
    )
    prompts = [shift.concept] * images + [pairs[i % len(pairs)].prompt for i in range(images)]
    classifier = load_classifier(miniature.STYLE_CLASSIFIER)
    with pipelines.applied_weights(workspace.network, weights):
        generated = pipelines.generate(
            workspace.pipeline,
            prompts,
            [*range(images), *range(images)],
            steps=workspace.base.steps,
            guidance=workspace.base.guidance,
        )
    found = classifier.predict(generated) == classifier.labels.index(shift.concept)
    return seen | {
        "found by name": float(found[:images].mean()),
        "found by held-out prompts": float(found[images:].mean()),
    }


if __name__ == "__main__":
    main()
