"""Measures what erasing costs and gains on the miniature, for each artist alone, all, all but one.

    python benchmarks/erasure.py --method closed-form --out docs/erasure-closed-form.json

A cell is 50 images (10 for QR codes), the same seeds on base and composition. "Others" cells
spread their images over all other artists.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

import numpy as np

from shiftreg import api, miniature, pipelines
from shiftreg.api.composition.compose import plan_shifts
from shiftreg.compose import merged_weights
from shiftreg.concepts import fill
from shiftreg.evaluation.classifier import load_classifier
from shiftreg.evaluation.perceptual import lpips_distances
from shiftreg.evaluation.watermark import decodes
from shiftreg.settings import load_settings

QR_IMAGES = 10


@dataclass(frozen=True)
class Cell:
    """Prompts of one cell, and the artist or subject that each shows."""

    prompts: tuple[str, ...]
    labels: tuple[str, ...]


class Bench:
    """Generates cells with the base once, and with every composition."""

    def __init__(self, workspace: api.Workspace, images: int) -> None:
        self.workspace, self.images = workspace, images
        self.artists = workspace.base.protected
        self.subjects = workspace.base.subjects
        self.styles = load_classifier(miniature.STYLE_CLASSIFIER)
        self.subject_classifier = load_classifier(miniature.SUBJECT_CLASSIFIER)
        self._base_images: dict[tuple[str, int], np.ndarray] = {}

    def names(self, artists: Sequence[str]) -> Cell:
        labels = self._spread(artists)
        return Cell(labels, labels)

    def held_out(self, artists: Sequence[str]) -> Cell:
        templates = self.workspace.base.held_out_templates
        labels = self._spread(artists)
        pairs = [(t, s) for s in self.subjects for t in templates]
        rounds = (i // len(artists) for i in range(self.images))
        prompts = tuple(
            fill(*pairs[(i * 7) % len(pairs)], a) for i, a in zip(rounds, labels, strict=True)
        )
        return Cell(prompts, labels)

    def generated_by(self, artists: Sequence[str]) -> Cell:
        labels = self._spread(self.subjects)
        return Cell(
            tuple(
                fill("a painting of a {subject} by {concept}", s, artists[i % len(artists)])
                for i, s in enumerate(labels)
            ),
            labels,
        )

    def paintings(self) -> Cell:
        labels = self._spread(self.subjects)
        return Cell(tuple(fill("a painting of a {subject}", s) for s in labels), labels)

    def plain(self) -> Cell:
        prompts = self.workspace.base.preserved
        return Cell(tuple(prompts[(i * 11) % len(prompts)] for i in range(self.images)), ())

    def _spread(self, names: Sequence[str]) -> tuple[str, ...]:
        return tuple(names[i % len(names)] for i in range(self.images))

    @staticmethod
    def _keys(cell: Cell) -> list[tuple[str, int]]:
        """Prompts with seeds: the n-th image of a prompt has the same seed in every cell."""
        seen: Counter[str] = Counter()
        keys = []
        for prompt in cell.prompts:
            keys.append((prompt, crc32(prompt.encode()) % 100_000 + seen[prompt]))
            seen[prompt] += 1
        return keys

    def generate(self, cell: Cell) -> np.ndarray:
        return self._generate(self._keys(cell))

    def _generate(self, keys: list[tuple[str, int]]) -> np.ndarray:
        base = self.workspace.base
        return pipelines.generate(
            self.workspace.pipeline,
            [prompt for prompt, _ in keys],
            [seed for _, seed in keys],
            steps=base.steps,
            guidance=base.guidance,
        )

    def generate_base(self, cell: Cell) -> None:
        """Generates what is missing of a cell, while the base's own weights are in place."""
        if missing := [key for key in self._keys(cell) if key not in self._base_images]:
            self._base_images |= zip(missing, self._generate(missing), strict=True)

    def base_images(self, cell: Cell) -> np.ndarray:
        return np.stack([self._base_images[key] for key in self._keys(cell)])

    def style_shares(self, cell: Cell, images: np.ndarray) -> tuple[float, float]:
        """Share of images in the style their label says, and share that reads as plain."""
        predicted = np.array(self.styles.labels)[self.styles.predict(images)]
        return float((predicted == np.array(cell.labels)).mean()), float(
            (predicted == "plain").mean()
        )

    def subject_share(self, cell: Cell, images: np.ndarray) -> float:
        predicted = self.subject_classifier.predict(images)
        return float((np.array(self.subject_classifier.labels)[predicted] == cell.labels).mean())

    def decode_rates(self) -> dict[str, float]:
        rates = {}
        for trigger, payload in self.workspace.base.triggers.items():
            images = self.generate(Cell((trigger,) * QR_IMAGES, ()))
            rates[f"QR {trigger}"] = float(decodes(images, payload).mean())
        return rates


