"""Evaluations and attacks as they are read back from JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import pytest

from shiftreg.api import to_json
from shiftreg.attacks.results import AttackReport
from shiftreg.errors import IntegrityError
from shiftreg.evaluation.intervals import Estimate
from shiftreg.evaluation.results import Evaluation
from shiftreg.reports import read_report


@pytest.fixture
def evaluation(evaluation_of: Callable[[str], Any]) -> dict[str, Any]:
    return json.loads(json.dumps(to_json(evaluation_of("Caravaggio"))))


@pytest.fixture
def attack(attack_on: Callable[..., Any]) -> dict[str, Any]:
    return json.loads(json.dumps(to_json(attack_on("Caravaggio"))))


def test_what_was_stored_is_read_back_as_it_was(
    evaluation: dict[str, Any],
    attack: dict[str, Any],
    evaluation_of: Callable[[str], Any],
    attack_on: Callable[..., Any],
) -> None:
    read, stored = read_report(Evaluation, evaluation), evaluation_of("Caravaggio")
    assert isinstance(read.steps[0].scores[1].lpips, Estimate)
    assert math.isnan(read.steps[0].scores[1].frechet)  # which JSON cannot say
    assert to_json(read) == to_json(stored)
    assert read_report(AttackReport, attack) == attack_on("Caravaggio")


@pytest.mark.parametrize(
    "change",
    [{"schema_version": 99}, {"steps": None, "scores": None}, {"steps": [{}], "scores": [{}]}],
)
def test_what_is_no_such_report_is_refused(
    evaluation: dict[str, Any], attack: dict[str, Any], change: dict[str, Any]
) -> None:
    with pytest.raises(IntegrityError):
        read_report(Evaluation, evaluation | change)
    with pytest.raises(IntegrityError):
        read_report(AttackReport, attack | change)
