"""The commands of the command line, as the command line itself knows them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from typer.main import get_command

from shiftreg_cli.main import app


def every_command() -> dict[str, Any]:
    """Name, such as "audit verify" -> the command; a group counts if it does something alone."""
    return dict(_below(get_command(app), ""))


def _below(command: Any, name: str) -> Iterator[tuple[str, Any]]:
    commands = getattr(command, "commands", {})
    if name and (not commands or command.invoke_without_command):
        yield name, command
    for word, below in commands.items():
        yield from _below(below, f"{name} {word}".strip())
