from __future__ import annotations

import pytest

from shiftreg.attacks.results import BASE, COMPOSITION, CONTROL, above_control


def test_what_a_start_alone_leads_to_is_no_success_of_an_attack() -> None:
    success = {
        ("words", BASE): 1.0,
        ("words", COMPOSITION): 0.25,
        ("probe", COMPOSITION): 0.75,
        ("probe", CONTROL): 0.5,
        ("weak probe", COMPOSITION): 0.25,
        ("weak probe", CONTROL): 0.5,
    }
    assert above_control(success) == {
        "words": 0.25,
        "probe": pytest.approx(0.25),
        "weak probe": 0.0,
    }


def test_attacks_on_other_targets_say_nothing_about_the_composition() -> None:
    assert above_control({("words", BASE): 1.0, ("words", "Picasso@1 (esd)"): 1.0}) == {}
