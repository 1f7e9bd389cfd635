"""Evaluations and attacks as they are read back from JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from shiftreg.api import to_json
from shiftreg.errors import IntegrityError
from shiftreg.reports import read_attack, read_evaluation


@pytest.fixture
def evaluation(evaluation_of: Callable[[str], Any]) -> dict[str, Any]:
    return json.loads(json.dumps(to_json(evaluation_of("Caravaggio"))))


@pytest.fixture
def attack(attack_on: Callable[..., Any]) -> dict[str, Any]:
    return json.loads(json.dumps(to_json(attack_on("Caravaggio"))))


def test_the_step_of_the_pages_composition_is_marked(evaluation: dict[str, Any]) -> None:
    digest = evaluation["steps"][1]["digest"]
    part = read_evaluation(evaluation, digest)
    assert [step.is_this for step in part.steps] == [False, True]
    assert [score.reference for score in part.steps[1].scores] == ["234.5/0.0/0.61", ""]


def test_the_name_without_attack_stands_before_the_attacks(attack: dict[str, Any]) -> None:
    part = read_attack(attack, attack["digest"])
    assert part.is_this
    assert [(bar.attack, bar.target) for bar in part.bars] == [
        ("by name, no attack", "base"),
        ("by name, no attack", "composition"),
        ("concept inversion", "composition"),
    ]


@pytest.mark.parametrize(
    "change",
    [{"schema_version": 99}, {"steps": None, "scores": None}, {"steps": [{}], "scores": [{}]}],
)
def test_what_is_no_such_report_is_refused(
    evaluation: dict[str, Any], attack: dict[str, Any], change: dict[str, Any]
) -> None:
    with pytest.raises(IntegrityError):
        read_evaluation(evaluation | change, "")
    with pytest.raises(IntegrityError):
        read_attack(attack | change, "")
