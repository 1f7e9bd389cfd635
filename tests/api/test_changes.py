"""Reports get names of their own, and a report and its image are both kept, or none."""

from __future__ import annotations

from pathlib import Path

import pytest

from shiftreg.api.changes import report_with_image, unique_name


def test_both_are_named_alike_and_kept(tmp_path: Path) -> None:
    with report_with_image(tmp_path / "attacks", "caravaggio") as (report, image):
        report.write_text("{}")
        image.write_bytes(b"png")
    assert {path.name for path in (tmp_path / "attacks").iterdir()} == {report.name, image.name}
    assert report.stem == image.stem
    assert report.name.startswith("caravaggio-")
    assert (report.suffix, image.suffix) == (".json", ".png")


@pytest.mark.parametrize("error", [OSError("no"), KeyboardInterrupt()])
def test_what_fails_leaves_neither(tmp_path: Path, error: BaseException) -> None:
    (tmp_path / "older.json").write_text("{}")
    with (
        pytest.raises(type(error)),
        report_with_image(tmp_path, "caravaggio") as (report, image),
    ):
        image.write_bytes(b"png")
        report.write_text("{}")
        raise error
    assert [path.name for path in tmp_path.iterdir()] == ["older.json"]


def test_reports_of_one_moment_get_different_names() -> None:
    assert len({unique_name("verify-c0ffee") for _ in range(1000)}) == 1000
