"""The same commands on both back ends: SQLite in the home, and a team's server."""

from __future__ import annotations

import ast
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner, Result

from shiftreg import miniature
from shiftreg_cli.main import app
from tests.commands import every_command

LAYER = "down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k.weight"


@pytest.fixture(params=["sqlite", pytest.param("server", marks=pytest.mark.second_tier)])
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
    shiftreg("init", "miniature", "--steps", "1")
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
    # Monet's two versions make others drift too far: the page says so.
    shiftreg("report", "--out", str(page), "--images", "1", code=1)
    assert "licence 3 ended" in page.read_text()
    assert "Caravaggio" in shiftreg("show", "Caravaggio@2").stdout
    assert "is not registered" in shiftreg("show", "Caravagio", code=2).stderr

    mistaken = ("--reason", "a mistake", "--yes")
    refused = shiftreg("delete", "Caravaggio@2", *mistaken, code=2)  # active, and in the export
    assert "--composition" in refused.stderr
    model.unlink()
    assert read(shiftreg("delete", "--composition", "1", *mistaken, "--json"))["done"]
    shiftreg("delete", "Caravaggio@1", *mistaken)
    states = {item["concept"]: item for item in read(shiftreg("list", "--json"))["items"]}
    assert (states["Caravaggio"]["version"], states["Caravaggio"]["deleted"]) == (2, [1])
    assert read(shiftreg("audit", "verify", "--json"))["valid"]
    assert read(shiftreg("doctor", "--json"))["findings"] == []


def make_keys(folder: Path) -> tuple[Path, Path]:
    """A pair of keys: the private and the public one."""
    private, public = folder / "key.pem", folder / "key.pub"
    for options in (
        ["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", private],
        ["pkey", "-in", private, "-pubout", "-out", public],
    ):
        subprocess.run(["openssl", *options], check=True, capture_output=True)
    return private, public


def test_what_is_erased_is_generated_measured_and_attacked(
    shiftreg: Run, place: Path, tmp_path: Path
) -> None:
    shiftreg("init", "miniature", "--steps", "1")
    shiftreg("erase", "Picasso", "--reason", "request 17")
    assert read(shiftreg("methods", "--json"))["items"]
    assert read(shiftreg("capacity", "Monet", "--json"))
    shiftreg("generate", "Picasso", "--count", "1", "--out", str(tmp_path / "grid.png"))
    assert (tmp_path / "grid.png").stat().st_size > 0
    (tmp_path / "prompts.csv").write_text("prompt,evaluation_seed\nPicasso,0\nCezanne,1\n")
    images = str(tmp_path / "images")
    generated = read(
        shiftreg("generate", "--csv", str(tmp_path / "prompts.csv"), "--out", images, "--json")
    )
    assert generated["generated"] == 4
    shiftreg("measure", images)
    quick = ("--concept", "Picasso,Cezanne", "--images", "2", "--epochs", "1")
    learnt = tmp_path / "classifier.safetensors"
    shiftreg("classifier", "train", *quick, "--out", str(learnt))
    shown = tmp_path / "shown" / "Picasso"
    shown.mkdir(parents=True)
    shutil.copyfile(tmp_path / "grid.png", shown / "0.png")
    tested = ("classifier", "test", str(shown.parent), "--classifier", str(learnt))
    assert read(shiftreg(*tested, "--json"))["confusion"]["Picasso"]
    options = ("--attack", "noise-probe", "--images", "1")
    attacked = read(shiftreg("attack", "Picasso", *options, "--json"))
    assert read(shiftreg("samples", "Picasso", "--count", "1", "--json"))["samples"]
    assert {score["attack"] for score in attacked["scores"]} == {"noise-probe"}
    evaluated = read(shiftreg("evaluate", "--images", "2", "--json"))
    assert evaluated["steps"][0]["states"]["Picasso"] == "erased"
    actions = [event["action"] for event in read(shiftreg("audit", "--json"))["items"]]
    assert actions[:2] == ["init", "erase"]
    assert {"attack", "evaluate", "samples"} <= set(actions)


def test_what_is_released_is_signed_found_again_and_proved(
    shiftreg: Run, place: Path, tmp_path: Path
) -> None:
    private, public = make_keys(tmp_path)
    shiftreg("init", "miniature", "--steps", "1")
    shiftreg("erase", "Picasso", "--reason", "request 17", "--request", "C-17")
    model, adapter = tmp_path / "model.safetensors", tmp_path / "adapter.safetensors"
    assert shiftreg("policy", "--json").exit_code == 0
    signed = ("--export", str(model), "--sign", "--signing-key", str(private))
    made = read(shiftreg("compose", *signed, "--override", "--reason", "a trial", "--json"))
    assert made["version"] == 1
    report = ("verify", str(model), "--key", str(public), "--signature-only", "--json")
    assert read(shiftreg(*report))["passed"]
    shiftreg("adapter", "Picasso", str(adapter))
    found = read(shiftreg("inspect", str(adapter), "--json"))
    assert [shift["concept"] for shift in found["shifts"]] == ["Picasso"]
    assert str(model) in shiftreg("where", "Picasso", "--json").stdout
    shiftreg("audit", "checkpoint", str(tmp_path / "head.json"))
    page = tmp_path / "picasso.html"
    shiftreg("evidence", "Picasso", str(page))
    assert "C-17" in page.read_text()
    assert read(shiftreg("audit", "verify", "--checkpoint", str(tmp_path / "head.json"), "--json"))
    assert read(shiftreg("doctor", "--json"))["findings"] == []


def test_every_command_is_run_on_both() -> None:
    """Each but ``ui``, which starts a server, and ``classifier imagenet``, which asks none."""
    calls = [
        [argument.value for argument in call.args if isinstance(argument, ast.Constant)]
        for call in ast.walk(ast.parse(Path(__file__).read_text()))
        if isinstance(call, ast.Call) and getattr(call.func, "id", "") == "shiftreg"
    ]
    run = {" ".join(words[:length]) for words in calls for length in (1, 2)}
    # Arguments that come from a tuple are of these.
    run |= {"classifier test"}
    assert set(every_command()) - run == {"ui", "classifier imagenet"}


def test_a_training_keeps_its_curves(shiftreg: Run, place: Path) -> None:
    shiftreg("init", "miniature", "--steps", "1")
    quick = ("--set", "iterations=3", "--set", "pool_size=4", "--set", "batch_size=2")
    shiftreg("erase", "Picasso", "--method", "srs-me", "--force", *quick)
    from shiftreg import api
    from shiftreg.settings import load_settings

    workspace = api.open_workspace(load_settings())
    version = workspace.registry.shifts.version("miniature", "Picasso")
    curves = workspace.registry.trainings.curves(version)
    assert all(len(curve) == 3 for curve in curves.values())
    assert "loss" in curves
    assert workspace.shift(version).digest == version.digest


@pytest.mark.second_tier
@pytest.mark.parametrize("place", ["server"], indirect=True)
def test_another_home_sees_what_the_server_keeps(
    shiftreg: Run, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shiftreg("init", "miniature", "--steps", "1")
    shiftreg("erase", "Picasso")
    plan = read(shiftreg("compose", "--json"))
    monkeypatch.setenv("SHIFTREG_HOME", str(tmp_path / "colleague"))
    assert read(shiftreg("compose", "--json"))["digest"] == plan["digest"]
