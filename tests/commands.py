"""The commands of the command line: all that there are, and how to run one in this process."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import chdir, contextmanager
from pathlib import Path
from typing import Any

from typer.main import get_command
from typer.testing import CliRunner, Result

from shiftreg_cli.main import app

START = "from shiftreg_cli.main import run; run()"
"""The program ``shiftreg``, for tests that need a process of its own: signals, pipes, memory."""


def every_command() -> dict[str, Any]:
    """Name, such as "audit verify" -> the command; a group counts if it does something alone."""
    return dict(_below(get_command(app), ""))


def _below(command: Any, name: str) -> Iterator[tuple[str, Any]]:
    commands = getattr(command, "commands", {})
    if name and (not commands or command.invoke_without_command):
        yield name, command
    for word, below in commands.items():
        yield from _below(below, f"{name} {word}".strip())


def run_command(
    *words: object, folder: Path | None = None, environment: dict[str, str | None] | None = None
) -> Result:
    """Runs ``shiftreg`` as a process of its own would, without the seconds that its start takes.

    No terminal is there, and whatever a command changes for its process ends with it.

    Args:
        *words: What follows ``shiftreg``.
        folder: The working folder, by default the current one.
        environment: Variables beside those of this process; None takes one away.

    Returns:
        Exit code, stdout and stderr. What a command fails to report is raised.
    """
    with _own_process(), chdir(folder or Path.cwd()):
        arguments = [str(word) for word in words]
        return CliRunner().invoke(app, arguments, env=environment or {}, catch_exceptions=False)


@contextmanager
def _own_process() -> Iterator[None]:
    """Puts back what only a process of its own may change: environment and warnings."""
    before = dict(os.environ)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for name in os.environ.keys() - before.keys():
            del os.environ[name]
        os.environ.update(before)
