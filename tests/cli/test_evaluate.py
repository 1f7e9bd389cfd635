from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from shiftreg_cli.main import app
from tests.worlds import Worlds

SCENE = """
name: Two and back
concepts: [Picasso, Cezanne, Kilian Eng]
steps:
  - {label: t0, erase: [Picasso, Cezanne]}
  - {label: t1, restore: [Cezanne]}
reference: {file: paper.csv, scene: 9}
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, worlds: Worlds) -> Path:
    """A home whose base generates in two steps."""
    return worlds.open(tmp_path_factory.mktemp("home")).settings.home


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    rows = ("scene,time,Picasso", "original,-,0.00/97.1/.00", "9,t0,1.25/98.8/.00")
    (tmp_path / "paper.csv").write_text("\n".join(rows))
    path = tmp_path / "scene.yaml"
    path.write_text(SCENE)
    return path


@pytest.fixture(autouse=True)
def _quick_base(monkeypatch: pytest.MonkeyPatch, place: Path) -> None:
    monkeypatch.setenv("SHIFTREG_HOME", str(place))
    monkeypatch.setenv("COLUMNS", "120")


def start(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["evaluate", *arguments])


def test_a_scene_is_shown_step_by_step_in_words_beside_the_paper(scene: Path) -> None:
    # A goal that no composition can meet, so that the exit code says so.
    scene.write_text(SCENE + "goals: {ordinary LPIPS: -1}\n")
    result = start(str(scene), "--images", "2")
    assert result.exit_code == 1, result.output
    words = " ".join(result.stdout.split())
    assert "t0: erase Picasso, Cezanne" in words
    assert "1.25/98.8/.00 0.00/97.1/.00" in words
    assert "LPIPS Style Paper Original" in words
    assert "generates (recovered)" in words
    assert "generates (regular)" in words
    assert "Paraphrases" in words
    assert "ordinary LPIPS t0" in words
    assert "MISSED" in words
    assert "of 8 goals missed: Two and back" in words


def test_json_holds_everything(scene: Path) -> None:
    result = start(str(scene), "--images", "2", "--paraphrases", "none", "--json")
    document = json.loads(result.stdout)
    assert result.exit_code == (0 if document["passed"] else 1)
    assert [step["states"]["Cezanne"] for step in document["steps"]] == ["erased", "generates"]
    assert document["reference"]["t0"] == {"Picasso": "1.25/98.8/.00"}


def test_a_scene_that_restores_what_was_never_erased_is_bad_input(scene: Path) -> None:
    scene.write_text("name: A\nconcepts: [Picasso]\nsteps: [{restore: [Picasso]}]\n")
    result = start(str(scene))
    assert result.exit_code == 2
    assert "restores 'Picasso', which is not erased then" in " ".join(result.stderr.split())
