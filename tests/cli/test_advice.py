"""What messages, examples and pages tell people to type exists: each command and each option."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.commands import every_command

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("examples/**/*.md")])
SOURCES = sorted([*ROOT.glob("shiftreg/**/*.py"), *ROOT.glob("cli/*.py")])

COMMANDS = every_command()
GROUPS = {name.partition(" ")[0] for name in COMMANDS if " " in name}
END = r"(?=[.,;:]?(?:\s*$|\s{3})|[.,;:)]+['\"]?(?:\s|$)|[`\n#|]| \()"
IN_MESSAGE = re.compile(rf"(?:^|: |[sS]ee |[`\"'$] ?)shiftreg ([a-z][^\n]*?){END}", re.MULTILINE)
IN_PAGE = re.compile(rf"(?:`|^\$ |^    (?:\$ )?)shiftreg ([a-z][^\n]*?){END}", re.MULTILINE)
BARE = re.compile(
    rf"(?<![-\w])(?<!mlflow )((?:{'|'.join(COMMANDS)}) --[a-z][^\n]*?){END}", re.MULTILINE
)
OPTION = re.compile(r"(?<![-\w])--?[a-zA-Z][-a-z]*")


def texts_of(source: Path) -> Iterator[str]:
    """The texts in a module; what an f-string fills in is X."""
    nodes = list(ast.walk(ast.parse(source.read_text(encoding="utf-8"))))
    joined = [node.values for node in nodes if isinstance(node, ast.JoinedStr)]
    pieces = {id(part) for parts in joined for part in parts}
    for parts in joined:
        yield "".join(str(part.value) if isinstance(part, ast.Constant) else "X" for part in parts)
    for node in nodes:
        if (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and id(node) not in pieces
        ):
            yield node.value


def commands_in(path: Path) -> set[str]:
    """What a module or page says to type, without the word "shiftreg"."""
    is_page = path.suffix == ".md"
    texts = [path.read_text(encoding="utf-8")] if is_page else texts_of(path)
    pattern = IN_PAGE if is_page else IN_MESSAGE
    return {found for text in texts for search in (pattern, BARE) for found in search.findall(text)}


def problem(typed: str) -> str | None:
    """What does not exist of a command, if something does not."""
    words = typed.split()
    name = words[0].rstrip("X")
    if name in GROUPS and len(words) > 1 and f"{name} {words[1]}" in COMMANDS:
        name = f"{name} {words[1]}"
    if name not in COMMANDS:
        return f"there is no command '{name}'"
    known = {option for p in COMMANDS[name].params for option in (*p.opts, *p.secondary_opts)}
    known |= {"--help", "-h"}
    unknown = [option for option in OPTION.findall(typed) if option not in known]
    return f"'{name}' has no option {unknown[0]}" if unknown else None


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("activate 'Picasso@1'", "there is no command 'activate'"),
        ("compose --exports model.ckpt", "'compose' has no option --exports"),
        ("audit verify --nothing", "'audit verify' has no option --nothing"),
        ("audit checkpoint FILE", None),
        ("init FOLDER --name NAME", None),
    ],
)
def test_what_does_not_exist_is_found(typed: str, expected: str | None) -> None:
    assert problem(typed) == expected


def test_commands_are_found_where_people_read_them(tmp_path: Path) -> None:
    module, page = tmp_path / "module.py", tmp_path / "page.md"
    module.write_text('x = f"No. Run: shiftreg erase {y} --method {z}. Or erase --profile X."\n')
    page.write_text("It is shiftreg that\n\n    shiftreg list --json\n\nand `shiftreg ui`.\n")
    assert commands_in(module) == {"erase X --method X", "erase --profile X"}
    assert commands_in(page) == {"list --json", "ui"}


def test_every_command_that_people_are_told_to_type_exists() -> None:
    told = {path: commands_in(path) for path in (*SOURCES, *PAGES)}
    assert sum(map(len, told.values())) > 200
    wrong = {
        f"{path.relative_to(ROOT)}: shiftreg {typed}": found
        for path, commands in told.items()
        for typed in sorted(commands)
        if (found := problem(typed))
    }
    assert not wrong
