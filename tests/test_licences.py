"""What shiftreg needs is listed with its licence, and each is permissive."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).parents[1] / "docs"


@pytest.fixture(scope="module")
def licences() -> dict[str, Any]:
    return runpy.run_path(str(FOLDER / "licences.py"))


@pytest.fixture(scope="module")
def listed() -> dict[str, str]:
    """Package -> licence, as the page says."""
    rows = (line.split("|") for line in (FOLDER / "licences.md").read_text().splitlines())
    return {row[1].strip(): row[2].strip() for row in rows if len(row) > 3}


def test_every_declared_dependency_is_on_the_page(
    licences: dict[str, Any], listed: dict[str, str]
) -> None:
    assert set(licences["direct"]()) <= set(listed), "python docs/licences.py > docs/licences.md"


def test_no_licence_is_outside_of_the_list(
    licences: dict[str, Any], listed: dict[str, str]
) -> None:
    here = {name: licences["licence"](name) for name in licences["needed"]()}
    rows = {name: words for name, words in listed.items() if name not in ("package", "---")}
    for name, words in (*here.items(), *rows.items()):
        assert licences["is_allowed"](words), f"{name}: {words}"


@pytest.mark.parametrize(
    ("expression", "allowed"),
    [
        ("MIT", True),
        ("Apache-2.0 OR GPL-3.0-only", True),
        ("MIT AND GPL-3.0-only", False),
        ("AGPL-3.0", False),
        ("Apache-2.0 WITH LLVM-exception", True),
        ("(MIT OR Apache-2.0) AND BSD-3-Clause", True),
        ("", False),
    ],
)
def test_an_expression_is_read_as_spdx_means_it(
    licences: dict[str, Any], expression: str, allowed: bool
) -> None:
    assert licences["is_allowed"](expression) is allowed
