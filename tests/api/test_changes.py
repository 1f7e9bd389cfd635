"""Reports get names of their own, and a report and its image are both kept, or none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from shiftreg.api.changes import kept_report, unique_name
from shiftreg.attacks.results import AttackReport

REPORT = AttackReport(
    base="miniature",
    concept="Caravaggio",
    digest="0" * 64,
    classifier="styles",
    seed=0,
    images=1,
    unattacked={},
    scores=(),
    image=None,
    report_path=None,
    created="",
)
GRID = Image.new("RGB", (8, 8))


def test_both_are_named_alike_and_kept(tmp_path: Path) -> None:
    with kept_report(tmp_path / "attacks", "caravaggio", REPORT, GRID) as kept:
        report, image = kept.report_path, kept.image
    assert report is not None
    assert image is not None
    assert {path.name for path in (tmp_path / "attacks").iterdir()} == {report.name, image.name}
    assert report.stem == image.stem
    assert report.name.startswith("caravaggio-")
    assert (report.suffix, image.suffix) == (".json", ".png")
    assert json.loads(report.read_text())["image"] == str(image)


@pytest.mark.parametrize("error", [OSError("no"), KeyboardInterrupt()])
def test_what_fails_leaves_neither(tmp_path: Path, error: BaseException) -> None:
    (tmp_path / "older.json").write_text("{}")
    with pytest.raises(type(error)), kept_report(tmp_path, "caravaggio", REPORT, GRID):
        assert len(list(tmp_path.iterdir())) == 3
        raise error
    assert [path.name for path in tmp_path.iterdir()] == ["older.json"]


def test_reports_of_one_moment_get_different_names() -> None:
    assert len({unique_name("verify-c0ffee") for _ in range(1000)}) == 1000
