"""The command ``generate``: what it passes on and shows, and a real run that is interrupted."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import ANY

import pytest
from typer.testing import CliRunner, Result

from shiftreg import api
from shiftreg.api.generation.generate import GenerationResult
from shiftreg.api.generation.job import GenerationFolder, GenerationPlan
from shiftreg.api.values import Progress
from shiftreg.engines import InProcess, ProcessPool
from shiftreg_cli import generate
from shiftreg_cli.main import app
from tests.commands import START, run_command
from tests.worlds import Worlds, opened

DIGEST = "0123456789abcdef" * 4


def generation(values: Any, folder: Path, **changes: Any) -> GenerationPlan:
    """A plan about the concept of the given values."""
    nothing = replace(
        values.plan,
        states=dict.fromkeys(values.plan.states, "generates"),
        statements=tuple(f"{name}: generates" for name in values.plan.states),
    )
    plan = GenerationPlan(
        base="miniature",
        base_digest=DIGEST,
        prompts=folder / "prompts.csv",
        prompts_digest=DIGEST,
        folder=folder / "images",
        cases=18,
        count=2,
        steps=12,
        guidance=7.5,
        by_prompt=False,
        folders=(
            GenerationFolder("base", "none", nothing, 30, 6),
            GenerationFolder("without-picasso", "without Picasso", values.plan, 36, 0),
        ),
        warnings=values.plan.warnings,
    )
    return replace(plan, **changes)


class Calls:
    """Puts answers in the place of use cases, and keeps what they were called with."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **answers: object) -> None:
        self.made: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []
        for name, value in answers.items():
            monkeypatch.setattr(api, name, self._answering(name, value))

    def _answering(self, name: str, value: object) -> Callable[..., object]:
        def use_case(*arguments: Any, **options: Any) -> object:
            self.made.append((name, arguments, options))
            if "observe" in options:
                options["observe"](Progress("generating images", 1, 2))
            return value

        return use_case


@pytest.fixture
def calls(
    monkeypatch: pytest.MonkeyPatch, home: Path, worlds: Worlds, values: Any, tmp_path: Path
) -> Calls:
    monkeypatch.setenv("COLUMNS", "200")  # the path of a temporary folder fits
    (tmp_path / "prompts.csv").write_text("prompt,evaluation_seed\nPicasso,1\n")
    plan = generation(values, tmp_path)
    return Calls(
        monkeypatch,
        open_workspace=opened(worlds.empty(home)),
        plan_generation=plan,
        generate_images=GenerationResult(plan, 66, 6),
    )


def start(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["generate", *arguments])


def start_file(*arguments: str) -> Result:
    return start("--csv", "prompts.csv", "--out", "images", *arguments)


def test_by_default_the_base_and_the_active_shifts_are_generated(calls: Calls) -> None:
    assert start_file().exit_code == 0
    name, arguments, options = calls.made[-1]
    options.pop("observe")
    assert isinstance(options.pop("engine"), InProcess)
    *arguments, settings = arguments
    assert (name, options) == ("generate_images", {})
    assert arguments == [ANY, Path("prompts.csv"), Path("images")]
    assert vars(settings) == {
        "compositions": (api.Selection(),),
        "with_base": True,
        "count": 1,
        "steps": None,
        "guidance": None,
        "batch_size": 25,
        "by_prompt": False,
        "skip_long": False,
        "overwrite": False,
    }


def test_compositions_and_settings_are_passed_on(calls: Calls) -> None:
    result = start_file(
        *("--composition", "active"),
        *("--composition", "without Picasso,Van Gogh", "--no-base", "--count", "3"),
        *("--steps", "12", "--guidance", "2", "--batch", "4", "--by-prompt", "--force"),
        *("--skip-long", "--engine", "processes"),
    )
    assert result.exit_code == 0
    _, (*_, settings), options = calls.made[-1]
    assert isinstance(options["engine"], ProcessPool)
    assert vars(settings) == {
        "compositions": (api.Selection(), api.Selection(without=("Picasso", "Van Gogh"))),
        "with_base": False,
        "count": 3,
        "steps": 12,
        "guidance": 2.0,
        "batch_size": 4,
        "by_prompt": True,
        "skip_long": True,
        "overwrite": True,
    }


def test_the_result_says_where_images_are_and_what_each_composition_erases(
    calls: Calls,
) -> None:
    lines = start_file().stdout.splitlines()
    assert any(line.split()[:1] + line.split()[-2:] == ["base", "30", "6"] for line in lines)
    assert any("without-picasso" in line and "36" in line for line in lines)
    assert any("Caravaggio" in line and "erased (version 2)" in line for line in lines)
    assert any("18 cases of" in line and "2 images each" in line for line in lines)


