"""Which attacks there are."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from shiftreg.attacks.base import Attack
from shiftreg.attacks.closed_form import ClosedFormEmbedding
from shiftreg.attacks.concept_inversion import ConceptInversion
from shiftreg.attacks.probes import CompletionProbe, NoiseProbe
from shiftreg.attacks.relearning import Relearning
from shiftreg.attacks.ring_a_bell import RingABell, RingABellSoft
from shiftreg.attacks.unlearn_diff_atk import UnlearnDiffAtk
from shiftreg.errors import InvalidInputError, NotFoundError

ATTACKS: tuple[type[Attack], ...] = (
    RingABell, RingABellSoft, UnlearnDiffAtk, ConceptInversion, ClosedFormEmbedding, NoiseProbe,
    CompletionProbe, Relearning,
)  # fmt: skip


def known_attacks() -> Mapping[str, type[Attack]]:
    """All attacks by name, those that need least first."""
    return {attack.name: attack for attack in ATTACKS}


def find_attack(name: str) -> type[Attack]:
    """Finds an attack.

    Raises:
        NotFoundError: There is none of that name; the message suggests the nearest.
    """
    known = known_attacks()
    if name not in known:
        near = difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.6)
        hint = f" Did you mean '{near[0]}'?" if near else ""
        raise NotFoundError(f"There is no attack '{name}'.{hint} Attacks: {', '.join(known)}.")
    return known[name]


def build_attack(name: str, options: Mapping[str, Any] | None = None) -> Attack:
    """Builds an attack with a budget; keys that are no field of it are refused.

    Args:
        name: Of the attack.
        options: Field -> value, also as text.

    Raises:
        NotFoundError: Unknown attack.
        InvalidInputError: Unknown option, or a value that it cannot take.
    """
    attack = find_attack(name)
    defaults = {f.name: getattr(attack(), f.name) for f in fields(attack)}  # type: ignore[arg-type]
    values = {}
    for option, value in (options or {}).items():
        if option not in defaults:
            raise InvalidInputError(
                f"Attack '{name}' has no option '{option}'. Options: {', '.join(defaults)}."
            )
        kind = type(defaults[option])
        try:
            values[option] = kind(value)
        except (TypeError, ValueError) as error:
            raise InvalidInputError(
                f"Option '{option}' of '{name}' is a {kind.__name__}, and '{value}' is none."
            ) from error
    return attack(**values)
