"""Batches: a composition is merged once for those that follow each other."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from shiftreg import api
from shiftreg.api.composition.compose import plan_shifts
from shiftreg.api.generation import batches as room
from shiftreg.api.generation.batches import Batch, generate_batches
from shiftreg.compose import Composition, merged_weights
from shiftreg.engines import InProcess


@pytest.mark.erased("Picasso")
def test_a_composition_is_merged_once_though_the_base_generates_in_between(
    workspace: api.Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    merged: list[Composition] = []

    def counted(weights: Any, composition: Composition) -> Any:
        merged.append(composition)
        return merged_weights(weights, composition)

    monkeypatch.setattr(room, "merged_weights", counted)
    erased = plan_shifts(workspace, api.plan_composition(workspace))
    untouched = Composition.of(workspace.base.digest, ())
    batches = [
        Batch(workspace.base, composition, ("Picasso",), (0,), steps=2, guidance=1.0)
        for composition in (untouched, erased, untouched, erased)
    ]
    images: dict[int, np.ndarray] = {}
    generate_batches(workspace, batches, InProcess(), images.__setitem__)
    assert merged == [erased]
    assert np.array_equal(images[0], images[2])
    assert np.array_equal(images[1], images[3])
    assert not np.array_equal(images[0], images[1])
