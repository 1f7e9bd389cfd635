"""Which shifts a composition applies: all active ones, all but some, or some alone."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from shiftreg.concepts import label
from shiftreg.errors import InvalidInputError

BASE_FOLDER = "base"
_LONGEST = 100


@dataclass(frozen=True)
class Selection:
    """Which shifts apply, by the names of their concepts.

    ``Selection()`` applies every active shift; ``Selection(only=["Picasso"])`` those of the named
    concepts and no others; ``Selection(without=["Picasso"])`` every active shift but theirs, so
    that they generate again; ``Selection(only=[])`` none at all, which is the base.

    Raises:
        InvalidInputError: Both ``only`` and ``without``.
    """

    only: Sequence[str] | None = None
    without: Sequence[str] | None = None

    def __post_init__(self) -> None:
        if self.only is not None and self.without is not None:
            raise InvalidInputError("--only and --without exclude each other. Give one of them.")
        object.__setattr__(self, "only", None if self.only is None else tuple(self.only))
        object.__setattr__(self, "without", tuple(self.without or ()) or None)

    @classmethod
    def parse(cls, text: str) -> Selection:
        """Reads "active" (all active shifts), "without A,B", "only A,B" or "none" (the base).

        A name that holds a comma stands between double quotes.

        Raises:
            InvalidInputError: Other words, or no name where one is needed.
        """
        word, _, rest = text.strip().partition(" ")
        word, names = word.lower(), _split(rest)
        if word == "active" and not names:
            return ACTIVE
        if word == "none" and not names:
            return NONE
        if word not in ("without", "only") or not names:
            raise InvalidInputError(
                "A composition is 'active', 'none', 'without A,B' or 'only A,B', with names of "
                f"concepts for A and B; not '{text}'."
            )
        return cls(**{word: names})

    def normalised(self, find: Callable[[str], str]) -> Selection:
        """The same selection with each concept once, by its registered name, in order.

        Args:
            find: Any spelling of a concept -> its registered name.
        """

        def names(given: Sequence[str] | None) -> list[str] | None:
            return None if given is None else sorted(set(map(find, given)), key=str.lower)

        return Selection(names(self.only), names(self.without))

    @property
    def label(self) -> str:
        """What :meth:`parse` reads: "active", "without Picasso", "only A,B" or "none"."""
        if self in (ACTIVE, NONE):
            return "active" if self == ACTIVE else "none"
        line = io.StringIO()
        csv.writer(line, lineterminator="").writerow(self.only or self.without or ())
        return f"{self._word} {line.getvalue()}"

    @property
    def folder(self) -> str:
        """A name for a folder of its images, another one for each selection; the base's "base"."""
        if self in (ACTIVE, NONE):
            return "active" if self == ACTIVE else BASE_FOLDER
        # Labels are one a concept, and hold no "+".
        name = f"{self._word}-{'+'.join(map(label, self.only or self.without or ()))}"
        if len(name.encode()) <= _LONGEST:
            return name
        digest = hashlib.sha256(name.encode()).hexdigest()[:12]
        start = name.encode()[: _LONGEST - 16].decode(errors="ignore")
        return f"{start}+{digest}"

    @property
    def _word(self) -> str:
        return "without" if self.only is None else "only"


ACTIVE = Selection()
NONE = Selection(only=())


def _split(text: str) -> list[str]:
    fields = next(csv.reader([text], skipinitialspace=True), [])
    return [field.strip() for field in fields if field.strip()]
