"""Measures how many concepts the miniature holds beside each other, and at what cost.

    python benchmarks/capacity.py --out docs/capacity.json --figures docs
    python benchmarks/capacity.py --no-images       # the algebra alone, a few minutes

A hundred names are registered: the nine artists, and 91 that the base has never seen. Each gets a
shift that must leave the 99 others alone.
"""

from __future__ import annotations

import argparse
import json
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from erasure import Bench, Cell
from torch import Tensor

from shiftreg import miniature, pipelines
from shiftreg.concepts import Concept
from shiftreg.erasers import ClosedForm, ErasureProblem, predict_capacity
from shiftreg.evaluation.perceptual import lpips_distances
from shiftreg.pipelines.prompts import token_ids
from shiftreg.profiles import Profile, profile_null_basis

PREFIXES = re.findall(
    r"\w+", "bar cen car har kili gar mar vin wat bl po go ba li para dra keit poll ho pa ra"
)
ENDINGS = re.findall(r"\w+", "in en an on ock er ne so to ch nan age it ting sh ul te")
CURVE_PROFILES = ("exact", "content:0.01", "svd:0.001", "svd:0.01")


@dataclass(frozen=True)
class Strategy:
    """What is kept exactly and how much the rest weighs.

    Attributes:
        profile: Of the names that ``hard`` does not list.
        hard: "listed": the empty prompt and the triggers are exact; "artists": so are the artists.
        profiled: Whether the other names contribute to the null space at all.
        names, templates, ordinary: Weights of the other names, of the templates with them, and of
            ordinary prompts, in units of the eraser's ``preservation``.
        naming: The eraser's.
    """

    label: str
    profile: str = "exact"
    hard: str = "artists"
    profiled: bool = True
    names: float = 0.0
    templates: float = 1.0
    ordinary: float = 1.0
    naming: float = 0.0


SOFT = Strategy("soft names only", hard="listed", profiled=False, names=10, naming=32)
STRATEGIES = (
    Strategy("exact, all names"),
    Strategy("content:0.01, all names", "content:0.01", "listed"),
    Strategy("artists exact, nothing else", profiled=False),
    *(Strategy(f"svd:1e-{k}, all names", f"svd:1e-{k}", "listed") for k in range(1, 7)),
    SOFT,
    Strategy("svd:1e-2, all names + soft + naming", "svd:1e-2", "listed", names=10, naming=32),
    Strategy("svd:1e-3, all names + soft + naming", "svd:1e-3", "listed", names=10, naming=32),
    Strategy("artists exact + soft + naming", profiled=False, names=10, naming=32),
    Strategy("artists exact, svd:1e-2 + soft + naming", "svd:1e-2", names=10, naming=32),
    Strategy("artists exact, svd:3e-3 + soft + naming", "svd:3e-3", names=10, naming=32),
    Strategy("artists exact, svd:1e-2 + soft, no naming", "svd:1e-2", names=10),
    Strategy("artists exact, svd:1e-2 + soft x 5 + naming", "svd:1e-2", names=50, naming=32),
    Strategy(
        "artists exact, svd:1e-2 + soft + naming, templates x 5",
        "svd:1e-2",
        names=10,
        templates=5,
        ordinary=5,
        naming=32,
    ),
)
WITH_PICTURES = (
    "artists exact, nothing else",
    "svd:1e-2, all names + soft + naming",
    "artists exact, svd:1e-2 + soft + naming",
    "artists exact, svd:3e-3 + soft + naming",
)
DRIFT_WITH_IMAGES = ("svd:1e-1, all names", "svd:1e-2, all names", "svd:1e-3, all names")


