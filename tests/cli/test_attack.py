"""``attack``: what it passes on, what it says, and when it fails."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import RenderableType
from typer.testing import CliRunner, Result

from shiftreg import api
from shiftreg.api.attacks.plan import AttackPlan
from shiftreg.api.values import Progress
from shiftreg.attacks.results import BASE, COMPOSITION, CONTROL, AttackReport, AttackScore
from shiftreg.evaluation.intervals import Estimate
from shiftreg.plugins import AttackMethod, MethodOption
from shiftreg_cli import attack
from shiftreg_cli.main import app

Draw = Callable[[RenderableType], str]
NONE, SOME, ALL = (
    Estimate(0.0, 0.0, 0.37, 8),
    Estimate(0.625, 0.31, 0.86, 8),
    Estimate(1.0, 0.63, 1.0, 8),
)
PLAN = AttackPlan(
    base="miniature",
    concept="Caravaggio",
    digest="fedcba9876543210" * 4,
    targets=(BASE, COMPOSITION),
    budgets={"relearning": {"iterations": 20}, "noise-probe": {"strength": 0.8}},
    images=8,
    seed=0,
    classifier="the miniature's style classifier",
    warnings=("The shift of Caravaggio is stale.",),
)
PLANNED = SimpleNamespace(plan=PLAN)


def score(attack: str, target: str, success: Estimate) -> AttackScore:
    return AttackScore(attack, target, success, {"iterations": 20}, 1.25, "a prompt")


@pytest.fixture
def report(tmp_path: Path) -> AttackReport:
    return AttackReport(
        base="miniature",
        concept="Caravaggio",
        digest=PLAN.digest,
        classifier=PLAN.classifier,
        seed=0,
        images=8,
        unattacked={BASE: ALL, COMPOSITION: NONE, CONTROL: NONE},
        scores=(
            score("relearning", BASE, ALL),
            score("relearning", COMPOSITION, SOME),
            score("noise-probe", BASE, ALL),
            score("noise-probe", COMPOSITION, SOME),
            score("noise-probe", CONTROL, ALL),
        ),
        image=tmp_path / "grid.png",
        report_path=tmp_path / "report.json",
        created="2026-11-24T02:00:00+00:00",
    )


class Calls:
    """The use cases of ``attack``, with answers made by hand; keeps what they were asked."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, report: AttackReport) -> None:
        self.made: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []
        answers = {"open_workspace": "workspace", "plan_attack": PLANNED, "attack": report}
        for name, value in answers.items():
            monkeypatch.setattr(api, name, self._answering(name, value))

    def names(self) -> list[str]:
        return [name for name, _, _ in self.made]

    def _answering(self, name: str, value: object) -> Callable[..., object]:
        def use_case(*arguments: Any, **options: Any) -> object:
            if "observe" in options:
                options.pop("observe")(Progress("relearning on composition", 1, 2, {"loss": 0.5}))
            self.made.append((name, arguments, options))
            return value

        return use_case


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch, home: Path, report: AttackReport) -> Calls:
    monkeypatch.setenv("COLUMNS", "160")
    return Calls(monkeypatch, report)


def start(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["attack", *arguments])


def test_everything_is_passed_on_to_the_plan_and_to_the_attack(calls: Calls) -> None:
    result = start(
        *("Caravaggio", "--attack", "relearning", "--attack", "noise-probe", "--against", "esd"),
        *(
            "--images",
            "4",
            "--seed",
            "3",
            "--without",
            "Picasso",
            "--classifier",
            "other.file",
        ),
        *("--set", "relearning.iterations=5", "--set", "relearning.learning_rate=1e-4"),
    )
    assert result.exit_code == 0
    (_, planning, attacking) = calls.made
    assert planning == (
        "plan_attack",
        ("workspace", "Caravaggio"),
        {
            "attacks": ("relearning", "noise-probe"),
            "options": {"relearning": {"iterations": 5, "learning_rate": 1e-4}},
            "against": ("esd",),
            "selection": api.Selection(without=("Picasso",)),
            "images": 4,
            "seed": 3,
            "classifier": Path("other.file"),
        },
    )
    assert attacking == ("attack", ("workspace", PLANNED), {})


def test_by_default_every_attack_runs(calls: Calls) -> None:
    assert start("Caravaggio").exit_code == 0
    assert calls.made[1][2]["attacks"] == ("all",)


def test_a_success_is_a_measurement_and_no_error(calls: Calls) -> None:
    result = start("Caravaggio")
    assert result.exit_code == 0
    assert "62% (31-86%)" in result.stdout
    assert "detected in 5 of 8 images" in result.stdout


@pytest.mark.parametrize(("share", "code"), [("0.5", 1), ("0.625", 0), ("1", 0), ("0", 1)])
def test_with_a_limit_a_larger_success_on_the_composition_fails(
    calls: Calls, share: str, code: int
) -> None:
    result = start("Caravaggio", "--at-most", share)
    assert result.exit_code == code
    assert "62% (31-86%)" in result.stdout
    assert ("relearning 62%" in result.stderr) == (code == 1)


