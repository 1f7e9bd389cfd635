"""Evaluations and attacks, read back from the JSON that they were stored as."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from types import NoneType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from shiftreg.attacks.results import AttackReport
from shiftreg.errors import IntegrityError
from shiftreg.evaluation.results import Evaluation
from shiftreg.reports.numbers import check_schema

Value = TypeVar("Value")
KINDS = {Evaluation: "an evaluation", AttackReport: "a report of attacks"}


def read_report(kind: type[Value], document: Mapping[str, Any]) -> Value:
    """Reads what ``evaluate`` or ``attack`` stored.

    Args:
        kind: ``Evaluation`` or ``AttackReport``.

    Raises:
        IntegrityError: It is not one of a known schema.
    """
    check_schema(document)
    try:
        value: Value = _value(kind, document)
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise IntegrityError(f"it is not {KINDS[kind]}: {error}") from error
    return value


def _value(kind: Any, value: Any) -> Any:
    """A value of a type from JSON; None is a number that was not finite."""
    arguments = get_args(kind)
    if is_dataclass(kind):
        hints = get_type_hints(kind)
        given = {
            field.name: _value(hints[field.name], value[field.name])
            for field in fields(kind)
            if field.name in value or field.default is field.default_factory is MISSING
        }
        return kind(**given)  # type: ignore[operator]  # is_dataclass takes it for an instance
    if NoneType in arguments:
        return None if value is None else _value(arguments[0], value)
    if get_origin(kind) is tuple:
        return tuple(_value(arguments[0], one) for one in value)
    if get_origin(kind) is Mapping:
        return {key: _value(arguments[1], one) for key, one in value.items()}
    if kind in (float, Path):
        return math.nan if value is None and kind is float else kind(value)
    if kind is not Any and isinstance(kind, type) and not isinstance(value, kind):
        raise TypeError(f"'{value}' is not of the kind {kind.__name__}")
    return value