@dataclass
class Names:
    """All that the algebra needs to know of a set of registered names."""

    pipeline: Any
    names: list[str]
    triggers: list[str]
    ordinary: list[str]
    subjects: list[str]
    problems: list[ErasureProblem] = field(default_factory=list)
    templates: list[Tensor] = field(default_factory=list)  # R'R of all templates of a name
    sentences: list[Tensor] = field(default_factory=list)  # (8, L, d_in), some of a name's

    def __post_init__(self) -> None:
        self.weights = pipelines.layer_weights(self.pipeline.unet)
        self.stacked = torch.cat([w.double() for w in self.weights.values()])
        self.sizes = [len(w) for w in self.weights.values()]
        self.listed = self.encode(["", *self.triggers])
        self.name_embeds = self.encode(self.names)
        self.ordinary_embeds = self.encode(self.ordinary)
        self.counts = self.count(["", *self.triggers, *self.names])
        for name in self.names:
            self._add(name)

    def encode(self, prompts: Sequence[str]) -> Tensor:
        return pipelines.encode_prompts(self.pipeline, prompts)

    def count(self, prompts: Sequence[str]) -> list[int]:
        return [len(ids) for ids in token_ids(self.pipeline, prompts)]

    def _add(self, name: str) -> None:
        pairs = Concept(name).prompt_pairs(self.subjects)
        fits = pipelines.fitting(self.pipeline, [pair.prompt for pair in pairs])
        pairs = [pair for pair, fit in zip(pairs, fits, strict=True) if fit]
        embeds = self.encode([pair.prompt for pair in pairs])
        unused = torch.zeros(0, embeds.shape[-1])
        self.problems.append(
            ErasureProblem(
                prompt_embeds=embeds,
                anchor_embeds=self.encode([pair.anchor for pair in pairs]),
                name_positions=tuple(pipelines.name_positions(self.pipeline, pairs)),
                name_ends=(0,) * len(pairs),  # for methods that look at one row a concept
                anchor_ends=(0,) * len(pairs),
                bare_names=(0,),  # the first prompt is the name alone
                empty_embeds=self.listed[0],
                retained_rows=unused,
                preserved_rows=unused,
                null_basis=torch.eye(embeds.shape[-1], dtype=torch.float64),
            )
        )
        self.templates.append(_moments(embeds))
        self.sentences.append(embeds[:: max(1, len(embeds) // 8)])

    def problem(
        self, position: int, strategy: Strategy, artists: int, registered: int | None = None
    ) -> ErasureProblem:
        """The erasure of one name with the other ``registered`` ones beside it."""
        others = [i for i in range(registered or len(self.names)) if i != position]
        exact = [i for i in others if i < artists] if strategy.hard == "artists" else []
        kept = others if strategy.profiled else exact
        first = len(self.listed)
        basis = profile_null_basis(
            torch.cat([self.listed, self.name_embeds[kept]]),
            [*self.counts[:first], *(self.counts[first + i] for i in kept)],
            Profile.parse(strategy.profile),
            exact=[*range(first), *(first + n for n, i in enumerate(kept) if i in exact)],
        )
        # The eraser takes rows, and wants their second moments only: 256 rows say all of them.
        soft = strategy.ordinary * _moments(self.ordinary_embeds)
        if others:
            soft += strategy.templates * sum(self.templates[i] for i in others) / len(others)
            soft += strategy.names * _moments(self.name_embeds[others])
        values, vectors = torch.linalg.eigh(soft)
        rows = (vectors * values.clamp(min=0).sqrt()).T * len(soft) ** 0.5
        return replace(
            self.problems[position],
            preserved_rows=rows,
            null_basis=basis,
        )

    def drifts(self, embeds: Tensor, embedding_map: Tensor) -> Tensor:
        """``max_l |e delta_l'| / |e W_l'|`` of each prompt ``(n, L, d_in)``."""
        moved, kept = (
            (rows @ self.stacked.T).split(self.sizes, -1)
            for rows in (embeds.double() @ embedding_map.T, embeds.double())
        )
        shares = [
            m.flatten(1).norm(dim=1) / k.flatten(1).norm(dim=1)
            for m, k in zip(moved, kept, strict=True)
        ]
        return torch.stack(shares).amax(0)

    def unmet(self, problem: ErasureProblem, embedding_map: Tensor) -> float:
        """Share of the erasure's target that a change leaves, in the worst layer."""
        concept, anchor = problem.suffix_rows()
        target = anchor - concept
        left, whole = (
            (rows @ self.stacked.T).split(self.sizes, -1)
            for rows in (concept @ embedding_map.T - target, target)
        )
        return max(float(a.norm() / b.norm()) for a, b in zip(left, whole, strict=True))

    def ratio(self, embedding_map: Tensor) -> float:
        return max(
            float((w.double() @ embedding_map).norm() / w.double().norm())
            for w in self.weights.values()
        )


def _moments(embeds: Tensor) -> Tensor:
    rows = embeds.flatten(0, 1).double()
    return rows.T @ rows / len(rows)


def invented_names(pipeline: Any, count: int) -> list[str]:
    """Two-word names of two syllables a word that the tokenizer has, the same ones every time."""
    vowels = "aeiou"
    words = [p + e for p, e in product(PREFIXES, ENDINGS) if (p[-1] in vowels) != (e[0] in vowels)]
    lists = token_ids(pipeline, words)
    words = [word for word, ids in zip(words, lists, strict=True) if len(ids) == 4]
    draw = random.Random(0)
    pairs = zip(draw.sample(words, count), draw.sample(words, count), strict=True)
    return [f"{first} {second}".title() for first, second in pairs]


def solve_all(names: Names, strategy: Strategy, artists: int) -> tuple[list[Tensor], list[int]]:
    """One map of embeddings a name (``delta_l = W_l @ map``), and the free dimensions of each."""
    maps, free = [], []
    for position in range(len(names.names)):
        problem = names.problem(position, strategy, artists)
        maps.append(ClosedForm(naming=strategy.naming).embedding_map(problem))
        free.append(len(problem.null_basis))
    return maps, free


def algebra(
    names: Names, strategy: Strategy, maps: list[Tensor], free: list[int], artists: int
) -> dict[str, Any]:
    together = sum(maps, torch.zeros_like(maps[0]))
    count = len(maps)
    single = []
    for position, embedding_map in enumerate(maps):
        row = names.drifts(names.name_embeds, embedding_map)
        row[position] = 0
        single.append(float(row.max()))
    restored = [
        float(names.drifts(names.name_embeds[[k]], together - maps[k]).max()) for k in range(count)
    ]
    sentences = [
        float(names.drifts(names.sentences[k], together - maps[k]).max()) for k in range(count)
    ]
    bare = [names.unmet(names.problems[k].only([0]), maps[k]) for k in range(count)]
    templates = [names.unmet(names.problems[k], maps[k]) for k in range(count)]
    return {
        "strategy": strategy.label,
        "free": min(free),
        "listed drift": float(names.drifts(names.listed, together).max()),
        "drift, one shift": max(single),
        "drift, all others on": max(restored),
        "drift, all others on, median": float(np.median(restored)),
        "drift, all others on, artists": max(restored[:artists]),
        "drift, templates, artists": max(sentences[:artists]),
        "drift, ordinary": float(names.drifts(names.ordinary_embeds, together).max()),
        "unmet, name, artists": max(bare[:artists]),
        "unmet, templates, artists": max(templates[:artists]),
        "unmet, name, median": float(np.median(bare)),
        "unmet, templates, median": float(np.median(templates)),
        "ratio, one shift": max(names.ratio(m) for m in maps),
        "ratio, all": names.ratio(together),
    }


def curve(names: Names) -> list[dict[str, Any]]:
    """What erasing the first artist takes with 1 to 20 names registered, by profile."""
    rows = []
    for profile, registered in product(CURVE_PROFILES, range(1, 21)):
        strategy = Strategy("", profile, "listed")
        problem = names.problem(0, strategy, 0, registered)
        capacity = predict_capacity(problem, names.weights, [0])
        embedding_map = ClosedForm().embedding_map(problem)
        drifts = names.drifts(names.name_embeds[:registered], embedding_map)
        drifts[0] = 0
        rows.append(
            {
                "profile": profile,
                "registered": registered,
                "free": capacity.free,
                "residual": capacity.predicted_residual,
                "ratio": capacity.predicted_ratio,
                "unmet, templates": names.unmet(problem, embedding_map),
                "drift": float(drifts.max()),
            }
        )
    return rows


class Images:
    """Generates the artists' cells under sums of shifts; see ``erasure.py`` for the cells."""

    def __init__(self, names: Names, images: int) -> None:
        facts = miniature.prompts()
        base = SimpleNamespace(**facts)
        self.names, self.artists = names, tuple(facts["protected"])
        self.bench = Bench(SimpleNamespace(base=base, pipeline=names.pipeline), images)

    def applied(self, embedding_map: Tensor) -> Any:
        weights = {
            layer: (w.double() + w.double() @ embedding_map).float()
            for layer, w in self.names.weights.items()
        }
        return pipelines.applied_weights(self.names.pipeline.unet, weights)

    def found(self, artist: str, embedding_map: Tensor) -> dict[str, float]:
        with self.applied(embedding_map):
            return {
                key: self.bench.style_shares(cell, self.bench.generate(cell))[0]
                for key, cell in self._cells(artist)
            }

    def _cells(self, artist: str) -> list[tuple[str, Cell]]:
        return [("name", self.bench.names([artist])), ("held-out", self.bench.held_out([artist]))]

    def distances(self, cell: Cell, embedding_map: Tensor) -> np.ndarray:
        self.bench.generate_base(cell)
        with self.applied(embedding_map):
            return lpips_distances(self.bench.base_images(cell), self.bench.generate(cell))

    def restored_names(self, maps: list[Tensor]) -> list[dict[str, Any]]:
        """Drift and LPIPS of each artist's name with all other shifts on."""
        together = sum(maps, torch.zeros_like(maps[0]))
        points = []
        for k, artist in enumerate(self.artists):
            others = together - maps[k]
            for key, cell in self._cells(artist):
                drifts = self.names.drifts(self.names.encode(cell.prompts), others)
                distances = self.distances(cell, others)
                points.append(
                    {
                        "artist": artist,
                        "cell": key,
                        "drift": float(drifts.max()),
                        "LPIPS": float(distances.mean()),
                        "LPIPS worst": float(distances.max()),
                    }
                )
        return points

    def measure(self, maps: list[Tensor]) -> dict[str, Any]:
        together = sum(maps, torch.zeros_like(maps[0]))
        points = self.restored_names(maps)
        in_all = [self.found(artist, together) for artist in self.artists]
        alone = [self.found(a, maps[k]) for k, a in enumerate(self.artists)]
        generated, plain = self.bench.generated_by(self.artists), self.bench.plain()
        nine = sum(maps[: len(self.artists)], torch.zeros_like(maps[0]))
        nine_found = [self.found(artist, nine) for artist in self.artists]
        with self.applied(together):
            subject = self.bench.subject_share(generated, self.bench.generate(generated))
            codes = self.bench.decode_rates()
        result: dict[str, Any] = {"points": points, "subject": subject} | codes
        for key in ("name", "held-out"):
            result[f"detected, {key}, all on"] = max(f[key] for f in in_all)
            result[f"detected, {key}, alone"] = max(f[key] for f in alone)
            result[f"detected, {key}, nine on"] = max(f[key] for f in nine_found)
            result[f"restored LPIPS, {key}"] = max(p["LPIPS"] for p in points if p["cell"] == key)
        result["plain LPIPS, all on"] = float(self.distances(plain, together).mean())
        return result


def figures(results: dict[str, Any], folder: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    chart, axes = pyplot.subplots(1, 3, figsize=(13, 3.8), layout="constrained")
    axes[0].semilogy(results["singular values"])
    axes[0].set(
        title="singular values, 100 names", xlabel="direction", ylabel="relative to the largest"
    )
    for profile in CURVE_PROFILES:
        rows = [row for row in results["curve"] if row["profile"] == profile]
        registered = [row["registered"] for row in rows]
        axes[1].plot(registered, [row["free"] for row in rows], label=profile)
        axes[2].plot(registered, [row["unmet, templates"] for row in rows], label=profile)
    axes[1].set(title="free dimensions of 256", xlabel="names registered")
    axes[2].set(title="erasure left undone (Cezanne)", xlabel="names registered", ylim=(0, 1.02))
    axes[1].legend()
    chart.savefig(folder / "capacity-profiles.png", dpi=110)

    chart, axes = pyplot.subplots(1, 2, figsize=(11, 4), layout="constrained")
    for row in results["strategies"]:
        left, up = row["drift, all others on"], row["unmet, templates, artists"]
        axes[0].scatter(max(left, 1e-6), up, label=row["strategy"])
    axes[0].set(
        xscale="log", xlabel="drift of the worst name, 99 shifts on", ylabel="undone, artists"
    )
    axes[0].legend(fontsize=5, loc="lower left")
    for label, points in results["points"].items():
        shown = [p for p in points if p["cell"] == "name"]
        axes[1].scatter(
            [max(p["drift"], 1e-6) for p in shown],
            [max(p["LPIPS worst"], 1e-6) for p in shown],
            label=label,
        )
    axes[1].axhline(0.005, color="grey", linewidth=0.8)
    axes[1].set(
        xscale="log", yscale="log", xlabel="drift of an artist's name", ylabel="LPIPS, worst image"
    )
    axes[1].legend(fontsize=6)
    chart.savefig(folder / "capacity-drift.png", dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--concepts", type=int, default=100)
    parser.add_argument("--images", type=int, default=6)
    parser.add_argument("--no-images", action="store_true")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--figures", type=Path, metavar="FOLDER")
    arguments = parser.parse_args()
    torch.set_grad_enabled(False)
    facts = miniature.prompts()
    pipeline = pipelines.load_pipeline(miniature.BASE_FOLDER)
    artists = facts["protected"]
    names = Names(
        pipeline,
        [*artists, *invented_names(pipeline, arguments.concepts - len(artists))],
        list(facts["triggers"]),
        facts["preserved"],
        facts["subjects"],
    )
    values = torch.linalg.svdvals(
        torch.cat([names.listed, names.name_embeds]).flatten(0, 1).double()
    )
    results: dict[str, Any] = {
        "names": names.names,
        "singular values": (values / values[0]).tolist(),
        "curve": curve(names),
        "strategies": [],
        "images": {},
        "points": {},
    }

    def keep() -> None:
        if arguments.out:
            arguments.out.write_text(json.dumps(results, indent=1), encoding="utf-8")

    for row in results["curve"]:
        print({k: round(v, 3) if isinstance(v, float) else v for k, v in row.items()}, flush=True)
    images = None if arguments.no_images else Images(names, arguments.images)
    for strategy in STRATEGIES:
        maps, free = solve_all(names, strategy, len(artists))
        row = algebra(names, strategy, maps, free, len(artists))
        results["strategies"].append(row)
        print({k: round(v, 4) if isinstance(v, float) else v for k, v in row.items()}, flush=True)
        if images and strategy.label in WITH_PICTURES:
            measured = images.measure(maps)
            results["points"][strategy.label] = measured.pop("points")
            results["images"][strategy.label] = measured
            print(measured, flush=True)
        elif images and strategy.label in DRIFT_WITH_IMAGES:
            results["points"][strategy.label] = images.restored_names(maps)
        keep()
    if arguments.figures:
        figures(results, arguments.figures)


if __name__ == "__main__":
    main()
