"""Output: data to stdout, everything else to stderr, nothing that controls a terminal."""

from __future__ import annotations

import os
import sys
import unicodedata
from pathlib import Path

from rich.console import Console
from rich.text import Text

BROKEN_PIPE = 141  # what a shell reports of a program that SIGPIPE ended
PIPE_WIDTH = 200  # columns of a stream that is not a terminal: no window needs narrow tables


class _PlainConsole(Console):
    """A console that ignores markup, and exits quietly when its reader is gone."""

    def __init__(self, *, stderr: bool) -> None:
        stream = sys.stderr if stderr else sys.stdout
        fixed = "COLUMNS" in os.environ or (stream is not None and stream.isatty())
        super().__init__(
            stderr=stderr,
            width=None if fixed else PIPE_WIDTH,
            markup=False,
            emoji=False,
            highlight=False,
        )

    def on_broken_pipe(self) -> None:
        self.quiet = True
        with Path(os.devnull).open("w") as nowhere:
            os.dup2(nowhere.fileno(), self.file.fileno())
        raise SystemExit(BROKEN_PIPE)


def data_console() -> Console:
    """The console for results: stdout."""
    return _PlainConsole(stderr=False)


def message_console() -> Console:
    """The console for progress, notes, questions and errors: stderr."""
    return _PlainConsole(stderr=True)


def safe(text: object) -> str:
    r"""Text that a terminal can only show: control and invisible characters are escaped.

    A name in a shared registry may hold an escape sequence or a change of writing direction;
    shown raw, it could rewrite the screen.

    Returns:
        The text, with escapes such as ``\x1b`` in place of the characters.
    """
    return "".join(
        character.encode("unicode_escape").decode()
        if unicodedata.category(character).startswith("C")
        else character
        for character in str(text)
    )


def print_line(console: Console, text: object, style: str = "") -> None:
    """Prints one safe line, never wrapped, so that paths and commands in it can be copied."""
    console.print(Text(safe(text), style=style), soft_wrap=True)
