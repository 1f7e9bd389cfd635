from __future__ import annotations

import os
import subprocess
import sys

import pytest

from shiftreg_cli.console import data_console, print_line, safe


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("Van Gogh", "Van Gogh"),
        ("Paul Cézanne 葛飾北斎", "Paul Cézanne 葛飾北斎"),
        ("\x1b[2J", "\\x1b[2J"),
        ("\x9b2J", "\\x9b2J"),
        ("a\rb\nc\x07", "a\\rb\\nc\\x07"),
        ("\u202etxt", "\\u202etxt"),
        ("\u200bhidden", "\\u200bhidden"),
        ("[red]x[/red]", "[red]x[/red]"),
    ],
)
def test_only_what_a_terminal_can_show_is_left(raw: str, shown: str) -> None:
    assert safe(raw) == shown


def test_a_line_is_neither_wrapped_nor_read_as_markup(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    line = "[bold]:smile:[/bold] " + "/a/long/path" * 10
    print_line(data_console(), line)
    assert capsys.readouterr().out == line + "\n"


def test_a_reader_that_goes_away_ends_the_program_quietly() -> None:
    program = (
        "from shiftreg_cli.console import data_console, print_line\n"
        "for number in range(10_000):\n"
        "    print_line(data_console(), number)\n"
    )
    reader, writer = os.pipe()
    os.close(reader)
    try:
        process = subprocess.run(
            [sys.executable, "-c", program],
            stdout=writer,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    finally:
        os.close(writer)
    assert (process.returncode, process.stderr) == (141, "")
