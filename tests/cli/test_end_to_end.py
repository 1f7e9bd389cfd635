"""The command line as people use it: one registry, files, and real signals to real processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from typer.testing import Result

from shiftreg import api
from shiftreg.settings import Settings
from tests.commands import START, run_command

QUICK = ("--set", "iterations=2", "--set", "pool_size=4", "--set", "batch_size=2")


@pytest.fixture
def environment(workspace: api.Workspace) -> dict[str, str | None]:
    """Of commands on a registry that generates quickly."""
    return {"SHIFTREG_HOME": str(workspace.settings.home), "NO_COLOR": "1", "COLUMNS": "200"}


@pytest.fixture
def command(environment: dict[str, str], tmp_path: Path) -> Callable[..., subprocess.Popen[str]]:
    """Starts ``shiftreg`` in an empty folder, as a process of its own."""

    def start(*arguments: str, home: Path | None = None) -> subprocess.Popen[str]:
        elsewhere = {"SHIFTREG_HOME": str(home)} if home else {}
        return subprocess.Popen(
            [sys.executable, "-c", START, *arguments],
            cwd=tmp_path,
            env=os.environ | environment | elsewhere,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return start


@pytest.fixture
def shiftreg(environment: dict[str, str | None], tmp_path: Path) -> Callable[..., Result]:
    """Runs ``shiftreg`` to its end in an empty folder, in this process."""

    def run(*arguments: str, home: Path | None = None) -> Result:
        elsewhere = {"SHIFTREG_HOME": str(home)} if home else {}
        return run_command(*arguments, folder=tmp_path, environment=environment | elsewhere)

    return run


Run = Callable[..., Result]


def test_the_two_commands_of_the_mission_work_with_no_configuration(
    shiftreg: Run, tmp_path: Path
) -> None:
    erased = shiftreg("erase", "Caravaggio", "Picasso", "--reason", "request 17")
    assert erased.exit_code == 0, erased.stderr
    assert "Caravaggio: erased (version 1)" in erased.stdout
    composed = shiftreg("compose", "--without", "Picasso", "--export", "model.ckpt")
    assert composed.exit_code == 0, composed.stderr
    lines = [" ".join(line.split()) for line in composed.stdout.splitlines()]
    assert any(line.startswith("Caravaggio erased (version 1)") for line in lines)
    assert any(line.startswith("Picasso generates (restored") for line in lines)
    state = torch.load(tmp_path / "model.ckpt", weights_only=True)["state_dict"]
    assert any(key.startswith("model.diffusion_model.") for key in state)
    listed = json.loads(shiftreg("list", "--json").stdout)
    states = {item["concept"]: item["state"] for item in listed["items"]}
    assert states["Caravaggio"] == states["Picasso"] == "erased"
    assert states["Cezanne"] == "generates"


@pytest.mark.erased("Picasso", reason="request 17")
def test_a_concept_comes_back_and_its_history_says_why(shiftreg: Run) -> None:
    silent = shiftreg("restore", "Picasso", "--reason", "licence 3")
    assert silent.exit_code == 2
    assert "--yes" in silent.stderr
    restored = shiftreg("restore", "Picasso", "--reason", "licence 3", "--yes")
    assert restored.exit_code == 0, restored.stderr
    assert "generates" in restored.stdout
    history = json.loads(shiftreg("show", "Picasso", "--json").stdout)["history"]
    assert [(event["action"], event["reason"]) for event in history] == [
        ("erase", "request 17"),
        ("restore", "licence 3"),
    ]


def test_a_misspelled_concept_is_answered_with_the_right_one(shiftreg: Run) -> None:
    result = shiftreg("compose", "--without", "Picaso")
    assert result.exit_code == 2
    assert result.stderr.strip() == (
        "Error: Concept 'Picaso' is not registered for base 'miniature'. "
        "Did you mean 'Picasso'? See: shiftreg list"
    )


def test_verify_says_by_its_exit_code_that_a_file_was_changed(
    shiftreg: Run, tmp_path: Path
) -> None:
    shiftreg("compose", "--export", "model.ckpt")
    file = tmp_path / "model.ckpt"
    content = torch.load(file, weights_only=True)
    key = next(key for key in content["state_dict"] if key.endswith("attn2.to_k.weight"))
    content["state_dict"][key][0, 0] += 1
    torch.save(content, file)
    result = shiftreg("verify", "model.ckpt", "--images", "1", "--json")
    assert result.exit_code == 1, result.stderr
    (check,) = [c for c in json.loads(result.stdout)["checks"] if c["name"] == "file"]
    assert not check["passed"]


@pytest.mark.erased("Caravaggio", "Picasso")
def test_two_changes_at_once_both_arrive(
    command: Callable[..., subprocess.Popen[str]], workspace: api.Workspace
) -> None:
    names = ("Caravaggio", "Picasso")
    processes = [command("restore", name, "--reason", "x", "--yes") for name in names]
    for process in processes:
        _, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
    workspace = api.open_workspace(workspace.settings)
    assert not workspace.registry.shifts.active("miniature")
    restored = [event for event in workspace.audit.events() if event.action == "restore"]
    assert sorted(name for event in restored for name in event.concepts) == list(names)
    assert workspace.audit.verify().valid


@pytest.mark.second_tier
def test_two_first_erasures_at_once_both_arrive(
    command: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    home = tmp_path / "fresh"
    arguments = ("erase", "--method", "srs-me", "--force", *QUICK)
    processes = [command(*arguments, name, home=home) for name in ("Picasso", "Caravaggio")]
    for process in processes:
        _, err = process.communicate(timeout=600)
        assert process.returncode == 0, err
    workspace = api.open_workspace(Settings(home, "miniature", None))
    assert {v.concept for v in workspace.registry.shifts.active("miniature")} == {
        "Picasso",
        "Caravaggio",
    }
    assert workspace.audit.verify().valid


@pytest.mark.parametrize(
    "arguments",
    [
        ("erase", "Picasso"),
        pytest.param(
            ("erase", "Picasso", "--method", "srs-me", "--force"), marks=pytest.mark.second_tier
        ),
    ],
)
def test_an_interrupt_leaves_registry_and_files_as_they_were(
    command: Callable[..., subprocess.Popen[str]], home: Path, arguments: tuple[str, ...]
) -> None:
    workspace = api.open_workspace(Settings(home, "miniature", None))
    events = workspace.audit.events()
    process = command(*arguments)
    time.sleep(4)  # somewhere between start and end
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode in (0, 130), err
    workspace = api.open_workspace(Settings(home, "miniature", None))
    told = workspace.audit.events()[len(events) :]
    # It is all there or nothing is: also where the interrupt came at the very end.
    assert [event.concepts for event in told if event.action == "erase"] == [
        (concept,) for concept in workspace.registry.shifts.concepts("miniature")
    ]
    assert workspace.audit.verify().valid


def test_an_interrupted_export_leaves_no_file_without_its_record(
    command: Callable[..., subprocess.Popen[str]], home: Path, tmp_path: Path
) -> None:
    process = command("compose", "--export", "model.ckpt")
    while not list(tmp_path.glob(".model.ckpt*")) and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode in (0, 130, -signal.SIGINT), err
    names = {path.name for path in tmp_path.iterdir()} - {"home"}
    workspace = api.open_workspace(Settings(home, "miniature", None))
    if workspace.registry.compositions.all("miniature"):  # it was quicker
        assert names == {"model.ckpt", "model.ckpt.recipe.json"}
    else:
        assert process.returncode != 0
        assert names == set()


def test_a_full_disk_leaves_neither_file_nor_record(shiftreg: Run, small_disk: Path) -> None:
    result = shiftreg("compose", "--export", str(small_disk / "model.safetensors"))
    assert result.exit_code == 2
    assert "space" in result.stderr.lower()
    assert list(small_disk.iterdir()) == []


@pytest.mark.erased("Picasso", reason="request 17")
def test_a_release_is_signed_checked_elsewhere_and_held_to_the_policy(
    shiftreg: Run, tmp_path: Path
) -> None:
    options = ("-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", "key.pem")
    subprocess.run(["openssl", "genpkey", *options], cwd=tmp_path, check=True, capture_output=True)
    public = ("pkey", "-in", "key.pem", "-pubout", "-out", "key.pub")
    subprocess.run(["openssl", *public], cwd=tmp_path, check=True, capture_output=True)
    made = shiftreg("compose", "--export", "model.ckpt", "--sign", "--signing-key", "key.pem")
    assert made.exit_code == 0, made.stderr
    check = ("verify", "model.ckpt", "--key", "key.pub", "--signature-only", "--json")
    report = json.loads(shiftreg(*check, home=tmp_path / "nowhere").stdout)
    assert report["passed"] is True
    assert report["statement"]["states"]["Picasso"] == "erased"
    assert not (tmp_path / "nowhere").exists()
    with (tmp_path / "model.ckpt").open("ab") as file:
        file.write(b"\0")
    assert shiftreg(*check).exit_code == 1
    (tmp_path / "shiftreg.toml").write_text('[policy]\nmust_erase = ["Caravaggio"]\n')
    refused = shiftreg("compose", "--export", "other.ckpt")
    assert refused.exit_code == 1
    assert 'Run: shiftreg erase "Caravaggio"' in refused.stdout
    assert list(tmp_path.glob("*other*")) == []
    assert shiftreg("policy").exit_code == 1
    forced = shiftreg("compose", "--export", "other.ckpt", "--override", "--reason", "a demo")
    assert forced.exit_code == 0, forced.stderr
    assert json.loads((tmp_path / "other.ckpt.recipe.json").read_text())["override"]["broken"]
