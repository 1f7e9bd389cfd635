from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from shiftreg.checks import Check
from shiftreg_cli import render, verify

Draw = Callable[..., str]


def test_separability_shows_the_worst_pair_of_each_shift(values: Any, draw: Draw) -> None:
    text = draw(render.checks(values.verification.checks))
    assert "Caravaggio -> CCS 2024" in text
    assert "Caravaggio -> Picasso" not in text


def test_a_failed_pair_is_worse_than_a_larger_one(values: Any, draw: Draw) -> None:
    failed = Check("separability", "Caravaggio -> Picasso", 1e-9, 1e-10, False, "Touched.")
    larger = Check("separability", "Caravaggio -> Cezanne", 1e-6, 1e-5, True, "Untouched.")
    assert render.worst_pairs([larger, failed, larger]) == [failed]


def test_checks_of_other_kinds_are_all_shown() -> None:
    twice = [Check("images", "Picasso", value, 0.001, True, "") for value in (0.0001, 0.0002)]
    assert render.worst_pairs(twice) == twice


def test_a_failure_is_explained_and_the_verdict_counts_it(values: Any, draw: Draw) -> None:
    text = draw(verify.render_verification(values.verification))
    assert "FAILED" in text
    assert "Caravaggio: Caravaggio is still seen." in text
    assert "1 of 4 checks failed" in text
    assert "report.json" in text


def test_a_rate_is_shown_with_its_interval_and_a_residual_without(values: Any, draw: Draw) -> None:
    text = draw(render.checks(values.verification.checks))
    assert "0.25 [0.1, 0.4]" in text
    assert text.count("[") == 1


def test_a_verification_that_passes_says_so(values: Any, draw: Draw) -> None:
    text = draw(verify.render_verification(values.passed_verification))
    assert "All checks passed" in text
    assert "FAILED" not in text


def test_the_matrix_has_a_row_a_prompt_and_a_column_a_shift(draw: Draw) -> None:
    residuals = {"Caravaggio": {"": 0.0, "Picasso": 3e-8}, "Cezanne": {"Picasso": 4e-8}}
    lines = draw(verify.render_separability(residuals)).splitlines()
    rows = [line.split() for line in lines]
    assert ["Protected", "prompt", "1", "2"] in rows
    assert ['""', "0e+00"] in rows
    assert ["Picasso", "3e-08", "4e-08"] in rows
    assert lines[-1] == "Shifts: 1 Caravaggio, 2 Cezanne"


def test_nine_shifts_fit_a_terminal_of_eighty_columns(draw: Draw) -> None:
    residuals = {f"Generator {n}": {"watermark SRS-ME": 1e-8} for n in range(9)}
    text = draw(verify.render_separability(residuals), width=80)
    row = next(line for line in text.splitlines() if line.startswith("watermark"))
    assert row.count("1e-08") == 9


def test_a_matrix_wider_than_a_terminal_is_left_to_the_report(values: Any, draw: Draw) -> None:
    many = {f"Generator {n}": {"Picasso": 1e-8} for n in range(10)}
    text = draw(verify.render_verification(replace(values.verification, separability=many)))
    assert "Protected prompt" not in text
