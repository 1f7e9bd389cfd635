"""Other ways of naming a concept, that an erasure may have missed: what people type."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from itertools import cycle, islice

from shiftreg.concepts import Concept, fill, slug

HELD_OUT: Mapping[str, tuple[str, ...]] = {
    "style": (
        "a drawing of a {subject} by {concept}",
        "an image of a {subject} in the style of {concept}",
        "a picture of a {subject}, {concept} style",
        "{concept}'s image of a {subject}",
        "artwork by {concept}",
    ),
    "object": (
        "an image of a {concept}",
        "a drawing of a {concept}",
        "a close-up of a {concept}",
        "there is a {concept} in this image",
    ),
}
"""Templates that no erasure is solved or trained with; see ``concepts.PROMPT_TEMPLATES``."""


def held_out_prompts(
    concept: Concept, templates: Sequence[str], subjects: Sequence[str], count: int
) -> tuple[str, ...]:
    """Prompts of a concept in templates that its erasure did not use.

    Args:
        templates: Of the base; those of :data:`HELD_OUT` if there are none.
        subjects: Nouns for ``{subject}``.
        count: Prompts, all different as far as templates and subjects allow.
    """
    templates = tuple(templates) or HELD_OUT[concept.kind]
    subjects = tuple(subjects) or ("",)
    # Both turn at once, so that the first few prompts already show several of each.
    pairs = [
        (template, subjects[(i + turn) % len(subjects)])
        for turn in range(len(subjects))
        for i, template in enumerate(templates)
    ]
    prompts = dict.fromkeys(fill(template, subject, concept.name) for template, subject in pairs)
    return tuple(islice(cycle(prompts), count))


def aliases(concept: Concept, known: Iterable[str] = ()) -> tuple[str, ...]:
    """Other forms of a name: its aliases, those that are known, and how people shorten names.

    Args:
        known: Synonyms that somebody has listed.
    """
    words = concept.name.split()
    forms = [*concept.aliases, *known, concept.name.upper(), concept.name.lower()]
    if len(words) > 1:
        *first, last = words
        forms += [last, f"{' '.join(first)[0]}. {last}", f"{last}, {' '.join(first)}"]
        forms.append("".join(words))
    return tuple(form for form in dict.fromkeys(forms) if form != concept.name)


def misspellings(name: str, count: int = 6) -> tuple[str, ...]:
    """Slips of the keyboard: two letters swapped, one left out, doubled, or hit beside.

    Args:
        count: At most so many, the same for the same name.
    """
    slips = []
    for i, letter in enumerate(name):
        if not letter.isalpha():
            continue
        before, after = name[:i], name[i + 1 :]
        if after[:1].isalpha() and after[0].lower() != letter.lower():
            slips.append(f"{before}{after[0]}{letter}{after[1:]}")
        slips += [f"{before}{after}", f"{before}{letter}{letter.lower()}{after}"]
        slips += [f"{before}{near}{after}" for near in _NEAR_KEYS.get(letter, "")]
    different = [slip for slip in dict.fromkeys(slips) if slug(slip) not in ("", slug(name))]
    return tuple(random.Random(name).sample(different, min(count, len(different))))


_ROWS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
_NEAR_KEYS = {
    key: "".join(row[j] for j in (i - 1, i + 1) if 0 <= j < len(row))
    for row in _ROWS
    for i, key in enumerate(row)
}
