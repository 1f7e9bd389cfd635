"""Finding and building attacks by name."""

from __future__ import annotations

import pytest

from shiftreg.attacks import ConceptInversion, build_attack, find_attack, known_attacks
from shiftreg.errors import InvalidInputError, NotFoundError

NAMES = (
    "ring-a-bell",
    "ring-a-bell-soft",
    "unlearn-diff-atk",
    "concept-inversion",
    "closed-form-embedding",
    "noise-probe",
    "completion-probe",
    "relearning",
)


def test_every_attack_is_found_by_its_name_and_says_what_it_needs() -> None:
    assert tuple(known_attacks()) == NAMES
    for name in NAMES:
        attack = find_attack(name)
        assert attack.name == name
        assert attack.needs
        assert attack.source
        assert attack.__doc__


def test_every_attack_has_a_budget_of_its_own() -> None:
    for name in NAMES:
        assert build_attack(name) == known_attacks()[name]()


def test_options_are_taken_as_text_too() -> None:
    built = build_attack(
        "concept-inversion", {"iterations": "20", "learning_rate": "1e-2", "start": "art"}
    )
    assert built == ConceptInversion(iterations=20, learning_rate=0.01, start="art")


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("ring-a-bel", "ring-a-bell"),
        ("Concept-Inversion", "concept-inversion"),
        ("unlearndiffatk", "unlearn-diff-atk"),
        ("closed-form", "closed-form-embedding"),
    ],
)
def test_a_slip_is_answered_with_the_nearest_name(typed: str, meant: str) -> None:
    with pytest.raises(NotFoundError, match=f"Did you mean '{meant}'"):
        find_attack(typed)


def test_an_unknown_name_is_answered_with_all_that_there_are() -> None:
    with pytest.raises(NotFoundError) as error:
        build_attack("magic")
    assert "Did you mean" not in str(error.value)
    assert all(name in str(error.value) for name in NAMES)


def test_unknown_and_unfit_options_are_refused() -> None:
    with pytest.raises(InvalidInputError, match=r"no option 'steps'\. Options: tokens, start"):
        build_attack("concept-inversion", {"steps": 3})
    with pytest.raises(InvalidInputError, match=r"'iterations' .* is a int, and 'many' is none"):
        build_attack("concept-inversion", {"iterations": "many"})
    with pytest.raises(InvalidInputError, match="iterations must be a positive number"):
        build_attack("concept-inversion", {"iterations": 0})
