"""Methods of erasing as a user meets them: names, facts, hyper-parameters."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from shiftreg.erasers import BrokenEraser, Eraser, find_eraser, known_erasers
from shiftreg.errors import InvalidInputError
from shiftreg.registry import ShiftVersion


@dataclass(frozen=True)
class MethodOption:
    """A hyper-parameter: its default, and what it means."""

    default: Any
    meaning: str


@dataclass(frozen=True)
class Method:
    """What there is to know about a method before it is used.

    Attributes:
        name: What ``--method`` takes.
        trains: Whether it generates images of the concept and trains on them.
        separable: Whether its shifts leave protected prompts exactly as they are.
        recoverable: Whether a concept that it erased may be restored.
        changes: The weights that it changes.
        cost: What it takes.
        source: Where it comes from.
        options: Its hyper-parameters.
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


def list_methods(names: list[str] | None = None) -> tuple[Method, ...]:
    """Describes methods: all that are installed, or those of the given names.

    Raises:
        NotFoundError: There is no method of a given name.
        InvalidInputError: A given one cannot be loaded.
    """
    if names:
        return tuple(_describe(find_eraser(name)) for name in names)
    return tuple(
        Method(e.name, False, False, False, "", "", e.origin, problem=e.problem)
        if isinstance(e, BrokenEraser)
        else _describe(e)
        for e in known_erasers().values()
    )


def build_eraser(method: str, options: Mapping[str, Any] | None) -> Eraser:
    """Builds a method from its options; keys that are no hyper-parameter are refused.

    Raises:
        NotFoundError: Unknown method.
        InvalidInputError: Unknown option, or a value that it cannot take.
    """
    eraser = find_eraser(method)
    defaults = _defaults(eraser)
    values = {}
    for name, value in (options or {}).items():
        if name not in defaults:
            raise InvalidInputError(
                f"Method '{method}' has no option '{name}'. Options: {', '.join(defaults)}."
            )
        kind = type(defaults[name])
        try:
            values[name] = kind(value)
        except (TypeError, ValueError) as error:
            raise InvalidInputError(
                f"Option '{name}' of '{method}' is a {kind.__name__}, and '{value}' is none."
            ) from error
    return eraser(**values)


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


def _describe(eraser: type[Eraser]) -> Method:
    described: dict[str, str] = {}
    # A method that builds on another documents only what it adds.
    for documentation in filter(None, (vars(kind).get("__doc__") for kind in eraser.__mro__)):
        for name, text in re.findall(
            r"^    (\w+): (.*(?:\n {8}.*)*)", inspect.cleandoc(documentation), flags=re.MULTILINE
        ):
            described.setdefault(name, " ".join(text.split()).replace("``", ""))
    return Method(
        name=eraser.name,
        trains=eraser.trains,
        separable=eraser.separable,
        recoverable=eraser.recoverable,
        changes=eraser.changes,
        cost=eraser.cost,
        source=eraser.source,
        options={
            name: MethodOption(default, described.get(name, ""))
            for name, default in _defaults(eraser).items()
        },
    )


def _defaults(eraser: type[Eraser]) -> dict[str, Any]:
    built = eraser()
    return {f.name: getattr(built, f.name) for f in fields(built)}  # type: ignore[arg-type]
