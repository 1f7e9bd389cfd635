from __future__ import annotations

import io

import pytest
from rich.console import Console

from shiftreg.api.values import Progress
from shiftreg_cli.progress import Watcher, bars, numbers, watched


def drawn(*steps: Progress) -> str:
    """The last frame of a terminal that is shown these steps."""
    display = bars(Console(file=io.StringIO(), force_terminal=True, width=120))
    watcher = Watcher(display)
    for step in steps:
        watcher(step)
    console = Console(file=io.StringIO(), width=120)
    console.print(display.get_renderable())
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


def test_a_bar_shows_stage_count_and_the_numbers_of_a_training() -> None:
    values = {"loss": 0.12345, "momentum_average": 0.2, "tau": 0.05}
    text = drawn(Progress("training Caravaggio", 3, 100, values))
    assert "training Caravaggio" in text
    assert "3/100" in text
    assert "loss 0.123, momentum average 0.2, tau 0.05" in text


def test_only_the_stage_at_hand_is_shown() -> None:
    text = drawn(Progress("composing", 2, 2), Progress("writing", 0, 5))
    assert "writing" in text
    assert "composing" not in text


def test_things_done_at_once_have_a_bar_each_until_they_are_done() -> None:
    one = Progress("training Picasso", 3, 9, lane="Picasso")
    other = Progress("generating samples", 1, 4, lane="Caravaggio")
    text = drawn(one, other, Progress("erasing concepts", 0, 2))
    assert "training Picasso" in text
    assert "Caravaggio: generating samples" in text
    assert "erasing concepts" in text
    text = drawn(one, other, Progress("generating samples", 4, 4, lane="Caravaggio"))
    assert "training Picasso" in text
    assert "Caravaggio" not in text


def test_a_stage_is_no_markup_and_no_escape_sequence() -> None:
    text = drawn(Progress("training [red]x[/red]\x1b[2J", 1, 2))
    assert "training [red]x[/red]\\x1b[2J" in text


def test_values_in_words() -> None:
    assert numbers(Progress("x", 1, 2)) == ""
    assert numbers(Progress("x", 1, 2, {"momentum_average": 1 / 3})) == "momentum average 0.333"


@pytest.mark.parametrize("quiet", [True, False])
def test_nothing_is_drawn_without_a_terminal(
    quiet: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    with watched(quiet=quiet) as observe:
        observe(Progress("training", 1, 2, {"loss": 1.0}))
    assert capsys.readouterr() == ("", "")


def test_quiet_draws_nothing_in_a_terminal_either(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    with watched(quiet=True) as observe:
        observe(Progress("training", 1, 2))
    assert capsys.readouterr() == ("", "")


def test_a_bar_goes_to_stderr(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    with watched() as observe:
        observe(Progress("training", 1, 2))
    out, err = capsys.readouterr()
    assert out == ""
    assert "training" in err
