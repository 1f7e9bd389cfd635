"""Files of prompts and seeds, well-formed and not."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shiftreg.errors import InvalidInputError, NotFoundError
from shiftreg.evaluation.prompt_file import PromptCase, parse_prompts, read_content

# As the evaluation files of concept erasure look: an unnamed index, and a blank line at the end.
EXAMPLE = """,prompt,evaluation_seed,case_number
0,Cezanne,3141,0
1,Van Gogh,4998,1
2,Kilian Eng,1244,449

"""


def parse(content: str | bytes) -> tuple[PromptCase, ...]:
    content = content.encode() if isinstance(content, str) else content
    return parse_prompts(content, Path("prompts.csv"))


def test_a_file_of_the_usual_form_is_read_in_its_order(tmp_path: Path) -> None:
    path = tmp_path / "prompts.csv"
    path.write_text(EXAMPLE)
    assert parse_prompts(read_content(path), path) == (
        PromptCase("Cezanne", 3141, 0),
        PromptCase("Van Gogh", 4998, 1),
        PromptCase("Kilian Eng", 1244, 449),
    )


def test_columns_may_stand_in_any_order_among_others() -> None:
    content = "evaluation_seed,artist, case_number,prompt\n7,x,3,a church\n"
    assert parse(content) == (PromptCase("a church", 7, 3),)


def test_without_case_numbers_rows_are_numbered_from_0() -> None:
    cases = parse("prompt,evaluation_seed\na,5\n\nb,5\n")
    assert [case.case for case in cases] == [0, 1]


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_a_byte_order_mark_and_any_line_ends_are_understood(line_end: str) -> None:
    content = b"\xef\xbb\xbf" + EXAMPLE.replace("\n", line_end).encode()
    assert parse(content) == parse(EXAMPLE)


def test_quoted_commas_quotes_and_line_breaks_belong_to_the_prompt() -> None:
    content = 'prompt,evaluation_seed\n"a ""big"" church,\nby the sea",1\na,x\n'
    with pytest.raises(InvalidInputError, match=r"line 4: evaluation_seed is a whole number"):
        parse(content)
    assert parse(content.replace("x", "2"))[0].prompt == 'a "big" church,\nby the sea'


@pytest.mark.parametrize("prompt", ["", " ", "  a  church "])
def test_a_prompt_is_kept_word_for_word_even_if_it_is_blank(prompt: str) -> None:
    assert parse(f"prompt,evaluation_seed\n{prompt},1\n")[0].prompt == prompt


def test_whole_numbers_that_pandas_wrote_as_floats_are_read() -> None:
    assert parse("prompt,evaluation_seed,case_number\na, 3141.0,7.0\n") == (
        PromptCase("a", 3141, 7),
    )


@pytest.mark.parametrize(
    "seed",
    ["", "x", "-1", "1.5", "1e3", "1_000", "٣", "nan", str(2**63), "9" * 5000],
)
def test_a_seed_that_is_no_whole_number_in_range_is_refused_with_its_line(seed: str) -> None:
    with pytest.raises(InvalidInputError, match=r"line 3: evaluation_seed .* 0 to 2\^63"):
        parse(f"prompt,evaluation_seed\na,0\nb,{seed}\n")


def test_the_largest_seed_is_read() -> None:
    assert parse(f"prompt,evaluation_seed\na,000{2**63 - 1}\n")[0].seed == 2**63 - 1


def test_a_case_number_that_stands_twice_is_refused_with_both_lines() -> None:
    with pytest.raises(InvalidInputError, match=r"line 5: case_number 0 stands in line 2 too"):
        parse("prompt,evaluation_seed,case_number\na,1,0\nb,1,1\n\nc,1,00\n")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"\n\n", "is empty"),
        ("prompt,evaluation_seed\n\n", "a header and no prompts"),
        ("text,evaluation_seed\na,1\n", "no column prompt. It has 'text', 'evaluation_seed'"),
        ("text,seed\na,1\n", "no column prompt and no column evaluation_seed"),
        ("prompt;evaluation_seed\na;1\n", "It has 'prompt;evaluation_seed'.*by commas"),
        ("prompt,evaluation_seed,prompt\na,1,b\n", "the column prompt more than once"),
        ("prompt,evaluation_seed\na,1\na, b,2\n", "line 3: 3 fields, and the header has 2"),
        ("prompt,evaluation_seed\na\n", "line 2: 1 fields"),
        ('prompt,evaluation_seed\na,1\n"b,2\nc,3\n', "line 3: unexpected end of data"),
        ('prompt,evaluation_seed\n"a"b,1\n', "line 2: .*expected after"),
        ("prompt,evaluation_seed\na,1\ncafé,2\n".encode("latin-1"), "line 3: not UTF-8"),
        ("prompt,evaluation_seed\na,1\n".encode("utf-16"), "line 1: not UTF-8"),
        (f"prompt,evaluation_seed\n{'a' * 200_000},1\n", "line 2: field larger"),
    ],
)
def test_a_file_that_cannot_be_right_is_refused_with_what_is_wrong(
    content: str | bytes, message: str
) -> None:
    with pytest.raises(InvalidInputError, match=message):
        parse(content)


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no file"):
        read_content(tmp_path / "missing.csv")
    with pytest.raises(InvalidInputError, match="is a folder"):
        read_content(tmp_path)


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
numbers = st.integers(min_value=0, max_value=2**63 - 1)


@given(
    st.dictionaries(numbers, st.tuples(texts, numbers, texts), min_size=1, max_size=8),
    # A writer that ends lines by "\n" alone leaves a lone "\r" unquoted, unless all is quoted.
    st.sampled_from([("\n", csv.QUOTE_ALL), ("\r\n", csv.QUOTE_ALL), ("\r\n", csv.QUOTE_MINIMAL)]),
)
def test_what_a_csv_writer_wrote_is_read_back(
    rows: dict[int, tuple[str, int, str]], form: tuple[str, int]
) -> None:
    line_end, quoting = form
    file = io.StringIO()
    writer = csv.writer(file, lineterminator=line_end, quoting=quoting)  # type: ignore[arg-type]
    writer.writerow(["", "prompt", "evaluation_seed", "case_number"])
    for case, (prompt, seed, other) in rows.items():
        writer.writerow([other, prompt, seed, case])
    expected = tuple(PromptCase(prompt, seed, case) for case, (prompt, seed, _) in rows.items())
    assert parse(file.getvalue()) == expected
