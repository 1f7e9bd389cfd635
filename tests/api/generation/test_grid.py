"""Grids of the same seeds with and without shifts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from shiftreg import api
from shiftreg.checkpoints import file_digest
from shiftreg.errors import AlreadyExistsError, InvalidInputError, NotFoundError


@pytest.mark.erased("Caravaggio")
def test_base_and_composition_stand_side_by_side(workspace: api.Workspace, tmp_path: Path) -> None:
    path = tmp_path / "grid.png"
    result = api.generate_grid(workspace, ["Caravaggio", "Picasso"], path, seeds=[0, 1])
    assert result.plan.states["Caravaggio"] == "erased"
    image = np.asarray(Image.open(path)).astype(int)
    pitch = 132  # a tile and its gap
    left = image.shape[1] - 4 * pitch
    top = image.shape[0] - 2 * pitch

    def tile(row: int, column: int) -> np.ndarray:
        y, x = top + row * pitch, left + column * pitch
        return image[y : y + 128, x : x + 128]

    assert np.abs(tile(0, 0) - tile(0, 2)).mean() > 5  # Caravaggio changed
    assert np.abs(tile(1, 0) - tile(1, 2)).max() <= 1  # Picasso did not


def test_an_existing_image_is_not_replaced_unless_asked(
    workspace: api.Workspace, tmp_path: Path
) -> None:
    path = tmp_path / "grid.png"
    path.write_text("precious")
    with pytest.raises(AlreadyExistsError):
        api.generate_grid(workspace, ["Picasso"], path, seeds=[0])
    assert path.read_text() == "precious"
    api.generate_grid(workspace, ["Picasso"], path, seeds=[0], overwrite=True)
    assert Image.open(path).format == "PNG"


@pytest.mark.parametrize(
    ("prompts", "options", "message"),
    [
        ([], {}, "at least one prompt"),
        (["Picasso"], {"seeds": []}, "at least one"),
        (["Picasso"], {"steps": 0}, "denoises in 1 to"),
        (["Picasso"], {"guidance": -1.0}, "from 0 on"),
        (["a painting of a church " * 4], {}, "at most 14 tokens"),
    ],
)
def test_what_cannot_be_generated_is_refused_and_leaves_no_file(
    workspace: api.Workspace,
    tmp_path: Path,
    prompts: list[str],
    options: dict[str, object],
    message: str,
) -> None:
    with pytest.raises(InvalidInputError, match=message):
        api.generate_grid(workspace, prompts, tmp_path / "grid.png", **options)  # type: ignore[arg-type]
    assert not (tmp_path / "grid.png").exists()


@pytest.mark.erased("Caravaggio")
def test_samples_show_what_an_erasure_does_and_are_kept_with_it(workspace: api.Workspace) -> None:
    path = api.generate_samples(workspace, "caravaggio", seeds=[0, 1])
    (version,) = workspace.versions("Caravaggio")
    kept = workspace.registry.shifts.download_samples(version)
    assert kept is not None
    assert kept.read_bytes() == path.read_bytes()
    event = workspace.audit.events()[-1]
    assert (event.action, event.concepts) == ("samples", ("Caravaggio",))
    assert event.digests == {"shift": version.digest, "samples": file_digest(path)}
    fewer = api.generate_samples(workspace, "Caravaggio@1", seeds=[0])
    assert Image.open(fewer).width < Image.open(kept).width or fewer == path


def test_there_are_no_samples_of_what_was_never_erased(workspace: api.Workspace) -> None:
    with pytest.raises(NotFoundError):
        api.generate_samples(workspace, "Picasso")