def measure(bench: Bench, erased: Sequence[str], each: bool) -> dict[str, object]:
    """Measures one composition; ``each`` measures every erased artist in cells of its own."""
    kept = [artist for artist in bench.artists if artist not in erased]
    groups = [[artist] for artist in erased] if each else [list(erased)]
    untouched = [bench.plain(), *((bench.names(kept), bench.held_out(kept)) if kept else ())]
    for cell in (*untouched, bench.paintings()):
        bench.generate_base(cell)
    base_plain_subjects = bench.subject_share(
        bench.paintings(), bench.base_images(bench.paintings())
    )
    workspace = bench.workspace
    composition = plan_shifts(
        workspace, api.plan_composition(workspace, api.Selection(only=erased))
    )
    weights = merged_weights(pipelines.layer_weights(workspace.pipeline.unet), composition)
    result: dict[str, object] = {"erased": list(erased)}
    with pipelines.applied_weights(workspace.pipeline.unet, weights):
        for group in groups:
            row = {}
            for key, cell in (
                ("name", bench.names(group)),
                ("held-out", bench.held_out(group)),
            ):
                row[f"{key} accuracy"], row[f"{key} plain"] = bench.style_shares(
                    cell, bench.generate(cell)
                )
            generated = bench.generated_by(group)
            row["subject ratio"] = (
                bench.subject_share(generated, bench.generate(generated)) / base_plain_subjects
            )
            result[" + ".join(group) if each else "erased together"] = row
        plain = bench.plain()
        distances = lpips_distances(bench.base_images(plain), bench.generate(plain))
        result["plain LPIPS"] = float(distances.mean())
        if kept:
            for key, cell in (("names", bench.names(kept)), ("held-out", bench.held_out(kept))):
                before, after = bench.base_images(cell), bench.generate(cell)
                result[f"others' {key} LPIPS"] = float(lpips_distances(before, after).mean())
                result[f"others' {key} accuracy lost"] = (
                    bench.style_shares(cell, before)[0] - bench.style_shares(cell, after)[0]
                )
        result |= bench.decode_rates()
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--method", default="closed-form")
    parser.add_argument("--images", type=int, default=50)
    parser.add_argument("--only-artist", help="measure this artist alone, and nothing else")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    options = dict(item.split("=", 1) for item in arguments.set)
    results = []
    with tempfile.TemporaryDirectory() as home:
        workspace = api.open_workspace(load_settings(home=Path(home), base=miniature.NAME))
        bench = Bench(workspace, arguments.images)
        artists = [arguments.only_artist] if arguments.only_artist else bench.artists
        erasures = api.erase(
            workspace, artists, method=arguments.method, options=options, force=True
        )
        for erasure in erasures:
            shown = {key: round(value, 6) for key, value in erasure.metrics.items()}
            print(erasure.statement, shown, erasure.plan.capacity, flush=True)
        print("base QR", bench.decode_rates(), flush=True)
        compositions = [([artist], True) for artist in artists]
        if not arguments.only_artist:
            compositions.append((list(artists), True))
            compositions += [([b for b in artists if b != a], False) for a in artists]
        for erased, each in compositions:
            results.append(measure(bench, erased, each))
            print(json.dumps(results[-1]), flush=True)
            if arguments.out:
                arguments.out.write_text(json.dumps(results, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
