"""Worlds of the use cases."""

from __future__ import annotations

import pytest

from shiftreg import api
from tests.worlds import Worlds


@pytest.fixture(scope="module")
def erased(tmp_path_factory: pytest.TempPathFactory, worlds: Worlds) -> api.Workspace:
    """Caravaggio and Picasso are erased; the tests of a file may only add exports."""
    return worlds.open(tmp_path_factory.mktemp("erased"), "Caravaggio", "Picasso")
