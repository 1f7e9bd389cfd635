"""Policy: what a project requires of every release, beside the limits of its gates."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from shiftreg.errors import InvalidInputError
from shiftreg.verification.gates import Gates

_GATES = {"watermark_rate": "watermark", "lpips_protected": "images", "attack_success": "attack"}


@dataclass(frozen=True)
class Policy:
    """Requirements of a release.

    Attributes:
        must_erase: Concepts that every release erases.
        may_generate: The only known concepts that a release may generate; None for any.
        capacity: The largest share of the text space that a shift may find taken by what it has to
            leave exactly as it is; None for any.
        verify: Every file is verified before it appears, by the default gates if none are stated.
        signature_required: Every release is signed, and every file that is verified must be.
        bill_of_materials: Every release has one.
    """

    must_erase: tuple[str, ...] = ()
    may_generate: tuple[str, ...] | None = None
    capacity: float | None = None
    verify: bool = False
    signature_required: bool = False
    bill_of_materials: bool = False

    @classmethod
    def read(cls, values: Mapping[str, Any], source: str) -> Policy:
        """The policy of a project's table.

        Args:
            values: Name of a requirement -> value.
            source: Where they come from, for messages.

        Raises:
            InvalidInputError: An unknown requirement, or a value of the wrong kind.
        """
        known = [requirement.name for requirement in fields(cls)]
        read: dict[str, Any] = {}
        for name, value in values.items():
            if name not in known:
                raise InvalidInputError(f"{source}: [policy] has no '{name}'. {_hint(name, known)}")
            if name in ("must_erase", "may_generate"):
                if not isinstance(value, list) or not all(isinstance(v, str) for v in value):
                    raise InvalidInputError(
                        f'{source}: {name} is a list of concepts, like {name} = ["Caravaggio"], '
                        f"not {value!r}."
                    )
                read[name] = tuple(dict.fromkeys(value))
            elif name == "capacity":
                is_number = isinstance(value, int | float) and not isinstance(value, bool)
                if not is_number or not 0 <= value <= 1:
                    raise InvalidInputError(
                        f"{source}: capacity is a share from 0 to 1, not {value!r}."
                    )
                read[name] = float(value)
            elif not isinstance(value, bool):
                raise InvalidInputError(f"{source}: {name} is true or false, not {value!r}.")
            else:
                read[name] = value
        return cls(**read)


def _hint(name: str, known: list[str]) -> str:
    gates = [gate.name for gate in fields(Gates)]
    if gate := _GATES.get(name) or (name in gates and name):
        return f"What is measured is a gate: {gate} = LIMIT in the table [gates]."
    near = difflib.get_close_matches(name, known, n=1)
    return (f"Did you mean '{near[0]}'? " if near else "") + f"Requirements: {', '.join(known)}."
