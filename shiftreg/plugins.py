"""Methods of erasing and of attacking: found by name, built from options, described.

Attacks are this package's; erasers also come from other packages, by the entry points
``shiftreg.erasers``.
"""

from __future__ import annotations

import dataclasses
import difflib
import inspect
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any

from shiftreg import attacks, erasers
from shiftreg.attacks import Attack
from shiftreg.erasers import Eraser
from shiftreg.errors import InvalidInputError, NotFoundError

if TYPE_CHECKING:
    from shiftreg.registry import ShiftVersion

GROUP = "shiftreg.erasers"
ERASERS: tuple[type[Eraser], ...] = (
    erasers.ClosedForm,
    erasers.ClosedFormHardened,
    erasers.SrsMe,
    erasers.SrsMeJoint,
    erasers.SrsMeFree,
    erasers.Esd,
    erasers.ConceptAblation,
    erasers.ForgetMeNot,
    erasers.Uce,
    erasers.SpeedLike,
)
# Those that need least first.
ATTACKS: tuple[type[Attack], ...] = (
    attacks.RingABell,
    attacks.RingABellSoft,
    attacks.UnlearnDiffAtk,
    attacks.ConceptInversion,
    attacks.ClosedFormEmbedding,
    attacks.NoiseProbe,
    attacks.CompletionProbe,
    attacks.Relearning,
)
# What an eraser says of itself.
FACTS: dict[str, type] = {
    "name": str,
    "trains": bool,
    "separable": bool,
    "recoverable": bool,
    "changes": str,
    "cost": str,
    "source": str,
}


@dataclass(frozen=True)
class BrokenEraser:
    """A method of another package that cannot be used, and why."""

    name: str
    origin: str
    problem: str


@dataclass(frozen=True)
class MethodOption:
    """A hyper-parameter: its default, and what it means."""

    default: Any
    meaning: str


@dataclass(frozen=True)
class Method:
    """What there is to know about a method of erasing before it is used.

    Attributes:
        name: What ``--method`` takes.
        trains: Whether it generates images of the concept and trains on them.
        separable: Whether its shifts leave protected prompts exactly as they are.
        recoverable: Whether a concept that it erased may be restored.
        changes: The weights that it changes.
        cost: What it takes.
        problem: Why it cannot be used; empty if it can.
    """

    name: str
    trains: bool
    separable: bool
    recoverable: bool
    changes: str
    cost: str
    source: str
    options: Mapping[str, MethodOption] = field(default_factory=dict)
    problem: str = ""


@dataclass(frozen=True)
class AttackMethod:
    """What there is to know about an attack before it is used.

    Attributes:
        name: What ``--attack`` takes.
        needs: What the attacker must have.
    """

    name: str
    needs: str
    source: str
    options: Mapping[str, MethodOption]


def known_erasers() -> dict[str, type[Eraser] | BrokenEraser]:
    """All methods by name: ours, then those of the entry points.

    A method that cannot be loaded does not disturb the others.
    """
    known: dict[str, type[Eraser] | BrokenEraser] = {eraser.name: eraser for eraser in ERASERS}
    for entry in sorted(entry_points(group=GROUP), key=lambda e: (e.name, e.value)):
        if entry.name in known:
            name = f"{entry.name} ({_origin(entry)})"
            problem = f"the name '{entry.name}' is taken; it must be renamed"
            known[name] = BrokenEraser(name, _origin(entry), problem)
        else:
            known[entry.name] = _load(entry)
    return known


def known_attacks() -> Mapping[str, type[Attack]]:
    """All attacks by name, those that need least first."""
    return {attack.name: attack for attack in ATTACKS}


def find_eraser(name: str) -> type[Eraser]:
    """Finds a method.

    Raises:
        NotFoundError: No method has that name.
        InvalidInputError: Another package brings it, and it cannot be loaded.
    """
    known = known_erasers()
    if name not in known:
        usable = [n for n, eraser in known.items() if not isinstance(eraser, BrokenEraser)]
        raise NotFoundError(f"There is no method '{name}'. Methods: {', '.join(usable)}.")
    eraser = known[name]
    if isinstance(eraser, BrokenEraser):
        raise InvalidInputError(
            f"Method '{name}' of {eraser.origin} cannot be used: {eraser.problem}. "
            "Update or uninstall that package. See: shiftreg methods"
        )
    return eraser


def find_attack(name: str) -> type[Attack]:
    """Finds an attack.

    Raises:
        NotFoundError: No attack has that name; the message suggests the nearest.
    """
    known = known_attacks()
    if name not in known:
        near = difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.6)
        hint = f" Did you mean '{near[0]}'?" if near else ""
        raise NotFoundError(f"There is no attack '{name}'.{hint} Attacks: {', '.join(known)}.")
    return known[name]


