from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from shiftreg.errors import NotFoundError, StorageError
from shiftreg_cli.failures import reported
from shiftreg_cli.main import app


def fail(error: BaseException, *, show_traceback: bool = False) -> int:
    with pytest.raises(typer.Exit) as ended, reported(show_traceback=show_traceback):
        raise error
    return ended.value.exit_code


def test_an_error_of_ours_is_one_line_and_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    error = NotFoundError("Concept 'Picaso' is not\nregistered. Did you mean 'Picasso'?")
    assert fail(error) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "Error: Concept 'Picaso' is not registered. Did you mean 'Picasso'?\n"


def test_a_storage_error_shows_its_message_alone(capsys: pytest.CaptureFixture[str]) -> None:
    assert fail(StorageError("The disk is full.")) == 2
    assert capsys.readouterr().err == "Error: The disk is full.\n"


def test_an_error_in_a_terminal_is_red(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    fail(NotFoundError("Gone."))
    assert capsys.readouterr().err == "\x1b[31mError: Gone.\x1b[0m\n"


def test_what_nobody_expected_says_how_to_see_more(capsys: pytest.CaptureFixture[str]) -> None:
    assert fail(ZeroDivisionError("division by zero")) == 2
    err = capsys.readouterr().err
    assert "Unexpected ZeroDivisionError: division by zero" in err
    assert "--traceback" in err
    assert "File" not in err


def test_the_traceback_is_shown_on_request(capsys: pytest.CaptureFixture[str]) -> None:
    assert fail(NotFoundError("Gone."), show_traceback=True) == 2
    err = capsys.readouterr().err
    assert "Traceback" in err
    assert "test_failures.py" in err
    assert err.endswith("Error: Gone.\n")


def test_no_error_and_no_traceback_shows_a_password(capsys: pytest.CaptureFixture[str]) -> None:
    for is_shown in (False, True):
        fail(ValueError("cannot parse https://ada:s3c/ret@host/version"), show_traceback=is_shown)
        err = capsys.readouterr().err
        assert "https://host/version" in err
        assert "s3c" not in err.replace('ValueError("cannot parse https://ada:s3c/ret@', "")


def test_an_interrupt_says_so_and_ends_with_130(capsys: pytest.CaptureFixture[str]) -> None:
    assert fail(KeyboardInterrupt()) == 130
    assert (
        capsys.readouterr().err
        == "Interrupted: unfinished work left nothing behind. See: shiftreg list\n"
    )


def test_an_interrupt_that_a_library_turns_into_its_own_error_is_still_one() -> None:
    with pytest.raises(typer.Exit) as ended, reported():
        try:
            os.kill(os.getpid(), signal.SIGINT)
        except KeyboardInterrupt:
            raise NotFoundError("Gone.") from None
    assert ended.value.exit_code == 130


def test_an_escape_sequence_in_a_message_is_shown_harmlessly(
    capsys: pytest.CaptureFixture[str],
) -> None:
    fail(NotFoundError("Concept '[red]\x1b[2J' is not registered."))
    assert capsys.readouterr().err == "Error: Concept '[red]\\x1b[2J' is not registered.\n"


def test_a_command_that_ends_itself_keeps_its_code() -> None:
    with pytest.raises(typer.Exit) as ended, reported():
        raise typer.Exit(1)
    assert ended.value.exit_code == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["list"],
        ["show", "Picasso"],
        ["erase", "Picasso"],
        ["restore", "Picasso", "--reason", "x"],
        ["refresh"],
        ["compose"],
        ["verify"],
        ["generate", "Picasso"],
        ["ui"],
    ],
)
def test_a_home_that_cannot_be_made_is_bad_input(home: Path, arguments: list[str]) -> None:
    home.write_text("a file, not a folder")
    result = CliRunner().invoke(app, [*arguments, "--home", str(home / "below")])
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith("Error: ")
    assert result.stderr.count("\n") == 1
    assert str(home) in result.stderr


def test_an_unknown_base_is_bad_input_and_a_flag_goes_before_the_environment(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHIFTREG_HOME", str(home))
    monkeypatch.setenv("SHIFTREG_BASE", "from-environment")
    from_environment = CliRunner().invoke(app, ["list"])
    from_flag = CliRunner().invoke(app, ["list", "--base", "from-flag"])
    assert (from_environment.exit_code, from_flag.exit_code) == (2, 2)
    assert "'from-environment' is not registered" in from_environment.stderr
    assert "'from-flag' is not registered" in from_flag.stderr
    assert "shiftreg init" in from_flag.stderr
    assert home.is_dir()


def test_a_broken_project_file_is_bad_input(home: Path) -> None:
    Path("shiftreg.toml").write_text("home = ")
    result = CliRunner().invoke(app, ["list", "--home", str(home)])
    assert result.exit_code == 2
    assert "shiftreg.toml is not valid TOML" in result.stderr


def test_an_unknown_method_is_named_with_those_that_exist() -> None:
    result = CliRunner().invoke(app, ["methods", "magic"])
    assert result.exit_code == 2
    assert "'magic'" in result.stderr
    assert "closed-form" in result.stderr
