from __future__ import annotations

import inspect
import json
import os
import pty
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from shiftreg.errors import InvalidInputError
from shiftreg_cli.bases import read_triggers
from shiftreg_cli.composing import read_seeds
from shiftreg_cli.main import app
from shiftreg_cli.options import (
    Common,
    choose,
    read_lines,
    read_number,
    split_names,
    split_pair,
    with_common,
)


@pytest.mark.parametrize(
    ("given", "names"),
    [
        (["Picasso"], ("Picasso",)),
        (["Picasso,Van Gogh"], ("Picasso", "Van Gogh")),
        (["Picasso, Van Gogh", "Cezanne"], ("Picasso", "Van Gogh", "Cezanne")),
        (["Picasso,Picasso"], ("Picasso",)),
        (['"Cranach, the Elder",Picasso'], ("Cranach, the Elder", "Picasso")),
    ],
)
def test_names_are_separated_by_commas_and_repetition(
    given: list[str], names: tuple[str, ...]
) -> None:
    assert split_names(given, "--only") == names


def test_no_option_is_no_choice() -> None:
    assert choose(None, None) == {"only": None, "without": None}


@pytest.mark.parametrize("command", [["compose"], ["verify"], ["generate", "Picasso"]])
def test_only_and_without_together_are_refused(command: list[str]) -> None:
    result = CliRunner().invoke(app, [*command, "--only", "A", "--without", "B"])
    assert result.exit_code == 2
    assert "exclude each other" in result.stderr


@pytest.mark.parametrize("value", ["", ",", " , "])
def test_an_empty_choice_is_refused_because_it_is_an_unset_variable(value: str) -> None:
    result = CliRunner().invoke(app, ["compose", "--only", value])
    assert result.exit_code == 2
    assert "names no concept" in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["erase", "A", "B", "--alias", "C"],
        ["erase", "A", "--set", "ridge"],
        ["erase", "A", "--set", "=1"],
        ["erase", "A", "--set", "ridge=much"],
        ["erase", "A", "--seed", "-1"],
        ["erase", "A", "--kind", "smell"],
        ["restore", "A"],
        ["compose", "--dtype", "float16"],
        ["compose", "--force"],
        ["verify", "no-such-file.ckpt"],
        ["verify", "--images", "0"],
        ["generate"],
        ["generate", "A", "--seeds", "1,x"],
        ["generate", "A", "--seeds", "1", "--seed", "2"],
        ["init", "--trigger", "=payload"],
        ["init", "--protect", "no-such-file.txt"],
        ["ui", "--port", "70000"],
    ],
)
def test_bad_usage_ends_with_2_and_changes_nothing(home: Path, arguments: list[str]) -> None:
    result = CliRunner().invoke(app, [*arguments, "--home", str(home)])
    assert result.exit_code == 2
    assert "Usage:" in result.stderr
    assert result.stdout == ""
    assert not home.exists()


def test_numbers_keep_being_whole() -> None:
    assert repr(read_number("8", "--set")) == "8"
    assert repr(read_number("1e-4", "--set")) == "0.0001"


def test_a_pair_is_split_at_its_first_equals_sign() -> None:
    assert split_pair("key = a=b", "--set") == ("key", "a=b")


def test_triggers_may_have_no_code_but_not_two() -> None:
    assert read_triggers(["CCS 2024=id=7", "plain mark"]) == {"CCS 2024": "id=7", "plain mark": ""}
    with pytest.raises(typer.BadParameter, match="two payloads"):
        read_triggers(["CCS 2024=a", "CCS 2024=b"])


@pytest.mark.parametrize(
    ("seeds", "first", "count", "expected"),
    [
        (None, None, None, (0, 1, 2, 3)),
        ("5", None, None, (5,)),
        ("3, 1,3", None, None, (3, 1)),
        (None, 7, None, (7,)),
        (None, None, 2, (0, 1)),
        (None, 7, 3, (7, 8, 9)),
    ],
)
def test_seeds_are_listed_or_counted(
    seeds: str | None, first: int | None, count: int | None, expected: tuple[int, ...]
) -> None:
    assert read_seeds(seeds, first, count) == expected


def test_prompts_are_read_one_a_line(tmp_path: Path) -> None:
    file = tmp_path / "prompts.txt"
    file.write_bytes("\ufeffa church\r\n\r\n  Cézanne \n".encode())
    assert read_lines(file) == ("a church", "Cézanne")
    assert read_lines(None) == ()


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "prompts.txt"
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InvalidInputError, match="UTF-8"):
        read_lines(file)


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
def test_a_terminal_is_asked_and_only_yes_is_yes(answer: str, code: int) -> None:
    program = (
        "from shiftreg_cli.failures import reported\n"
        "from shiftreg_cli.options import Common\n"
        "import typer\n"
        "try:\n"
        "    with reported():\n"
        "        Common().confirm('Restore?', yes=False)\n"
        "except typer.Exit as ended:\n"
        "    raise SystemExit(ended.exit_code)\n"
    )
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        os.write(ours, answer.encode())
        out, err = process.communicate(timeout=60)
    os.close(ours)
    os.close(theirs)
    assert process.returncode == code
    assert "Restore?" in err
    assert ("Nothing was changed." in err) == (code != 0)
    assert out == ""
