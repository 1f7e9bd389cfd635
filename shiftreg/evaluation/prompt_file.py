"""Files of prompts and seeds, as evaluations of concept erasure keep them.

The columns are those of the files that came with ESD (Gandikota et al., 2023) and that later
evaluations took over: ``prompt, evaluation_seed, case_number``.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from shiftreg.errors import InvalidInputError, NotFoundError, StorageError

PROMPT, SEED, CASE = "prompt", "evaluation_seed", "case_number"
LARGEST = 2**63 - 1

# pandas writes whole numbers with ".0" where a column ever missed one.
_WHOLE = re.compile(r"([0-9]+)(\.0*)?", flags=re.ASCII)


@dataclass(frozen=True)
class PromptCase:
    """One image, or one set of images, to be made.

    Attributes:
        prompt: Word for word; a blank one asks for no subject at all.
        case: Number that the images are named after.
    """

    prompt: str
    seed: int
    case: int


def read_content(path: Path) -> bytes:
    """The bytes of a file of prompts; a pipe can be read only once.

    Raises:
        NotFoundError: No such file.
        InvalidInputError: It is a folder.
        StorageError: It cannot be read.
    """
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NotFoundError(f"There is no file '{path}'. Check the path.") from error
    except IsADirectoryError as error:
        raise InvalidInputError(
            f"Prompts are read from a CSV file, and '{path}' is a folder. Give the file."
        ) from error
    except OSError as error:
        raise StorageError(f"'{path}' could not be read: {error.strerror or error}.") from error


def parse_prompts(content: bytes, source: Path) -> tuple[PromptCase, ...]:
    """Understands the bytes of a file of prompts.

    Args:
        content: CSV in UTF-8 with the columns ``prompt`` and ``evaluation_seed``. Without
            ``case_number``, cases are numbered by row, from 0. Other columns are ignored.
        source: Where they come from, for messages.

    Returns:
        The cases, in the order of the file; at least one.

    Raises:
        InvalidInputError: They are not such a file, lack a column, or a line is wrong.
    """
    rows = _rows(_decode(content, source), source)
    _, header = next(rows, (0, None))
    if header is None:
        raise InvalidInputError(
            f"'{source}' is empty. It needs a header with {PROMPT} and {SEED}, and a line a prompt."
        )
    columns = _columns(header, source)
    cases: list[PromptCase] = []
    lines: dict[int, int] = {}
    for line, row in rows:
        if len(row) != len(header):
            raise InvalidInputError(
                f"'{source}', line {line}: {len(row)} fields, and the header has {len(header)}. "
                "Put a prompt that holds commas between double quotes."
            )
        case = PromptCase(
            prompt=row[columns[PROMPT]],
            seed=_whole(row[columns[SEED]], SEED, source, line),
            case=_whole(row[columns[CASE]], CASE, source, line) if CASE in columns else len(cases),
        )
        if (first := lines.setdefault(case.case, line)) != line:
            raise InvalidInputError(
                f"'{source}', line {line}: {CASE} {case.case} stands in line {first} too. "
                "Images are named after it: number every line differently."
            )
        cases.append(case)
    if not cases:
        raise InvalidInputError(f"'{source}' has a header and no prompts. Add a line a prompt.")
    return tuple(cases)


def _decode(content: bytes, source: Path) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InvalidInputError(
            f"'{source}', line {line}: not UTF-8 text. Save the file as UTF-8."
        ) from error


def _rows(text: str, source: Path) -> Iterator[tuple[int, list[str]]]:
    """Each row that is not empty, with the number of the line that it begins in."""
    # Strict: otherwise a quote that is never closed swallows the rest of the file unnoticed.
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    line = 1
    try:
        for row in reader:
            if row:
                yield line, row
            line = reader.line_num + 1
    except csv.Error as error:
        raise InvalidInputError(
            f"'{source}', line {line}: {error}. Quotes inside a quoted prompt are doubled, and "
            "every quote is closed."
        ) from error


def _columns(header: list[str], source: Path) -> dict[str, int]:
    """Where the columns are that are read."""
    names = [name.strip() for name in header]
    shown = ", ".join(f"'{name}'" for name in names)
    if missing := [name for name in (PROMPT, SEED) if name not in names]:
        raise InvalidInputError(
            f"'{source}' has no column {' and no column '.join(missing)}. It has {shown}. "
            "Name the columns in the first line, separated by commas."
        )
    wanted = [name for name in (PROMPT, SEED, CASE) if name in names]
    if twice := [name for name in wanted if names.count(name) > 1]:
        raise InvalidInputError(
            f"'{source}' has the column {twice[0]} more than once: {shown}. Keep one of them."
        )
    return {name: names.index(name) for name in wanted}


def _whole(text: str, column: str, source: Path, line: int) -> int:
    found = _WHOLE.fullmatch(text.strip())
    # The length is looked at first: Python refuses to read numbers of thousands of digits.
    if found is None or len(found[1].lstrip("0")) > 19 or int(found[1]) > LARGEST:
        raise InvalidInputError(
            f"'{source}', line {line}: {column} is a whole number from 0 to 2^63 - 1, "
            f"not '{text[:40]}'."
        )
    return int(found[1])
