from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from shiftreg import __version__, api
from shiftreg_cli.main import app
from tests.commands import every_command

MODELS = ("torch", "torchvision", "diffusers", "transformers", "lpips", "safetensors", "matplotlib")
HEAVY = (*MODELS, "mlflow", "pandas", "numpy")
ENDED = "ended:"


def leaves(group: Any, path: tuple[str, ...] = ()) -> Iterator[str]:
    """All commands, those of a group after its name: "classifier train"."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from leaves(command, (*path, name))
        else:
            yield " ".join((*path, name))


COMMANDS = sorted(leaves(get_command(app)))


def start(*commands: Sequence[str], **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs commands in one new process, which says how each ended and what is imported by then."""
    program = (
        "import json, sys\n"
        "from shiftreg_cli.main import run\n"
        f"for arguments in {[list(command) for command in commands]}:\n"
        "    sys.argv = ['shiftreg', *arguments]\n"
        "    try:\n"
        "        run()\n"
        "    except SystemExit as ended:\n"
        f"        loaded = [name for name in {HEAVY} if name in sys.modules]\n"
        f"        print({ENDED!r}, json.dumps([ended.code, loaded]), file=sys.stderr)\n"
    )
    return subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, **environment},
    )


def endings(process: subprocess.CompletedProcess[str]) -> list[list[Any]]:
    """The exit code of each command, and what was imported then."""
    lines = process.stderr.splitlines()
    return [json.loads(line.removeprefix(ENDED)) for line in lines if line.startswith(ENDED)]


def test_the_commands_of_the_main_job_exist() -> None:
    expected = "compose erase generate init list refresh restore show ui verify"
    assert set(expected.split()) <= set(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_every_command_has_an_example_and_the_shared_options(command: str) -> None:
    result = CliRunner().invoke(app, [*command.split(), "--help"], env={"COLUMNS": "120"})
    assert result.exit_code == 0
    assert f"shiftreg {command}" in result.output.partition("Examples")[2]
    for option in ("--home", "--base", "--tracking-uri", "--json", "--quiet", "--traceback"):
        assert option in result.output


def test_examples_fit_lines_of_a_terminal_so_that_they_can_be_copied() -> None:
    lines = [line for command in every_command().values() for line in command.epilog.splitlines()]
    assert len(lines) > 50
    assert [line for line in lines if len(line.strip()) > 78] == []


def test_the_help_lists_commands_in_panels_and_loses_no_text_to_markup() -> None:
    result = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "80"})
    titles = ("Concepts", "Models", "Measure", "Evidence", "Setup")
    positions = [result.output.index(f"─ {title} ─") for title in titles]
    assert positions == sorted(positions)
    assert "─ Commands ─" not in result.output
    texts = [
        option.help
        for command in every_command().values()
        for option in command.params
        if getattr(option, "help", None)
    ]
    assert [text for text in texts if "[" in text] == []  # brackets would be read as markup


@pytest.mark.parametrize(
    "command",
    [
        "adapter",
        "init",
        "erase",
        "restore",
        "delete",
        "refresh",
        "import",
        "decouple",
        "compose",
        "verify",
        "evaluate",
        "attack",
        "report",
    ],
)
def test_what_leaves_an_event_takes_reason_request_and_licence(command: str) -> None:
    result = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "120"})
    shown = result.output.partition("Audit trail")[2]
    assert all(option in shown for option in ("--reason", "--request", "--licence"))


def test_help_and_usage_errors_import_nothing_heavy() -> None:
    process = start(["--help"], ["erase", "--help"], ["--version"], ["erase"])
    assert endings(process) == [[0, []], [0, []], [0, []], [2, []]]


def test_reading_the_registry_imports_no_library_of_models(workspace: api.Workspace) -> None:
    commands = (["list"], ["list", "--json"], ["show", "Picasso"])
    process = start(*commands, SHIFTREG_HOME=str(workspace.settings.home))
    for command, (_, names) in zip(commands, endings(process), strict=True):
        assert "mlflow" in names, command
        assert not set(names) & set(MODELS), command
    table, rest = process.stdout.split("{", 1)
    document, shown = json.JSONDecoder().raw_decode("{" + rest)[0], rest.rpartition("}")[2]
    assert "Picasso" in table
    assert "Picasso" in json.dumps(document)
    assert "Picasso" in shown


def test_completion_knows_the_commands_and_imports_nothing_heavy() -> None:
    words = {"COMP_WORDS": "shiftreg er", "COMP_CWORD": "1"}
    process = start([], _SHIFTREG_COMPLETE="complete_bash", **words)
    assert process.stdout.split() == ["erase"]
    assert endings(process) == [[0, []]]


def test_version_is_that_of_the_package() -> None:
    result = CliRunner().invoke(app, ["--version"])
    assert (result.exit_code, result.stdout) == (0, f"shiftreg {__version__}\n")


def test_an_unknown_command_is_a_usage_error_with_a_suggestion() -> None:
    result = CliRunner().invoke(app, ["erse"])
    assert result.exit_code == 2
    assert "erase" in result.stderr
    assert result.stdout == ""


def test_no_color_is_respected() -> None:
    process = start(["--help"], NO_COLOR="1", FORCE_COLOR="1", COLUMNS="100")
    assert "Usage" in process.stdout
    assert "\x1b[3" not in process.stdout


def test_output_that_the_encoding_lacks_is_escaped_instead_of_failing() -> None:
    process = start(["erase", "Cézanne", "--set", "Cézanne"], PYTHONIOENCODING="ascii")
    assert [code for code, _ in endings(process)] == [2]
    assert "C\\xe9zanne" in process.stderr
