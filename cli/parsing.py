"""Values of options: lists, pairs, numbers, files of lines."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import typer

from shiftreg import api
from shiftreg.errors import InvalidInputError

from .console import safe


def choose(only: Sequence[str] | None, without: Sequence[str] | None) -> api.Selection:
    """Reads ``--only`` and ``--without``.

    Raises:
        InvalidInputError: Both are given.
    """
    return api.Selection(split_names(only, "--only"), split_names(without, "--without"))


def split_names(values: Sequence[str] | None, option: str) -> tuple[str, ...] | None:
    """Names out of ``A,B`` and of repeated options; ``"A, the elder"`` in quotes keeps its comma.

    Raises:
        typer.BadParameter: The option names nothing: most likely an unset shell variable.
    """
    if values is None:
        return None
    fields = [field.strip() for row in csv.reader(values, skipinitialspace=True) for field in row]
    names = tuple(dict.fromkeys(field for field in fields if field))
    if not names:
        raise typer.BadParameter(f"{option} names no concept.")
    return names


def split_pair(text: str, option: str) -> tuple[str, str]:
    """``KEY=VALUE`` in two.

    Raises:
        typer.BadParameter: No "=", or nothing before it.
    """
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise typer.BadParameter(f"{option} takes KEY=VALUE, not '{safe(text)}'.")
    return key.strip(), value.strip()


def read_gates(values: Sequence[str] | None) -> dict[str, float]:
    """Reads ``--gate NAME=LIMIT``.

    Raises:
        typer.BadParameter: Not a pair, or the limit is not a number.
    """
    gates = {}
    for name, text in (split_pair(value, "--gate") for value in values or ()):
        limit = read_value(text)
        if isinstance(limit, str):
            raise typer.BadParameter(f"--gate takes NAME=LIMIT with a number, not '{safe(text)}'.")
        gates[name] = float(limit)
    return gates


def read_value(text: str) -> float | int | str:
    """An int or float if the text is one, else the text."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def read_values(texts: Sequence[str] | None) -> dict[str, float | int | str]:
    """Reads ``--set KEY=VALUE``.

    Raises:
        typer.BadParameter: Another form.
    """
    split = (split_pair(text, "--set") for text in texts or ())
    return {key: read_value(value) for key, value in split}


def read_lines(path: Path | None) -> tuple[str, ...]:
    """The prompts of a file, one per line; empty lines are skipped.

    Raises:
        InvalidInputError: The file is not UTF-8 text.
    """
    if path is None:
        return ()
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise InvalidInputError(f"'{path}' is not UTF-8 text. Save it as UTF-8.") from error
    return tuple(line.strip() for line in lines if line.strip())


def read_triggers(texts: list[str]) -> dict[str, str]:
    """Reads ``PROMPT=PAYLOAD``, or ``PROMPT`` alone if the watermark is not a QR code.

    Raises:
        typer.BadParameter: No prompt, or two payloads for one.
    """
    triggers: dict[str, str] = {}
    for text in texts:
        prompt, _, payload = text.partition("=")
        if not prompt.strip():
            raise typer.BadParameter(f"--trigger takes PROMPT=PAYLOAD, not '{safe(text)}'.")
        if triggers.setdefault(prompt.strip(), payload.strip()) != payload.strip():
            raise typer.BadParameter(f"--trigger gives two payloads to '{safe(prompt.strip())}'.")
    return triggers


def read_seeds(seeds: str | None, first: int | None, count: int | None) -> tuple[int, ...]:
    """Seeds as they are listed, or ``count`` of them from ``first`` on.

    Raises:
        typer.BadParameter: Both ways are used, or a seed is not a whole number.
    """
    if seeds is None:
        start = first or 0
        return tuple(range(start, start + (count or (4 if first is None else 1))))
    if first is not None or count is not None:
        raise typer.BadParameter("--seeds and --seed or --count exclude each other.")
    fields = [field.strip() for field in seeds.split(",")]
    if not all(field.isdecimal() for field in fields):
        raise typer.BadParameter(
            f"--seeds takes whole numbers separated by commas, not '{safe(seeds)}'."
        )
    return tuple(dict.fromkeys(int(field) for field in fields))
