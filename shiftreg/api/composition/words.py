"""Compositions in words: "active", "without Picasso", "only Caravaggio, Van Gogh", "none"."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass

from shiftreg.api.composition.composing import plan_composition
from shiftreg.api.values import CompositionPlan
from shiftreg.api.workspace import Workspace
from shiftreg.concepts import slug
from shiftreg.errors import InvalidInputError

ACTIVE, NONE = "active", "none"
BASE_FOLDER = "base"
_LONGEST = 100


@dataclass(frozen=True)
class NamedComposition:
    """A composition, what it is called, and what a folder of its images is called.

    Attributes:
        words: In the one spelling: registered names, in alphabetical order.
        folder: The same as a file name; "base" for "none".
        plan: What it is.
    """

    words: str
    folder: str
    plan: CompositionPlan


def compositions_in_words(
    workspace: Workspace, texts: Sequence[str]
) -> tuple[NamedComposition, ...]:
    """Plans compositions that are said in words; what is said twice is planned once.

    Args:
        workspace: Where.
        texts: "active" (all active shifts), "without A,B", "only A,B" or "none" (the base). A name
            that holds a comma stands between double quotes.

    Raises:
        InvalidInputError: Other words, or no name where one is needed.
        NotFoundError: An unknown concept, or "only" names one without a shift.
    """
    named = (_named(workspace, text) for text in texts)
    return tuple({one.words: one for one in named}.values())


def _named(workspace: Workspace, text: str) -> NamedComposition:
    word, _, rest = text.strip().partition(" ")
    word, names = word.lower(), _listed(rest)
    if word == ACTIVE and not names:
        return NamedComposition(ACTIVE, ACTIVE, plan_composition(workspace))
    if word == NONE and not names:
        return NamedComposition(NONE, BASE_FOLDER, plan_composition(workspace, only=()))
    if word not in ("without", "only") or not names:
        raise InvalidInputError(
            "A composition is 'active', 'none', 'without A,B' or 'only A,B', with names of "
            f"concepts for A and B; not '{text}'."
        )
    found = sorted({workspace.find(name) for name in names}, key=str.lower)
    if word == "only":
        plan = plan_composition(workspace, only=found)
    else:
        plan = plan_composition(workspace, without=found)
    words = f"{word} {_joined(found)}"
    return NamedComposition(words, _folder_name(word, found), plan)


def _listed(text: str) -> list[str]:
    fields = next(csv.reader([text], skipinitialspace=True), [])
    return [field.strip() for field in fields if field.strip()]


def _joined(names: Sequence[str]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(names)
    return line.getvalue()


def _folder_name(word: str, names: Sequence[str]) -> str:
    """One name for each choice: slugs are one a concept, and hold no "+"."""
    name = f"{word}-{'+'.join(slug(name) for name in names)}"
    if len(name.encode()) <= _LONGEST:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:12]
    start = name.encode()[: _LONGEST - 16].decode(errors="ignore")
    return f"{start}+{digest}"
