"""``shiftreg adapter``: what it passes on, what it prints, and what it refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from shiftreg import api
from shiftreg_cli import adapter
from shiftreg_cli.main import app

DIGEST = "0123456789abcdef" * 4


@pytest.fixture
def plan(values: Any) -> api.AdapterPlan:
    return api.AdapterPlan(
        target=Path("c.safetensors"),
        plan=values.plan,
        form="kohya",
        dtype="float16",
        rank=None,
        parameters=32,
        ranks=(8, 90),
        size=2_100_000,
        strength="At strength 1: Caravaggio erased. At strength 0: as without it.",
        warnings=("The shift of Caravaggio is stale.",),
    )


@pytest.fixture
def result(plan: api.AdapterPlan, tmp_path: Path) -> api.AdapterResult:
    path = tmp_path / "c.safetensors"
    path.write_bytes(bytes(1500))
    return api.AdapterResult(
        plan=plan,
        path=path,
        digest=DIGEST,
        recipe_path=tmp_path / "c.safetensors.recipe.json",
        recipe_digest=DIGEST,
        card_path=tmp_path / "c.safetensors.md",
        version=3,
        exact=False,
        change_kept=1.0,
        max_drift=3.6e-6,
        plain_drift=1.9e-4,
    )


@pytest.fixture
def made(
    monkeypatch: pytest.MonkeyPatch, home: Path, plan: api.AdapterPlan, result: api.AdapterResult
) -> list[tuple[tuple[Any, ...], dict[str, Any]]]:
    """What the use cases were called with; they answer with values made by hand."""
    calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []

    def answering(value: object) -> Callable[..., object]:
        def use_case(*arguments: Any, **options: Any) -> object:
            calls.append((arguments, options))
            return value

        return use_case

    monkeypatch.setattr(api, "open_workspace", lambda settings, **event: "workspace")
    monkeypatch.setattr(api, "plan_adapter", answering(plan))
    monkeypatch.setattr(api, "export_adapter", answering(result))
    return calls


def start(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["adapter", *arguments], env={"COLUMNS": "160"})


def test_concepts_come_first_and_the_file_last(made: list[Any]) -> None:
    done = start("Caravaggio", "Van Gogh", "c.safetensors", "--form", "kohya", "--rank", "4")
    assert done.exit_code == 0, done.output
    arguments, options = made[0]
    selection = api.Selection(["Caravaggio", "Van Gogh"])
    assert arguments == ("workspace", Path("c.safetensors"), selection)
    assert options == {"form": "kohya", "dtype": "float32", "rank": 4}


def test_without_concepts_all_that_is_erased_is_in_it(made: list[Any]) -> None:
    assert start("all.safetensors", "--without", "Picasso,Cezanne").exit_code == 0
    arguments, _ = made[0]
    assert arguments[2] == api.Selection(without=["Picasso", "Cezanne"])


def test_it_exports_the_plan_that_it_showed(made: list[Any], plan: api.AdapterPlan) -> None:
    done = start("Caravaggio", "c.safetensors", "--force", "--reason", "request 17")
    arguments, options = made[1]
    assert arguments == ("workspace", plan)
    assert (options["overwrite"], options["request"].reason) == (True, "request 17")
    assert done.stdout.index("At strength 1") < done.stdout.index("registered")
    assert "3.6e-06 (plain rounding: 0.00019)" in done.stdout


def test_a_dry_run_writes_nothing(made: list[Any]) -> None:
    done = start("Caravaggio", "c.safetensors", "--dry-run")
    assert done.exit_code == 0
    assert len(made) == 1
    assert "nothing was changed" in done.stderr


def test_json_is_one_document(made: list[Any]) -> None:
    document = json.loads(start("Caravaggio", "c.safetensors", "--json").stdout)
    assert document["schema_version"] == 1
    assert document["max_drift"] == 3.6e-6
    assert document["plan"]["strength"].startswith("At strength 1")


def test_naming_and_leaving_out_exclude_each_other(made: list[Any]) -> None:
    done = start("Caravaggio", "c.safetensors", "--without", "Picasso")
    assert done.exit_code == 2
    assert not made
    assert start().exit_code == 2


def test_help_has_examples(home: Path) -> None:
    assert "shiftreg adapter Caravaggio caravaggio.safetensors" in start("--help").stdout


def test_a_plan_says_form_ranks_and_strength(
    plan: api.AdapterPlan, draw: Callable[..., str]
) -> None:
    text = draw(adapter.render_plan(plan))
    for part in ("kohya, float16", "32 parameters", "8 to 90", "2.1 MB", "is stale"):
        assert part in text
