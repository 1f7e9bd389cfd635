"""What can be erased, and by which prompts: names, aliases, templates, anchors."""

from __future__ import annotations

import difflib
import hashlib
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import Literal

from shiftreg.errors import InvalidInputError, NotFoundError

Kind = Literal["style", "object"]
LONGEST_LABEL = 100


@dataclass(frozen=True)
class PromptTemplate:
    """A template that names a concept, and the same template without it.

    Attributes:
        prompt: Holds ``{concept}`` and perhaps ``{subject}``.
        anchor: What the prompt should mean once the concept is gone.
    """

    prompt: str
    anchor: str


PROMPT_TEMPLATES: dict[Kind, tuple[PromptTemplate, ...]] = {
    "style": (
        PromptTemplate("{concept}", "a painting"),
        PromptTemplate("a painting by {concept}", "a painting"),
        PromptTemplate("a picture in the style of {concept}", "a picture"),
        PromptTemplate("a painting of a {subject} by {concept}", "a painting of a {subject}"),
        PromptTemplate("a picture of a {subject} by {concept}", "a picture of a {subject}"),
        PromptTemplate("a {subject} in the style of {concept}", "a {subject}"),
        PromptTemplate(
            "a painting of a {subject} in the style of {concept}", "a painting of a {subject}"
        ),
        PromptTemplate("a {subject}, {concept} style", "a {subject}"),
        PromptTemplate("{concept}'s {subject}", "a {subject}"),
    ),
    "object": (
        PromptTemplate("{concept}", "a picture"),
        PromptTemplate("a {concept}", "a picture"),
        PromptTemplate("a picture of a {concept}", "a picture"),
        PromptTemplate("a painting of a {concept}", "a painting"),
        PromptTemplate("a photo of a {concept}", "a photo"),
    ),
}


@dataclass(frozen=True)
class PromptPair:
    """One prompt of a concept with the prompt that should take its place.

    Attributes:
        prompt: Names the concept.
        stem: The same words with the name left out: where the two first differ, the name begins.
        anchor: The prompt whose meaning replaces it.
    """

    prompt: str
    stem: str
    anchor: str


@dataclass(frozen=True)
class Concept:
    """A concept that can be erased, known by its name and aliases."""

    name: str
    aliases: tuple[str, ...] = ()
    kind: Kind = "style"

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", self.name.strip())
        object.__setattr__(self, "aliases", tuple(alias.strip() for alias in self.aliases))
        for name in self.names:
            validate_name(name)

    @property
    def names(self) -> tuple[str, ...]:
        """The name and the aliases, without repetition."""
        return tuple(dict.fromkeys((self.name, *self.aliases)))

    def prompt_pairs(self, subjects: Iterable[str]) -> list[PromptPair]:
        """Fills every template with the concept, over all subjects.

        Args:
            subjects: Nouns for ``{subject}``.

        Returns:
            Pairs in a fixed order, without repetition.
        """
        subjects = tuple(subjects)
        pairs: dict[str, PromptPair] = {}
        for name in self.names:
            for template in PROMPT_TEMPLATES[self.kind]:
                for subject in subjects if "{subject}" in template.prompt else ("",):
                    prompt = fill(template.prompt, subject, name)
                    stem = fill(template.prompt, subject, "")
                    anchor = fill(template.anchor, subject, "")
                    pairs.setdefault(prompt, PromptPair(prompt, stem, anchor))
        return list(pairs.values())

    def held_out_pairs(self, templates: Sequence[str], subjects: Sequence[str]) -> list[PromptPair]:
        """Prompts that no erasure uses, one a template, each with what should take its place."""
        slots = PROMPT_TEMPLATES[self.kind]
        anchor = next((t for t in slots if "{subject}" in t.prompt), slots[0]).anchor
        return [
            PromptPair(
                fill(template, subject, self.name),
                fill(template, subject, ""),
                fill(anchor, subject, ""),
            )
            for template, subject in zip(templates, cycle(subjects), strict=False)
        ]


def fill(template: str, subject: str = "", concept: str = "") -> str:
    """Fills a template, with the article ("a" or "an") that the word after it needs."""
    for slot, word in (("{subject}", subject), ("{concept}", concept)):
        if word[:1].lower() in tuple("aeiou"):
            template = re.sub(rf"\ba {re.escape(slot)}", f"an {slot}", template)
    return template.replace("{subject}", subject).replace("{concept}", concept).strip()


def validate_name(name: str) -> None:
    """Refuses names that cannot be a concept's.

    Raises:
        InvalidInputError: The name is empty, too long, or holds control characters.
    """
    if not name.strip():
        raise InvalidInputError(
            "A concept needs a name, and this one is empty. Give a word or two."
        )
    if len(name) > 100:
        raise InvalidInputError(
            f"A concept's name has at most 100 characters, and this one has {len(name)}: "
            f"'{name[:30]}...'. Shorten it, and put other spellings into --alias."
        )
    if any(unicodedata.category(character).startswith("C") for character in name):
        raise InvalidInputError(
            f"A concept's name holds no control or invisible characters: {name!r}. Remove them."
        )
    if not slug(name):
        raise InvalidInputError(f"A concept's name needs a letter or a digit: {name!r}.")


def slug(name: str) -> str:
    """A text as file names take it: lower case words joined by hyphens; several may share one."""
    folded = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    text = folded if folded.strip() else name
    return re.sub(r"[^\w]+", "-", text.lower()).strip("-")


def normalised(name: str) -> str:
    """What two spellings of one name have in common: NFKC, case folded, spaces collapsed."""
    while (folded := " ".join(unicodedata.normalize("NFKC", name).casefold().split())) != name:
        name = folded
    return name


def label(name: str) -> str:
    """A slug that no other name has, for models, files and folders.

    Where the slug does not say all of the name ("C++", "Čapek"), a digest of it follows.
    """
    whole = normalised(name)
    word = slug(whole).encode()[:LONGEST_LABEL].decode(errors="ignore")
    if word.replace("-", " ") == whole:
        return word
    return f"{word}~{hashlib.sha256(whole.encode()).hexdigest()[:16]}"  # "~" is in no slug


def find_name(name: str, known: Iterable[str], base: str) -> str:
    """Finds a concept by its name, ignoring case and the number of spaces.

    Args:
        name: What the user typed.
        known: The names that exist.
        base: The base's name, for the message.

    Returns:
        The name as it is registered.

    Raises:
        NotFoundError: No such concept; the message suggests the nearest.
    """
    spelled = {normalised(candidate): candidate for candidate in known}
    wanted = normalised(name)
    if wanted in spelled:
        return spelled[wanted]
    by_slug = {slug(candidate): candidate for candidate in spelled.values()}
    near = difflib.get_close_matches(slug(name), by_slug, n=1, cutoff=0.6)
    hint = f" Did you mean '{by_slug[near[0]]}'?" if near else ""
    raise NotFoundError(
        f"Concept '{name}' is not registered for base '{base}'.{hint} See: shiftreg list"
    )


def mentions(prompt: str, names: Iterable[str]) -> bool:
    """Whether a prompt names one of ``names``, as whole words, ignoring case."""
    return any(
        re.search(rf"(?<!\w){re.escape(name)}(?!\w)", prompt, flags=re.IGNORECASE) for name in names
    )
