"""Attacks as a user meets them: names, what they need, their budgets."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from shiftreg.api.erasure.methods import MethodOption
from shiftreg.attacks import Attack, build_attack, find_attack, known_attacks
from shiftreg.errors import InvalidInputError


@dataclass(frozen=True)
class AttackMethod:
    """What there is to know about an attack before it is used.

    Attributes:
        name: What ``--attack`` takes.
        needs: What the attacker must have.
        source: Where it comes from.
        options: Its budget.
    """

    name: str
    needs: str
    source: str
    options: Mapping[str, MethodOption]


def list_attacks() -> tuple[AttackMethod, ...]:
    """Describes all attacks, those that need least first."""
    return tuple(_describe(attack) for attack in known_attacks().values())


def build_attacks(
    names: Sequence[str], options: Mapping[str, Mapping[str, Any]]
) -> tuple[Attack, ...]:
    """Builds attacks with their budgets, each once.

    Args:
        names: Of the attacks; "all" for all that there are.
        options: Attack -> option -> value.

    Raises:
        NotFoundError: Unknown attack.
        InvalidInputError: No attack, an unknown option or a value that it cannot take, or options
            of an attack that is not asked for.
    """
    chosen = dict.fromkeys(
        one for name in names for one in (known_attacks() if name == "all" else (name,))
    )
    for name in (*chosen, *options):
        find_attack(name)
    if unused := [name for name in options if name not in chosen]:
        raise InvalidInputError(
            f"There are options for the attack '{unused[0]}', which is not asked for. "
            f"Add: --attack {unused[0]}"
        )
    if not chosen:
        raise InvalidInputError("No attack is asked for. See: shiftreg attack --list")
    return tuple(build_attack(name, options.get(name)) for name in chosen)


def _describe(attack: type[Attack]) -> AttackMethod:
    documentation = inspect.cleandoc(attack.__doc__ or "")
    described = re.findall(r"^    (\w+): (.*(?:\n {8}.*)*)", documentation, flags=re.MULTILINE)
    meanings = {name: " ".join(text.split()).replace("``", "") for name, text in described}
    built = attack()
    return AttackMethod(
        name=attack.name,
        needs=attack.needs,
        source=attack.source,
        options={
            f.name: MethodOption(getattr(built, f.name), meanings.get(f.name, ""))
            for f in fields(built)  # type: ignore[arg-type]
        },
    )
