"""The page about a composition: what is gathered, kept and refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from shiftreg import api
from shiftreg.checkpoints import file_digest
from shiftreg.errors import AlreadyExistsError, InvalidInputError, NotFoundError
from tests.worlds import Worlds


@pytest.fixture
def erased(home: Path, worlds: Worlds) -> api.Workspace:
    """Caravaggio is erased; Van Gogh was, and generates again."""
    workspace = worlds.open(home, "Caravaggio", "Van Gogh", reason="request 17")
    api.restore(workspace, ["Van Gogh"], reason="licence 3")
    return workspace


def test_a_page_says_what_holds_what_it_looks_like_and_how_it_came_about(
    erased: api.Workspace, tmp_path: Path
) -> None:
    path = tmp_path / "report.html"
    result = api.write_report(erased, path, images=1)
    html = path.read_text(encoding="utf-8")
    assert result.plan.states["Caravaggio"] == "erased"
    assert result.passed == (result.failed == 0)
    verdict = f"{result.failed} of {result.checks} checks FAILED."
    assert (f"All {result.checks} checks passed." if result.passed else verdict) in html
    for words in (
        "generates (its shift is stored, and not applied)",
        'alt="Caravaggio, seed 0, base"',
        'alt="a painting of a chain saw by Caravaggio, seed 0, composition"',
        'alt="Van Gogh, seed 0, composition"',
        'alt="a picture of a church, seed 0, base"',
        "Its code should say “CCS-2024”. Base:",
        "request 17",
        "licence 3",
        "Solved in one step",
        "hash chain of",
        "shiftreg evaluate",
        "shiftreg attack Caravaggio",
        result.plan.digest,
    ):
        assert words in html
    assert html.count("<img") == result.images

    # The page is kept with its images, and noted.
    assert result.digest == file_digest(path)
    (kept,) = erased.registry.measurements.all("miniature", "report")
    assert (kept.run_id, kept.digest) == (result.run_id, result.plan.digest)
    assert kept.passed == result.passed
    assert erased.registry.measurements.download(kept).read_bytes() == path.read_bytes()
    artifacts = MlflowClient(erased.registry.uri).list_artifacts(kept.run_id, "report")
    assert {"report/erased-concepts.png", "report/watermark.png", "report/report.html"} <= {
        artifact.path for artifact in artifacts
    }
    event = erased.audit.events()[-1]
    assert (event.action, event.concepts) == ("report", ("Caravaggio",))
    assert event.digests["report"] == result.digest


def test_a_page_that_exists_is_refused_before_anything_is_verified(
    workspace: api.Workspace, tmp_path: Path
) -> None:
    path = tmp_path / "report.html"
    path.write_text("precious")
    events = workspace.audit.events()
    with pytest.raises(AlreadyExistsError):
        api.write_report(workspace, path, images=1)
    assert path.read_text() == "precious"
    assert workspace.audit.events() == events


def test_what_cannot_be_reported_leaves_no_page(workspace: api.Workspace, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    with pytest.raises(InvalidInputError, match="At least 1 image"):
        api.write_report(workspace, path, images=0)
    with pytest.raises(NotFoundError):
        api.write_report(workspace, path, selection=api.Selection(without=["Nobody"]))
    with pytest.raises(NotFoundError):
        api.write_report(workspace, path, file=tmp_path / "missing.ckpt")
    assert list(tmp_path.glob("*report*")) == []


@pytest.mark.parametrize("before", [None, "an older page"])
def test_a_page_that_cannot_be_registered_is_not_kept(
    workspace: api.Workspace,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    before: str | None,
) -> None:
    record = workspace.registry.measurements.record

    def refuse(base: str, kind: str, *arguments: Any, **options: Any) -> Any:
        if kind == "report":
            raise OSError("no")
        return record(base, kind, *arguments, **options)

    monkeypatch.setattr(workspace.registry.measurements, "record", refuse)
    path = tmp_path / "report.html"
    if before:
        path.write_text(before)
    with pytest.raises(OSError, match="no"):
        api.write_report(workspace, path, images=1, overwrite=True)
    assert [file.read_text() for file in tmp_path.glob("*report*")] == [before] * bool(before)
    assert "report" not in {event.action for event in workspace.audit.events()}


def test_a_page_never_takes_the_place_of_a_folder(workspace: api.Workspace, tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="is a folder"):
        api.write_report(workspace, tmp_path, overwrite=True)


def test_a_page_about_a_file_shows_its_recipe_and_marks_its_export(
    erased: api.Workspace, tmp_path: Path
) -> None:
    model, path = tmp_path / "model.ckpt", tmp_path / "report.html"
    export = api.export_composition(erased, api.plan_composition(erased), model)
    result = api.write_report(erased, path, file=model, images=1)
    html = path.read_text(encoding="utf-8")
    assert result.file == model
    for words in (
        "A report on the file",
        "shiftreg-recipe-1",
        "erased (version 1)",
        export.digest,
        export.recipe_digest,
        "All tensors equal base plus named shifts, bit for bit.",
    ):
        assert words in html
    (kept,) = erased.registry.measurements.all("miniature", "report")
    assert kept.export_digest == export.digest


def test_a_page_never_takes_the_place_of_the_model(
    workspace: api.Workspace, tmp_path: Path
) -> None:
    model = tmp_path / "model.ckpt"
    model.write_bytes(b"model")
    with pytest.raises(InvalidInputError, match="replace the model"):
        api.write_report(workspace, model, file=model, overwrite=True)
    assert model.read_bytes() == b"model"


def test_a_composition_without_shifts_has_a_page(workspace: api.Workspace, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text("an older page")
    result = api.write_report(workspace, path, images=1, overwrite=True)
    assert result.passed
    html = path.read_text(encoding="utf-8")
    assert "this composition is the base, bit for bit" in html
    assert "No concept is erased, so there is nothing to attack." in html