def test_a_dry_run_shows_the_plan_and_attacks_nothing(calls: Calls) -> None:
    result = start("Caravaggio", "--dry-run")
    assert result.exit_code == 0
    assert "Attack Caravaggio" in result.stdout
    assert "iterations 20" in result.stdout
    assert "stale" in result.stdout
    assert "nothing was attacked" in result.stderr
    assert "attack" not in calls.names()


def test_a_machine_gets_one_document(calls: Calls) -> None:
    document = json.loads(start("Caravaggio", "--json").stdout)
    assert document["schema_version"] == 1
    assert document["scores"][1]["success"]["value"] == 0.625
    assert document["unattacked"]["composition"]["count"] == 8
    planned = json.loads(start("Caravaggio", "--json", "--dry-run").stdout)
    assert planned["targets"] == ["base", "composition"]


def test_attacks_are_listed_without_a_concept_and_without_a_registry(calls: Calls) -> None:
    result = start("--list")
    assert result.exit_code == 0
    assert calls.names() == []
    assert "relearning.iterations" in result.stdout
    names = {item["name"] for item in json.loads(start("--list", "--json").stdout)["items"]}
    assert {"relearning", "noise-probe", "completion-probe"} <= names


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "CONCEPT"),
        (["Caravaggio", "--set", "iterations=5"], "ATTACK.KEY=VALUE"),
        (["Caravaggio", "--set", "relearning.=5"], "ATTACK.KEY=VALUE"),
        (["Caravaggio", "--set", "relearning.iterations"], "KEY=VALUE"),
        (["Caravaggio", "--only", "A", "--without", "B"], "exclude"),
        (["Caravaggio", "--images", "0"], "images"),
        (["Caravaggio", "--at-most", "2"], "at-most"),
    ],
)
def test_bad_input_ends_with_2(calls: Calls, arguments: list[str], message: str) -> None:
    result = start(*arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert calls.names() == []


# In words.


def test_each_target_has_its_column_and_each_attack_its_row(
    report: AttackReport, draw: Draw
) -> None:
    alone = "Caravaggio@2 (esd)"
    wider = replace(
        report,
        unattacked={**report.unattacked, alone: NONE},
        scores=(*report.scores, score("relearning", alone, ALL)),
    )
    lines = draw(attack.render_scores(wider)).splitlines()
    head = next(line for line in lines if "Attack" in line)
    assert head.index("base") < head.index("composition") < head.index(CONTROL) < head.index(alone)
    (relearning,) = [line for line in lines if line.strip().startswith("relearning")]
    assert relearning.count("%)") == 3
    (plain,) = [line for line in lines if line.strip().startswith("none")]
    assert plain.count("%)") == 4


def test_a_success_is_held_against_what_the_start_alone_leads_to(report: AttackReport) -> None:
    plain, relearning, probe = attack.sentences(report)
    assert plain == "Without an attack, Caravaggio is detected in 0 of 8 images of its name."
    assert relearning == "relearning: detected in 5 of 8 images."
    assert "5 of 8 images, which the start alone may explain: detected in 8 of 8" in probe
    better = replace(report, scores=(*report.scores[:4], score("noise-probe", CONTROL, NONE)))
    assert "5 of 8 images, against 0 of 8" in attack.sentences(better)[-1]
    zero = score("noise-probe", COMPOSITION, NONE)
    nothing = replace(better, scores=(*better.scores[:3], zero, better.scores[4]))
    assert attack.sentences(nothing)[-1] == "noise-probe: detected in 0 of 8 images."


def test_an_attack_that_does_not_even_work_on_the_base_is_said_to(report: AttackReport) -> None:
    scores = (score("relearning", BASE, NONE), score("relearning", COMPOSITION, NONE))
    told = attack.sentences(replace(report, scores=scores))[-1]
    assert "detected in 0 of 8 images" in told
    assert "does not work here" in told


@pytest.mark.parametrize("success", [NONE, SOME])
def test_nothing_is_said_to_be_deleted(report: AttackReport, draw: Draw, success: Estimate) -> None:
    scores = tuple(replace(one, success=success) for one in report.scores)
    text = draw(attack.render_report(replace(report, scores=scores))).lower()
    assert "may still be in the weights" in text
    assert not any(word in text for word in ("delete", "removed", "gone", "safe"))


def test_names_from_outside_cannot_write_on_the_terminal(report: AttackReport, draw: Draw) -> None:
    nasty = "\x1b[2J"
    text = draw(attack.render_report(replace(report, concept=nasty, classifier=nasty)))
    text += draw(attack.render_plan(replace(PLAN, concept=nasty, classifier=nasty)))
    described = AttackMethod(nasty, nasty, nasty, {nasty: MethodOption(nasty, nasty)})
    text += draw(attack.render_methods([described]))
    assert "\x1b" not in text
    assert "x1b[2J" in text
