from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from shiftreg.concepts import PROMPT_TEMPLATES, Concept, slug
from shiftreg.paraphrases import HELD_OUT, aliases, held_out_prompts, misspellings

NAMES = st.text("abcdefghijklmnopqrstuvwxyzABC ", min_size=1, max_size=20).filter(slug)


def test_held_out_templates_are_none_that_an_erasure_uses() -> None:
    for kind, templates in PROMPT_TEMPLATES.items():
        assert not {template.prompt for template in templates} & set(HELD_OUT[kind])


def test_the_first_held_out_prompts_already_vary_template_and_subject() -> None:
    prompts = held_out_prompts(
        Concept("Picasso"), ("a {subject} by {concept}", "{concept}'s {subject}"), ("dog", "owl"), 4
    )
    assert prompts == ("a dog by Picasso", "Picasso's owl", "an owl by Picasso", "Picasso's dog")


def test_few_prompts_are_repeated_until_there_are_enough() -> None:
    prompts = held_out_prompts(Concept("Picasso"), ("by {concept}",), (), 3)
    assert prompts == ("by Picasso",) * 3


def test_a_base_without_templates_gets_those_of_the_kind() -> None:
    prompts = held_out_prompts(Concept("church", kind="object"), (), (), 2)
    assert prompts == ("an image of a church", "a drawing of a church")


def test_aliases_hold_synonyms_and_what_people_shorten() -> None:
    found = aliases(Concept("Keith Haring", ("Radiant Baby",)), ["Keith Allen Haring"])
    assert found[:2] == ("Radiant Baby", "Keith Allen Haring")
    assert {"Haring", "K. Haring", "Haring, Keith", "keith haring", "KeithHaring"} <= set(found)
    assert "Keith Haring" not in found


def test_one_word_has_no_initials() -> None:
    assert aliases(Concept("Picasso")) == ("PICASSO", "picasso")


@given(NAMES)
def test_misspellings_are_other_names_and_always_the_same(name: str) -> None:
    slips = misspellings(name)
    assert slips == misspellings(name)
    assert len(set(slips)) == len(slips) <= 6
    assert all(slug(slip) not in ("", slug(name)) for slip in slips)
    assert all(abs(len(slip) - len(name)) <= 1 for slip in slips)


def test_a_long_name_has_as_many_misspellings_as_are_asked_for() -> None:
    assert len(misspellings("Caravaggio", 9)) == 9
