"""What shiftreg needs is listed with its licence, and each is permissive."""

from __future__ import annotations

import runpy
import tomllib
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
    extras = {name for extra in licences["EXTRAS"] for name in licences["extra"](extra)}
    declared = {*licences["direct"](), *extras}
    assert declared <= set(listed), "python docs/licences.py > docs/licences.md"


def test_each_extra_is_listed_but_that_of_developers(licences: dict[str, Any]) -> None:
    project = tomllib.loads((FOLDER.parent / "pyproject.toml").read_text())["project"]
    assert {*licences["EXTRAS"], "dev"} == set(project["optional-dependencies"])


def test_no_licence_is_outside_of_the_list(
    licences: dict[str, Any], listed: dict[str, str]
) -> None:
    installed = (*licences["needed"](), *licences["added"]())
    here = {name: licences["licence"](name) for name in installed}
    rows = {name: words for name, words in listed.items() if name not in ("package", "---")}
    for name, words in (*here.items(), *rows.items()):
        asked_for = licences["ASKED_FOR"].get(name) == words
        assert asked_for or licences["is_allowed"](words), f"{name}: {words}"
    assert not set(licences["ASKED_FOR"]) & set(licences["needed"]()), "nobody is asked for these"


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