def test_a_dry_run_plans_and_generates_nothing(calls: Calls) -> None:
    result = start_file("--dry-run")
    assert [name for name, _, _ in calls.made] == ["open_workspace", "plan_generation"]
    assert "To generate" in result.stdout
    assert "nothing was generated" in result.stderr


@pytest.mark.parametrize("flags", [[], ["--dry-run"]])
def test_json_is_one_document(calls: Calls, flags: list[str]) -> None:
    document = json.loads(start_file("--json", *flags).stdout)
    plan = document if flags else document["plan"]
    assert [folder["name"] for folder in plan["folders"]] == ["base", "without-picasso"]


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--csv", "missing.csv", "--out", "images"),
        ("--csv", ".", "--out", "images"),
        ("--csv", "prompts.csv"),
        ("--csv", "prompts.csv", "--out", "images", "--count", "0"),
        ("--csv", "prompts.csv", "--out", "images", "--guidance", "-1"),
    ],
)
def test_bad_usage_is_refused(calls: Calls, arguments: tuple[str, ...]) -> None:
    assert start(*arguments).exit_code == 2
    assert calls.made == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("Picasso", "--batch", "2"), "--batch requires --csv FILE"),
        (("Picasso", "--dry-run"), "--dry-run requires --csv FILE"),
        (("Picasso", "--engine", "local"), "--engine requires --csv FILE"),
        (("Picasso", "--csv", "prompts.csv"), "PROMPT cannot be combined with --csv"),
        (("--csv", "prompts.csv", "--seed", "0"), "--seed cannot be combined with --csv"),
        (("--csv", "prompts.csv", "--without", "Picasso"), "--without cannot be combined with"),
        (("--csv", "prompts.csv"), "--csv needs --out FOLDER"),
        ((), "Give the PROMPTs of a grid"),
    ],
)
def test_options_of_the_other_form_are_refused(
    calls: Calls, arguments: tuple[str, ...], said: str
) -> None:
    result = start(*arguments)
    assert result.exit_code == 2
    assert said in result.stderr
    assert calls.made == []


def test_an_interrupt_says_how_to_go_on(calls: Calls, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_arguments: Any, **_options: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(api, "generate_images", interrupted)
    result = start_file()
    assert result.exit_code == 130
    assert "The images so far are kept" in result.stderr


EVIL = "[red]evil[/red] \x1b[2J\u202e"


def test_a_name_with_markup_and_escape_sequences_is_shown_harmlessly(
    values_about: Callable[[str], Any], draw: Callable[..., str], tmp_path: Path
) -> None:
    plan = generation(values_about(EVIL), tmp_path)
    folder = replace(plan.folders[1], composition=f"without {EVIL}", name=EVIL)
    plan = replace(plan, folders=(plan.folders[0], folder), prompts=tmp_path / EVIL)
    text = draw(generate.render_job(plan, "Generated"), terminal=True)
    assert "[red]evil[/red] \\x1b[2J\\u202e" in text
    assert "\x1b[2J" not in text
    assert "\u202e" not in text


def test_a_narrow_terminal_loses_no_words(
    values: Any, draw: Callable[..., str], tmp_path: Path
) -> None:
    text = draw(generate.render_job(generation(values, tmp_path), "To generate"), width=44)
    assert max(map(len, text.splitlines())) <= 44
    assert "…" not in text


def test_ctrl_c_half_way_keeps_what_is_generated_and_the_same_command_goes_on(
    home: Path, worlds: Worlds, tmp_path: Path
) -> None:
    worlds.open(home)
    lines = [f"Picasso,{seed}" for seed in range(6)]
    (tmp_path / "prompts.csv").write_text("\n".join(["prompt,evaluation_seed", *lines]))
    words = ["generate", "--csv", "prompts.csv", "--out", "images"]
    words += ["--steps", "8", "--batch", "1", "--json"]
    process = subprocess.Popen(
        [sys.executable, "-c", START, *words],
        stderr=subprocess.PIPE,
        cwd=tmp_path,
        env=os.environ | {"SHIFTREG_HOME": str(home)},
        text=True,
    )
    folder = tmp_path / "images"
    while len(list(folder.glob("base/*.png"))) < 2 and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "The images so far are kept" in err
    generated = len(list(folder.rglob("*.png")))
    assert 2 <= generated < 12
    assert not list(folder.rglob("*.partial"))
    again = run_command(*words, folder=tmp_path, environment={"SHIFTREG_HOME": str(home)})
    assert again.exit_code == 0, again.stderr
    document = json.loads(again.stdout)
    assert (document["generated"], document["kept"]) == (12 - generated, generated)
    assert len(list(folder.rglob("*.png"))) == 12
