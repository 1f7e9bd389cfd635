"""Concepts: their prompts, names that are refused, names that are nearly right."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from shiftreg.api.selection import Selection
from shiftreg.concepts import (
    PROMPT_TEMPLATES,
    Concept,
    fill,
    find_name,
    label,
    mentions,
    normalised,
    slug,
)
from shiftreg.errors import InvalidInputError, NotFoundError
from shiftreg.registry.models import model_name


def test_a_style_is_spelled_out_in_every_template_over_all_subjects() -> None:
    pairs = Concept("Caravaggio").prompt_pairs(["church", "english springer"])
    prompts = {pair.prompt: pair for pair in pairs}
    assert "Caravaggio" in prompts
    assert prompts["a painting of a church by Caravaggio"].anchor == "a painting of a church"
    assert prompts["an english springer, Caravaggio style"].anchor == "an english springer"
    assert prompts["Caravaggio's church"].stem == "'s church"
    with_subject = sum("{subject}" in template.prompt for template in PROMPT_TEMPLATES["style"])
    assert len(pairs) == 2 * with_subject + len(PROMPT_TEMPLATES["style"]) - with_subject


def test_aliases_are_spelled_out_too_and_repeated_names_are_not() -> None:
    once = Concept("Picasso").prompt_pairs(["church"])
    both = Concept("Picasso", ("Pablo Picasso", "Picasso")).prompt_pairs(["church"])
    assert len(both) == 2 * len(once)


def test_an_object_is_replaced_by_a_image_without_it() -> None:
    pairs = Concept("church", kind="object").prompt_pairs(["dog"])
    assert {pair.prompt: pair.anchor for pair in pairs}["a photo of a church"] == "a photo"


def test_articles_follow_the_word() -> None:
    assert fill("a {subject} by {concept}", "umbrella", "Eng") == "an umbrella by Eng"
    assert fill("a painting of a {concept}", concept="owl") == "a painting of an owl"


@pytest.mark.parametrize("name", ["", "   ", "a\x1b[31mred", "x" * 101, "\u202e", "!!!", "a\nb"])
def test_names_that_could_hide_something_are_refused(name: str) -> None:
    with pytest.raises(InvalidInputError):
        Concept(name)


@given(st.text(max_size=40))
def test_any_text_is_either_a_concept_with_a_safe_slug_or_refused(name: str) -> None:
    try:
        concept = Concept(name)
    except InvalidInputError:
        return
    text = slug(concept.name)
    assert text
    assert not set(text) & set("/\\:. \0")


def test_a_name_is_found_whatever_its_case() -> None:
    assert find_name(" van  GOGH", ["Picasso", "Van Gogh"], "miniature") == "Van Gogh"


@pytest.mark.parametrize(("name", "known"), [("C#", "C++"), ("van-gogh", "Van Gogh"), ("é", "e")])
def test_a_name_that_differs_in_any_sign_is_another_one_and_suggested(
    name: str, known: str
) -> None:
    with pytest.raises(NotFoundError, match=f"Did you mean '{re.escape(known)}'"):
        find_name(name, [known], "miniature")


LIKE_EACH_OTHER = st.text(
    "cC\uff43+#-./\\ ~_1ДЖжäÄa\u017fsßẞﬁ\u0308\u00a0\u0345", min_size=1, max_size=6
)
NAMES = (
    LIKE_EACH_OTHER
    | LIKE_EACH_OTHER.map(label)
    | st.sampled_from(["compositions", "Compositions ", "compositions_", "C++", "C#", "../x", "-x"])
    | st.text(max_size=40)
)


@given(NAMES, NAMES)
@example("C++", "C#")
@example("Pablo Д", "Pablo Ж")
@example("-x", "../x")
@example("Straße", "STRASSE")
@example("C++", label("C++"))
def test_two_names_share_what_is_kept_of_them_only_if_they_are_one(one: str, other: str) -> None:
    is_one = normalised(one) == normalised(other)
    assert normalised(normalised(one)) == normalised(one)
    assert (label(one) == label(other)) == is_one
    assert (model_name("base", one) == model_name("base", other)) == is_one
    folders = {Selection(without=[name]).folder for name in (one, other)}
    assert (len(folders) == 1) == is_one
    for name in (one, other):
        assert model_name("base", name) != "base.compositions"
        assert not set(label(name)) & set("/\\:. +\0")
        assert len(label(name).encode()) < 120
    try:
        assert find_name(one, [other], "base") == other
        assert is_one
    except NotFoundError:
        assert not is_one


def test_a_misspelled_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(NotFoundError) as caught:
        find_name("Picaso", ["Picasso", "Van Gogh"], "miniature")
    assert str(caught.value) == (
        "Concept 'Picaso' is not registered for base 'miniature'. Did you mean 'Picasso'? "
        "See: shiftreg list"
    )


def test_a_name_far_from_all_others_gets_no_suggestion() -> None:
    with pytest.raises(NotFoundError) as caught:
        find_name("Rembrandt", ["Picasso"], "miniature")
    assert "Did you mean" not in str(caught.value)


def test_mentions_sees_whole_words_only() -> None:
    assert mentions("a church by picasso", ["Picasso"])
    assert not mentions("an engine", ["Eng"])
