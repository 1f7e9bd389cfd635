"""The same commands on both back ends: SQLite in the home, and a team's server."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner, Result

from shiftreg import miniature
from shiftreg_cli.main import app

pytestmark = pytest.mark.slow

LAYER = "down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k.weight"


@pytest.fixture(params=["sqlite", "server"])
def place(
    request: pytest.FixtureRequest, home: Path, database: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """The home, with the registry in it or on the server."""
    home.mkdir()
    if request.param == "server":
        request.getfixturevalue("server")
    else:
        shutil.copyfile(database, home / "registry.db")
    monkeypatch.setenv("SHIFTREG_HOME", str(home))
    monkeypatch.setenv("COLUMNS", "200")
    return home


@pytest.fixture
def shiftreg(place: Path) -> Callable[..., Result]:
    """Runs a command, and expects it to end well."""

    def run(*arguments: str, code: int = 0) -> Result:
        result = CliRunner().invoke(app, [*arguments])
        assert result.exit_code == code, (arguments, result.stderr)
        return result

    return run


Run = Callable[..., Result]


def read(result: Result) -> Any:
    return json.loads(result.stdout)


def foreign_eraser(path: Path) -> Path:
    """A partial state dict, as ESD writes it: one layer, a little different."""
    weights = load_file(miniature.BASE_FOLDER / "unet" / "diffusion_pytorch_model.safetensors")
    changed = weights[LAYER].clone()
    changed[:4] *= 1.01
    save_file({LAYER: changed.contiguous()}, path)
    return path


def test_the_story_of_a_concept(shiftreg: Run, place: Path, tmp_path: Path) -> None:
    shiftreg("init", "miniature", "--steps", "2")
    erased = shiftreg("erase", "Caravaggio", "Picasso", "--reason", "request 17")
    assert "Picasso: erased (version 1)" in erased.stdout

    shiftreg("restore", "Picasso", "--reason", "licence 3", "--yes")
    states = {item["concept"]: item for item in read(shiftreg("list", "--json"))["items"]}
    assert states["Caravaggio"]["state"] == "erased"
    assert states["Picasso"]["state"] == "generates"
    assert states["Picasso"]["latest"] == 1
    shiftreg("erase", "Picasso@1", "--reason", "licence 3 ended")
    history = read(shiftreg("show", "Picasso", "--json"))["history"]
    assert [event["action"] for event in history] == ["erase", "restore", "activate"]

    shiftreg("import", str(foreign_eraser(tmp_path / "foreign.safetensors")), "--concept", "Monet")
    shiftreg("decouple", "Monet")
    shiftreg("restore", "Monet", "--reason", "a trial", "--yes")
    shiftreg("refresh", "Caravaggio")  # which was erased before Monet was known
    stale = {i["concept"]: i["stale_towards"] for i in read(shiftreg("list", "--json"))["items"]}
    assert stale["Caravaggio"] == []
    assert stale["Picasso"] == ["Monet"]

    model = tmp_path / "model.safetensors"
    exported = read(shiftreg("compose", "--without", "Picasso", "--export", str(model), "--json"))
    assert exported["version"] == 1
    verified = read(shiftreg("verify", str(model), "--images", "1", "--json"))
    assert verified["passed"]
    found = read(shiftreg("inspect", str(model), "--json"))
    assert [(shift["concept"], shift["version"]) for shift in found["shifts"]] == [
        ("Caravaggio", 2)
    ]
    page = tmp_path / "report.html"
    # What Monet's two versions leak into others is too much: the page says so.
    shiftreg("report", "--out", str(page), "--images", "1", code=1)
    assert "licence 3 ended" in page.read_text()
    assert "Caravaggio" in shiftreg("show", "Caravaggio@2").stdout
    assert "is not registered" in shiftreg("show", "Caravagio", code=2).stderr


def test_a_training_keeps_its_curves(shiftreg: Run, place: Path) -> None:
    shiftreg("init", "miniature", "--steps", "2")
    quick = ("--set", "iterations=3", "--set", "pool_size=4", "--set", "batch_size=2")
    shiftreg("erase", "Picasso", "--method", "srs-me", *quick)
    from shiftreg import api
    from shiftreg.settings import load_settings

    workspace = api.open_workspace(load_settings())
    version = workspace.registry.version("miniature", "Picasso")
    curves = workspace.registry.training_curves(version)
    assert all(len(curve) == 3 for curve in curves.values())
    assert "loss" in curves
    assert workspace.shift(version).digest == version.digest


def test_another_home_sees_what_the_server_keeps(
    shiftreg: Run, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shiftreg("init", "miniature", "--steps", "2")
    shiftreg("erase", "Picasso")
    plan = read(shiftreg("compose", "--json"))
    if (place / "registry.db").exists():
        pytest.skip("a home of its own is not shared")
    monkeypatch.setenv("SHIFTREG_HOME", str(tmp_path / "colleague"))
    assert read(shiftreg("compose", "--json"))["digest"] == plan["digest"]
