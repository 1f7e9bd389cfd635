"""The images of a page: which are generated, and what is read in them."""

from __future__ import annotations

import pytest

from shiftreg import api
from shiftreg.api.report import images as report_images
from shiftreg.api.values import Progress
from shiftreg.api.workspace import Workspace


@pytest.fixture
def generated(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> tuple[report_images.Generated, list[Progress]]:
    """The base alone, in steps enough for its watermark; two concepts at most."""
    monkeypatch.setattr(report_images, "MOST_PROMPTS", 2)
    api.register_base(workspace, steps=8)
    progress: list[Progress] = []
    plan = api.plan_composition(workspace)
    return report_images.generate_groups(workspace, plan, {}, 1, progress.append), progress


def test_a_page_of_the_base_shows_what_it_must_keep(
    generated: tuple[report_images.Generated, list[Progress]],
) -> None:
    made, progress = generated
    groups = {group.title: group for group in made.groups}
    assert list(groups) == ["Concepts that were never erased", "Ordinary prompts", "Watermark"]
    never = groups["Concepts that were never erased"]
    assert [(row.prompt, row.state) for row in never.rows] == [
        ("Caravaggio", "generates"),
        ("Cezanne", "generates"),
    ]
    assert len(never.left_out) == 7
    for group in made.groups:
        for row in group.rows:
            assert [image.uri for image in row.before] == [p.uri for p in row.after]
    assert [row.label for row in made.grids["Watermark"]] == ["CCS 2024", "watermark SRS-ME"]
    assert progress[-1].done == progress[-1].total == 16


def test_the_payload_of_a_watermark_is_read_and_said_in_words(
    generated: tuple[report_images.Generated, list[Progress]],
) -> None:
    made, _ = generated
    row = next(row for row in made.groups[-1].rows if row.prompt == "CCS 2024")
    assert row.note == (
        "Its code should say “CCS-2024”. Base: “CCS-2024” in 1 of 1; "
        "composition: “CCS-2024” in 1 of 1."
    )
    assert row.after[0].alt == "CCS 2024, seed 0, composition, reads “CCS-2024”"
    assert all(row.note == "" for group in made.groups[:-1] for row in group.rows)
