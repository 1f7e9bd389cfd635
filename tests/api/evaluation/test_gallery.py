from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from shiftreg import api, pipelines
from shiftreg.api.composition.compose import plan_shifts
from shiftreg.api.evaluation.gallery import BATCH, Gallery, Shot, shots


@pytest.fixture
def gallery(workspace: api.Workspace, tmp_path: Path) -> Gallery:
    return Gallery(workspace, tmp_path / "images")


def test_a_repeated_prompt_gets_further_seeds_the_same_in_every_list() -> None:
    wanted = shots(["a", "b", "a"])
    assert wanted[0].seed + 1 == wanted[2].seed
    assert shots(["b", "a"])[1] == wanted[0]
    assert shots(["a"], seed=5)[0].seed == wanted[0].seed + 5


def test_what_is_generated_is_found_again(gallery: Gallery, tmp_path: Path) -> None:
    wanted = shots(["Picasso", "Picasso"])
    first = gallery.generate(wanted)
    files = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.png")}
    again = gallery.generate([*wanted, *wanted])
    assert len(files) == 2
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.png")} == files
    assert all(np.array_equal(first[shot], again[shot]) for shot in wanted)


@pytest.mark.usefixtures("computed_anew")
def test_a_damaged_image_is_generated_again(gallery: Gallery, tmp_path: Path) -> None:
    wanted = shots(["Picasso"])
    first = gallery.generate(wanted)
    (path,) = tmp_path.rglob("*.png")
    path.write_bytes(path.read_bytes()[:100])
    assert np.array_equal(gallery.generate(wanted)[wanted[0]], first[wanted[0]])


@pytest.mark.usefixtures("computed_anew")
def test_an_interrupted_generation_continues(gallery: Gallery, tmp_path: Path) -> None:
    wanted = [Shot("Picasso", seed) for seed in range(BATCH + 1)]

    def interrupt(_done: int, _total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        gallery.generate(wanted, observe=interrupt)
    assert len(list(tmp_path.rglob("*.png"))) == BATCH
    told: list[tuple[int, int]] = []
    assert len(gallery.generate(wanted, observe=lambda *step: told.append(step))) == BATCH + 1
    assert told == [(BATCH + 1, BATCH + 1)]


@pytest.mark.erased("Picasso")
def test_a_composition_has_images_of_its_own_and_leaves_the_base(
    gallery: Gallery, workspace: api.Workspace
) -> None:
    composition = plan_shifts(workspace, api.plan_composition(workspace))
    weights = pipelines.layer_weights(workspace.pipeline.unet)
    kept = {name: weight.clone() for name, weight in weights.items()}
    wanted = shots(["Picasso"])
    base = gallery.generate(wanted)
    changed = gallery.generate(wanted, composition)
    assert not np.array_equal(base[wanted[0]], changed[wanted[0]])
    assert np.array_equal(gallery.generate(wanted)[wanted[0]], base[wanted[0]])
    assert all(torch.equal(weights[name], kept[name]) for name in kept)


def test_images_are_given_by_the_digest_of_who_generated_them(
    gallery: Gallery, workspace: api.Workspace
) -> None:
    wanted = shots(["Picasso", "a house"])
    generated = gallery.generate(wanted[:1])
    assert gallery.kept(wanted).keys() == generated.keys()
    assert gallery.kept(wanted, "c" * 64) == {}