def build_eraser(name: str, options: Mapping[str, Any] | None = None) -> Eraser:
    """Builds a method from its options, also given as text.

    Raises:
        NotFoundError: Unknown method.
        InvalidInputError: Unknown option, or a value that it cannot take.
    """
    eraser = find_eraser(name)
    return eraser(**_values(f"Method '{name}'", eraser, options))


def build_attack(name: str, options: Mapping[str, Any] | None = None) -> Attack:
    """Builds an attack with a budget, as :func:`build_eraser` a method."""
    attack = find_attack(name)
    return attack(**_values(f"Attack '{name}'", attack, options))


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


def list_methods(names: list[str] | None = None) -> tuple[Method, ...]:
    """Describes methods of erasing: all that are installed, or those of the given names.

    Raises:
        NotFoundError: No method has a given name.
        InvalidInputError: A given one cannot be loaded.
    """
    listed = [find_eraser(name) for name in names] if names else known_erasers().values()
    return tuple(
        Method(e.name, False, False, False, "", "", e.origin, problem=e.problem)
        if isinstance(e, BrokenEraser)
        else Method(**{fact: getattr(e, fact) for fact in FACTS}, options=_options(e))
        for e in listed
    )


def list_attacks() -> tuple[AttackMethod, ...]:
    """Describes all attacks, those that need least first."""
    return tuple(
        AttackMethod(attack.name, attack.needs, attack.source, _options(attack))
        for attack in known_attacks().values()
    )


def is_recoverable(version: ShiftVersion) -> bool:
    """Whether the version's method lets a concept be restored."""
    eraser = known_erasers().get(version.method)
    return not isinstance(eraser, type) or eraser.recoverable


def require_recoverable(version: ShiftVersion) -> None:
    """Refuses to take back an erasure by a method for concepts that must never return.

    Raises:
        InvalidInputError: The version's method is one.
    """
    if not is_recoverable(version):
        raise InvalidInputError(
            f"'{version.concept}' was erased by {version.method}, which is for concepts that must "
            "never return. If it may, erase it by a recoverable method first: shiftreg methods"
        )


def _defaults(method: type[Eraser] | type[Attack]) -> dict[str, Any]:
    built = method()
    return {f.name: getattr(built, f.name) for f in fields(built)}  # type: ignore[arg-type]


def _values(
    described: str, method: type[Eraser] | type[Attack], options: Mapping[str, Any] | None
) -> dict[str, Any]:
    """The options as values of the types of their defaults."""
    values, defaults = {}, _defaults(method)
    for option, value in (options or {}).items():
        if option not in defaults:
            raise InvalidInputError(
                f"{described} has no option '{option}'. Options: {', '.join(defaults)}."
            )
        kind = type(defaults[option])
        try:
            values[option] = kind(value)
        except (TypeError, ValueError) as error:
            raise InvalidInputError(
                f"Option '{option}' of '{method.name}' must be of type {kind.__name__}, "
                f"not '{value}'."
            ) from error
    return values


def _options(method: type[Eraser] | type[Attack]) -> dict[str, MethodOption]:
    """The options with their meanings, which the class documents."""
    described: dict[str, str] = {}
    # A method that builds on another documents only what it adds.
    for documentation in filter(None, (vars(kind).get("__doc__") for kind in method.__mro__)):
        for name, text in re.findall(
            r"^    (\w+): (.*(?:\n {8}.*)*)", inspect.cleandoc(documentation), flags=re.MULTILINE
        ):
            described.setdefault(name, " ".join(text.split()).replace("``", ""))
    return {
        name: MethodOption(default, described.get(name, ""))
        for name, default in _defaults(method).items()
    }


def _load(entry: EntryPoint) -> type[Eraser] | BrokenEraser:
    eraser: Any = None
    try:
        eraser = entry.load()
    except (Exception, SystemExit) as error:  # noqa: BLE001 - an import may raise anything
        problem: str | None = f"importing it failed with {type(error).__name__}: {error}"
    else:
        problem = _problem(eraser, entry.name)
    return BrokenEraser(entry.name, _origin(entry), problem) if problem else eraser


def _problem(eraser: Any, name: str) -> str | None:
    """What keeps an object from being an eraser; None if nothing does."""
    if not (isinstance(eraser, type) and dataclasses.is_dataclass(eraser)):
        return "it is not a dataclass, and the fields of a method are its hyper-parameters"
    for fact, kind in FACTS.items():
        if not isinstance(getattr(eraser, fact, None), kind):
            return f"its '{fact}' must be a {kind.__name__}"
    if eraser.name != name:  # type: ignore[attr-defined]
        return f"its entry point is called '{name}', and its name is '{eraser.name}'"  # type: ignore[attr-defined]
    if not callable(getattr(eraser, "erase", None)):
        return "it has no method 'erase'"
    if any(
        f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
        for f in fields(eraser)
    ):
        return "every hyper-parameter needs a default"
    return None


def _origin(entry: EntryPoint) -> str:
    return entry.dist.name if entry.dist else entry.value
