from __future__ import annotations

from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from shiftreg import api
from shiftreg.errors import InvalidInputError
from shiftreg_cli.main import app
from shiftreg_cli.parsing import (
    choose,
    read_lines,
    read_seeds,
    read_triggers,
    read_value,
    split_names,
    split_pair,
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


def test_no_option_selects_all_active_shifts() -> None:
    assert choose(None, None) == api.Selection()


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


def test_numbers_keep_being_whole_and_words_stay_words() -> None:
    assert repr(read_value("8")) == "8"
    assert repr(read_value("1e-4")) == "0.0001"
    assert repr(read_value("u")) == "'u'"


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
