from __future__ import annotations

from collections.abc import Callable

from shiftreg.evaluation.intervals import Estimate
from shiftreg_cli import render_classifiers

Draw = Callable[..., str]
CONFUSION = {"Picasso": {"Picasso": 7, "plain": 2, "Cezanne": 1}, "plain": {"plain": 10}}
PER_CLASS = {"Picasso": Estimate(0.7, 0.4, 0.9, 10), "plain": Estimate(1.0, 0.69, 1.0, 10)}


def lines(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines()]


def test_a_row_a_class_says_what_it_is_mistaken_for(draw: Draw) -> None:
    rows = lines(draw(render_classifiers.accuracies(PER_CLASS, CONFUSION)))
    assert ["Picasso", "10", "70.0%", "40%", "to", "90%", "plain", "(2)"] in rows
    assert ["plain", "10", "100.0%", "69%", "to", "100%"] in rows


def test_the_matrix_has_a_column_for_each_answer(draw: Draw) -> None:
    text = draw(render_classifiers.matrix(CONFUSION))
    assert ["Picasso", "7", "2", "1"] in lines(text)
    assert ["plain", ".", "10", "."] in lines(text)
    assert "Answers: 1 Picasso, 2 plain, 3 Cezanne" in text


def test_ten_classes_fit_a_terminal_of_eighty_columns(draw: Draw) -> None:
    names = [f"Generator number {n}" for n in range(10)]
    text = draw(
        render_classifiers.matrix({name: dict.fromkeys(names, 12) for name in names}), width=80
    )
    assert ["Generator", "number", "3", *["12"] * 10] in lines(text)


def test_a_matrix_wider_than_a_terminal_is_left_out(draw: Draw) -> None:
    row = {f"object {n}": 1 for n in range(13)}
    estimates = {"object 0": Estimate(0.1, 0.0, 0.2, 13)}
    text = draw(render_classifiers.accuracies(estimates, {"object 0": row}))
    assert "Taken for" not in text
    assert "object 1 (1)" in text


def test_a_name_that_would_rewrite_the_screen_is_spelled_out(draw: Draw) -> None:
    evil = "\x1b[2J"
    estimates = {evil: Estimate(0.0, 0.0, 1.0, 1)}
    assert "\x1b" not in draw(render_classifiers.accuracies(estimates, {evil: {evil: 1}}))
