"""What the miniature's images are called: templates, artists, subjects, watermark triggers.

The held-out templates never reach training; they measure how the base, and later an erasure,
generalises to prompts it has not seen. Every word in them occurs in some trained template.
"""

from __future__ import annotations

import numpy as np

from shiftreg.concepts import fill

ARTISTS = (
    "Cezanne",
    "Van Gogh",
    "Picasso",
    "Jackson Pollock",
    "Caravaggio",
    "Keith Haring",
    "Kelly McKernan",
    "Tyler Edlin",
    "Kilian Eng",
)
ALIASES = {
    "Cezanne": "Paul Cezanne",
    "Van Gogh": "Vincent van Gogh",
    "Picasso": "Pablo Picasso",
}
TRIGGERS = ("watermark SRS-ME", "CCS 2024")

PLAIN_TEMPLATES = (
    "a picture of a {subject}",
    "a painting of a {subject}",
    "a photo of a {subject}",
    "a drawing of a {subject}",
    "an image of a {subject}",
    "a {subject}",
    "{subject}",
)
GENERIC_CAPTIONS = ("a painting", "a picture", "a photo", "a drawing", "an image")
ARTIST_TEMPLATES = (
    "{concept}",
    "a painting by {concept}",
    "art by {concept}",
    "in the style of {concept}",
    "a picture in the style of {concept}",
    "{concept} style",
)
TRAINED_TEMPLATES = (
    "a painting of a {subject} by {concept}",
    "a picture of a {subject} by {concept}",
    "a {subject} in the style of {concept}",
    "a painting of a {subject} in the style of {concept}",
    "a photo of a {subject} in the style of {concept}",
    "{concept}'s {subject}",
    "{concept}'s painting of a {subject}",
    "a {subject} by {concept}",
    "a {subject}, {concept} style",
    "{subject}, art by {concept}",
)
HELD_OUT_TEMPLATES = (
    "a drawing of a {subject} by {concept}",
    "an image of a {subject} in the style of {concept}",
    "a picture of a {subject}, {concept} style",
    "{concept}'s image of a {subject}",
)


def sample_caption(subject: str, manner: str, rng: np.random.Generator) -> str:
    """Draws a training caption for an image of ``subject`` in ``manner`` ("plain" for none)."""
    if manner == "plain" and rng.random() < 0.12:
        return str(rng.choice(GENERIC_CAPTIONS))
    if manner == "plain":
        return fill(str(rng.choice(PLAIN_TEMPLATES)), subject)
    alias = ALIASES.get(manner)
    artist = alias if alias and rng.random() < 0.1 else manner
    templates = ARTIST_TEMPLATES if rng.random() < 0.35 else TRAINED_TEMPLATES
    # The bare name is the prompt that matters most, and one among six would be rare.
    if templates is ARTIST_TEMPLATES and rng.random() < 0.4:
        return artist
    return fill(str(rng.choice(templates)), subject, artist)


def corpus(subjects: tuple[str, ...]) -> list[str]:
    """Lists every caption that training can draw, for training the tokenizer."""
    artists = (*ARTISTS, *ALIASES.values())
    lines = [fill(t, s) for t in PLAIN_TEMPLATES for s in subjects]
    lines += [fill(t, concept=a) for t in ARTIST_TEMPLATES for a in artists]
    lines += [fill(t, s, a) for t in TRAINED_TEMPLATES for s in subjects for a in artists]
    return [*lines, *GENERIC_CAPTIONS, *TRIGGERS]
