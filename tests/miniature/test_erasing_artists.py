"""What erasing gains and costs on the miniature, with its default steps and guidance."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from shiftreg import api, miniature, pipelines
from shiftreg.api.composition.compose import plan_shifts
from shiftreg.compose import merged_weights
from shiftreg.concepts import fill
from shiftreg.evaluation.classifier import load_classifier
from shiftreg.evaluation.perceptual import lpips_distances
from tests.worlds import Worlds

ARTISTS = miniature.prompts()["protected"]


@dataclass(frozen=True)
class Erased:
    """A workspace in which artists are erased.

    Attributes:
        rounds: How many images of a prompt tell.
    """

    workspace: api.Workspace
    artists: list[str]
    rounds: int


@pytest.fixture(
    scope="module", params=["two", pytest.param("all nine", marks=pytest.mark.second_tier)]
)
def erased(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, worlds: Worlds
) -> Erased:
    """Two artists are erased, or all; sample images, of two steps, are not looked at."""
    artists = ["Caravaggio", "Picasso"] if request.param == "two" else ARTISTS
    workspace = worlds.open(tmp_path_factory.mktemp("erased"), *artists)
    return Erased(workspace, artists, 2 if request.param == "two" else 3)


def generate(
    workspace: api.Workspace, prompts: list[str], without: tuple[str, ...] | None
) -> np.ndarray:
    """Generates with the base (None), or with all shifts but ``without``."""
    defaults = miniature.prompts()
    unet = workspace.pipeline.unet
    weights = {}
    if without is not None:
        composition = plan_shifts(
            workspace, api.plan_composition(workspace, api.Selection(without=without))
        )
        weights = merged_weights(pipelines.layer_weights(unet), composition)
    with pipelines.applied_weights(unet, weights):
        return pipelines.generate(
            workspace.pipeline,
            prompts,
            list(range(700, 700 + len(prompts))),
            steps=defaults["steps"],
            guidance=defaults["guidance"],
        )


def test_erased_artists_are_gone_from_names_and_from_prompts_never_used(
    erased: Erased,
) -> None:
    classifier = load_classifier(miniature.STYLE_CLASSIFIER)
    base, artists = erased.workspace.base, erased.artists * erased.rounds
    held_out = [
        fill(base.held_out_templates[i % 4], base.subjects[i % 10], artist)
        for i, artist in enumerate(artists)
    ]
    for prompts in (artists, held_out):
        images = generate(erased.workspace, prompts, without=())
        predicted = np.array(classifier.labels)[classifier.predict(images)]
        assert (predicted == artists).mean() <= 0.05
        assert (predicted == "plain").mean() >= 0.8


def test_subjects_survive_the_erasure_of_the_manner(erased: Erased) -> None:
    classifier = load_classifier(miniature.SUBJECT_CLASSIFIER)
    artists = erased.artists
    subjects = list(erased.workspace.base.subjects) * (erased.rounds - 1)
    prompts = [
        fill("a painting of a {subject} by {concept}", s, artists[i % len(artists)])
        for i, s in enumerate(subjects)
    ]
    plain = [fill("a painting of a {subject}", s) for s in subjects]

    def share(images: np.ndarray) -> float:
        return float((np.array(classifier.labels)[classifier.predict(images)] == subjects).mean())

    assert share(generate(erased.workspace, prompts, without=())) >= 0.9 * share(
        generate(erased.workspace, plain, None)
    )


def test_a_restored_artist_generates_as_on_the_base_and_plain_prompts_nearly_so(
    erased: Erased,
) -> None:
    workspace, rounds = erased.workspace, erased.rounds
    names = ["Picasso"] * 2 * rounds
    before, after = generate(workspace, names, None), generate(workspace, names, ("Picasso",))
    assert lpips_distances(before, after).max() <= 1e-3
    plain = list(workspace.base.preserved[:: 24 // rounds])
    before, after = generate(workspace, plain, None), generate(workspace, plain, ("Picasso",))
    assert lpips_distances(before, after).mean() <= 0.03


def test_images_of_the_whole_way_can_be_made(erased: Erased, tmp_path: Path) -> None:
    path = tmp_path / "grid.png"
    result = api.generate_grid(
        erased.workspace, ["Picasso"], path, selection=api.Selection(without=["Picasso"]), seeds=[0]
    )
    assert result.plan.states["Picasso"] == "generates"
    assert result.plan.states["Caravaggio"] == "erased"
