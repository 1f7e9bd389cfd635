"""``shiftreg doctor``: what it prints, and its exit codes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import RenderableType
from typer.testing import CliRunner

from shiftreg import api
from shiftreg.api.doctor.findings import Diagnosis, Finding
from shiftreg_cli import doctor
from shiftreg_cli.main import app

Draw = Callable[[RenderableType], str]


def test_a_diagnosis_says_what_is_damaged_and_what_to_do(draw: Draw) -> None:
    finding = Finding("damage", "Carava\x1b[2Jggio@1", "Its file was changed.", "Erase it again.")
    left = Finding("leftover", "run x", "It never ended.", "Take it away.")
    text = draw(doctor.render_diagnosis(Diagnosis(False, ("b",), {"versions": 2}, (finding, left))))
    assert "\x1b[2J" not in text
    assert r"Carava\x1b[2Jggio@1" in text
    for part in ("Its file was changed.", "Erase it again.", "1 damaged", "2 versions", "leftover"):
        assert part in text
    text = draw(doctor.render_diagnosis(Diagnosis(True, ("b",), {"versions": 2}, (), ("Done.",))))
    assert "Nothing is damaged" in text
    assert "Done." in text


def test_damage_ends_with_1_and_health_with_0(
    workspace: api.Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHIFTREG_HOME", str(workspace.settings.home))
    run = CliRunner().invoke
    healthy = run(app, ["doctor", "--json"])
    assert healthy.exit_code == 0
    assert json.loads(healthy.stdout)["examined"]["bases"] == 1
    trail = Path(workspace.settings.home / "audit.jsonl")
    trail.write_bytes(trail.read_bytes().replace(b'"init"', b'"inlt"'))
    damaged = run(app, ["doctor"])
    assert damaged.exit_code == 1
    assert "edited" in damaged.stdout
