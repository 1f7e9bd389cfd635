from __future__ import annotations

from pathlib import Path

import pytest

from shiftreg import miniature
from shiftreg.evaluation.classifier import load_classifier
from shiftreg.evaluation.labels import named_labels
from shiftreg.evaluation.prompt_file import parse_prompts

# The prompts and seeds that styles are evaluated with in the reference implementation of SRS-ME.
REFERENCE = Path(__file__).with_name("style_classify.csv")


def test_every_prompt_of_the_reference_names_a_style() -> None:
    labels = load_classifier(miniature.STYLE_CLASSIFIER).labels
    cases = parse_prompts(REFERENCE.read_bytes(), REFERENCE)
    found = named_labels([case.prompt for case in cases], labels)
    assert (found["VanGogh"], found["KeithHaring"]) == ("Van Gogh", "Keith Haring")
    assert all(prompt.replace(" ", "") == label.replace(" ", "") for prompt, label in found.items())
    assert [case.case for case in cases if case.prompt not in found] == []
    assert len(found) == 9


@pytest.mark.parametrize(
    ("prompt", "label"),
    [
        ("VANGOGH", "Van Gogh"),
        ("a house by van-gogh, at night", "Van Gogh"),
        ("a house by VanGogh and another by van_gogh", "Van Gogh"),
        ("a house by Keith Haring", "KeithHaring"),
        ("keith haring", "KeithHaring"),
        ("Eng", "Eng"),
        ("Kilian Eng", "Kilian Eng"),
        ("KilianEng", "Kilian Eng"),
        ("a drawing by KilianEng", "Kilian Eng"),
        ("an engine", None),
        ("van goghs", None),
        ("a minivan gogh", None),
        ("a picture of the rapist", None),
        ("VanGogh as KeithHaring saw him", None),
        ("", None),
    ],
)
def test_a_name_is_found_however_its_words_are_joined_and_never_within_a_word(
    prompt: str, label: str | None
) -> None:
    labels = ("Van Gogh", "KeithHaring", "Eng", "Kilian Eng", "therapist")
    assert named_labels([prompt], labels).get(prompt) == label


def test_labels_that_differ_in_their_joints_alone_are_not_confused() -> None:
    assert named_labels(["Van Gogh", "VanGogh"], ["Van Gogh", "VanGogh"]) == {}
