import inspect
import json
import os
import pty
from dataclasses import fields
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from shiftreg.errors import InvalidInputError
from shiftreg_cli.failures import reported
from shiftreg_cli.options import Common, with_common


def test_a_command_gets_its_own_options_and_the_shared_ones() -> None:
    received = []

    def command(common: Common, name: str = "x") -> None:
        received.append((common, name))

    wrapped = with_common(command)
    shared = [field.name for field in fields(Common)]
    assert list(inspect.signature(wrapped).parameters) == ["name", *shared]
    tiny = typer.Typer()
    tiny.command()(wrapped)
    CliRunner().invoke(tiny, ["--name", "y", "--base", "b", "--json"], catch_exceptions=False)
    assert received == [(Common(base="b", as_json=True), "y")]


@pytest.mark.parametrize(
    "name", ["erasure_plan", "erasure", "detail", "plan", "export", "verification", "grid"]
)
def test_json_is_one_document_with_every_field(
    name: str, values: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    value = getattr(values, name)
    Common(as_json=True).show(value, "a table")
    out, err = capsys.readouterr()
    document = json.loads(out)
    assert document.pop("schema_version") == 1
    assert set(document) == {field.name for field in fields(value)}
    assert err == ""


def test_json_of_several_values_is_one_document(
    values: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    Common(as_json=True).show((values.state, values.protected_state))
    document = json.loads(capsys.readouterr().out)
    assert [item["concept"] for item in document["items"]] == ["Caravaggio", "Picasso"]
    assert [item["state"] for item in document["items"]] == ["erased", "generates"]


def test_json_holds_no_raw_control_characters(
    values_about: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    name = "\x1b[2J\x9b\u202e[red]"
    Common(as_json=True).show(values_about(name).state)
    out = capsys.readouterr().out
    assert out.replace("\n", "").isprintable()
    assert json.loads(out)["concept"] == name


@pytest.mark.parametrize("common", [Common(as_json=True), Common(quiet=True)])
def test_json_and_quiet_show_no_preview(common: Common, capsys: pytest.CaptureFixture[str]) -> None:
    common.preview("the plan")
    assert capsys.readouterr() == ("", "")


def test_without_a_terminal_a_question_names_the_flag() -> None:
    with pytest.raises(InvalidInputError, match="--yes"):
        Common().confirm("Restore?", yes=False)


def test_yes_is_not_asked() -> None:
    Common().confirm("Restore?", yes=True)


@pytest.mark.parametrize(("answer", "code"), [("y\n", 0), ("n\n", 2), ("\n", 2), ("\x04", 2)])
def test_a_terminal_is_asked_and_only_yes_is_yes(
    answer: str,
    code: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    ours, theirs = pty.openpty()
    os.write(ours, answer.encode())
    ended = 0
    with os.fdopen(theirs) as terminal:
        monkeypatch.setattr("sys.stdin", terminal)
        try:
            with reported():
                Common().confirm("Restore?", yes=False)
        except typer.Exit as refused:
            ended = refused.exit_code
    os.close(ours)
    out, err = capsys.readouterr()
    assert ended == code
    assert "Restore?" in err
    assert ("Nothing was changed." in err) == (code != 0)
    assert out == ""
