"""Capacity as a planning tool: what is predicted, and that it is what happens."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from shiftreg import api
from shiftreg.errors import AlreadyExistsError, InvalidInputError

NAMES = ("Ada Nox", "Bo Orb", "Cy Rill", "Di Sun", "Ed Tarn", "Flo Umber", "Gil Vane", "Hal Wren")


def test_exact_protection_runs_out_and_a_tolerance_leaves_room(workspace: api.Workspace) -> None:
    rows = api.plan_capacity(workspace, NAMES, profiles=("exact", "svd:0.01"))
    exact = [row for row in rows if row.profile == "exact"]
    bounded = [row for row in rows if row.profile == "svd:0.01"]
    free = [row.free for row in exact]
    assert free == sorted(free, reverse=True)
    assert all(row.free + row.used == row.width == 256 for row in rows)
    assert exact[0].verdict == "fits"
    assert exact[-1].verdict == "does not fit"
    assert all(row.max_drift <= 1e-5 for row in exact if row.verdict == "fits")
    assert bounded[-1].verdict != "does not fit"
    assert bounded[-1].free > exact[-1].free
    assert bounded[-1].max_drift > 1e-5


def test_the_prediction_is_what_erasing_then_measures(workspace: api.Workspace) -> None:
    (row,) = api.plan_capacity(workspace, ["Ada Nox"], profiles=("exact",))
    (result,) = api.erase(workspace, ["Ada Nox"])
    assert result.metrics["relative_change"] == pytest.approx(row.ratio, rel=1e-3)
    assert result.plan.capacity["free"] == row.free


def test_nothing_is_changed_and_the_image_is_not_overwritten_unasked(
    workspace: api.Workspace, tmp_path: Path
) -> None:
    plot = tmp_path / "capacity.png"
    request = {"profiles": ("exact",), "plot": plot}
    api.plan_capacity(workspace, NAMES[:2], **request)  # type: ignore[arg-type]
    assert Image.open(plot).width > 1000
    with pytest.raises(AlreadyExistsError):
        api.plan_capacity(workspace, NAMES[:2], **request)  # type: ignore[arg-type]
    assert workspace.registry.shifts.concepts("miniature") == ()


def test_an_unknown_profile_is_refused(workspace: api.Workspace) -> None:
    with pytest.raises(InvalidInputError, match="There is no profile 'loose'"):
        api.plan_capacity(workspace, ["Ada Nox"], profiles=("loose:0.1",))
