"""The JSON that scripts read, and the command of MLflow's pages."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from shiftreg import api
from shiftreg.errors import InvalidInputError
from shiftreg.settings import Settings


def test_every_value_becomes_one_json_document(workspace: api.Workspace) -> None:
    document = api.to_json(api.list_concepts(workspace))
    assert document["schema_version"] == 1
    assert json.loads(json.dumps(document))["items"][0]["concept"] == "Caravaggio"
    plan = api.to_json(api.plan_composition(workspace))
    assert json.loads(json.dumps(plan))["states"]["Picasso"] == "generates"


def test_the_ui_serves_this_registry(home: Path) -> None:
    command = api.ui_command(Settings(home, "miniature", None), port=5001)
    assert f"sqlite:///{home}/registry.db" in command
    assert command[-1] == "5001"
    with pytest.raises(InvalidInputError, match="server"):
        api.ui_command(Settings(home, "miniature", "http://127.0.0.1:5000"))
