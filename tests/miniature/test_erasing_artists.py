"""What erasing gains and costs on the miniature, with its default steps and guidance."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from shiftreg import api, miniature, pipelines
from shiftreg.api.composition.compose import plan_shifts
from shiftreg.compose import merged_weights
from shiftreg.concepts import fill
from shiftreg.evaluation.classifier import load_classifier
from shiftreg.evaluation.perceptual import lpips_distances
from shiftreg.settings import Settings

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def erased(tmp_path_factory: pytest.TempPathFactory) -> api.Workspace:
    """All nine artists are erased."""
    home = tmp_path_factory.mktemp("nine")
    workspace = api.open_workspace(Settings(home, "miniature", None))
    api.register_base(workspace, steps=2)  # its sample images are not looked at
    api.erase(workspace, miniature.prompts()["protected"])
    return workspace


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
    erased: api.Workspace,
) -> None:
    classifier = load_classifier(miniature.STYLE_CLASSIFIER)
    artists = list(erased.base.protected) * 3
    held_out = [
        fill(erased.base.held_out_templates[i % 4], erased.base.subjects[i % 10], artist)
        for i, artist in enumerate(artists)
    ]
    for prompts in (artists, held_out):
        images = generate(erased, prompts, without=())
        predicted = np.array(classifier.labels)[classifier.predict(images)]
        assert (predicted == artists).mean() <= 0.05
        assert (predicted == "plain").mean() >= 0.8


def test_subjects_survive_the_erasure_of_the_manner(erased: api.Workspace) -> None:
    classifier = load_classifier(miniature.SUBJECT_CLASSIFIER)
    subjects = list(erased.base.subjects) * 2
    artists = erased.base.protected
    prompts = [
        fill("a painting of a {subject} by {concept}", s, artists[i % 9])
        for i, s in enumerate(subjects)
    ]
    plain = [fill("a painting of a {subject}", s) for s in subjects]

    def share(images: np.ndarray) -> float:
        return float((np.array(classifier.labels)[classifier.predict(images)] == subjects).mean())

    assert share(generate(erased, prompts, without=())) >= 0.9 * share(
        generate(erased, plain, None)
    )


def test_a_restored_artist_generates_as_on_the_base_and_plain_prompts_nearly_so(
    erased: api.Workspace,
) -> None:
    names = ["Picasso"] * 6
    before, after = generate(erased, names, None), generate(erased, names, without=("Picasso",))
    assert lpips_distances(before, after).max() <= 1e-3
    plain = list(erased.base.preserved[::8])
    before, after = generate(erased, plain, None), generate(erased, plain, without=("Picasso",))
    assert lpips_distances(before, after).mean() <= 0.03


def test_images_of_the_whole_way_can_be_made(erased: api.Workspace, tmp_path: Path) -> None:
    path = tmp_path / "grid.png"
    result = api.generate_grid(
        erased, ["Picasso"], path, selection=api.Selection(without=["Picasso"]), seeds=[0]
    )
    assert result.plan.states["Picasso"] == "generates"
    assert result.plan.states["Caravaggio"] == "erased"
