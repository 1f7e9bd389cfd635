"""Compositions said in words."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from shiftreg import api
from shiftreg.api.composition.words import compositions_in_words
from shiftreg.errors import InvalidInputError, NotFoundError
from shiftreg.settings import Settings


@pytest.fixture(scope="module")
def erased(tmp_path_factory: pytest.TempPathFactory, database: Path) -> api.Workspace:
    """Caravaggio and Picasso are erased; no test changes that."""
    home = tmp_path_factory.mktemp("erased")
    shutil.copyfile(database, home / "registry.db")
    workspace = api.open_workspace(Settings(home, "miniature", None))
    api.erase(workspace, ["Caravaggio", "Picasso"])
    return workspace


def test_words_become_plans_with_a_folder_each(erased: api.Workspace) -> None:
    texts = ["none", "active", "without Picasso", "only Picasso", "without Picasso,Caravaggio"]
    found = compositions_in_words(erased, texts)
    assert [(one.words, one.folder) for one in found] == [
        ("none", "base"),
        ("active", "active"),
        ("without Picasso", "without-picasso"),
        ("only Picasso", "only-picasso"),
        ("without Caravaggio,Picasso", "without-caravaggio+picasso"),
    ]
    erased_there = [{c for c, s in one.plan.states.items() if s == "erased"} for one in found]
    assert erased_there == [set(), {"Caravaggio", "Picasso"}, {"Caravaggio"}, {"Picasso"}, set()]


def test_one_choice_has_one_spelling(erased: api.Workspace) -> None:
    [one] = compositions_in_words(
        erased, ["without Picasso,Van Gogh", ' WITHOUT van-gogh, "picasso", Picasso ']
    )
    assert one.words == "without Picasso,Van Gogh"


def test_a_name_with_a_comma_is_quoted_and_makes_another_folder(home: Path) -> None:
    workspace = api.open_workspace(Settings(home, "miniature", None))
    api.register_base(workspace, protected=["Bek, the elder", "Bek", "the elder"])
    quoted, listed = compositions_in_words(
        workspace, ['without "Bek, the elder"', "without Bek, the elder"]
    )
    assert quoted.words == 'without "Bek, the elder"'
    assert (quoted.folder, listed.folder) == ("without-bek-the-elder", "without-bek+the-elder")


def test_the_folder_of_many_names_is_short_and_their_own(erased: api.Workspace) -> None:
    names = erased.known_names()
    folders = [
        one.folder
        for one in compositions_in_words(
            erased, [f"without {','.join(names)}", f"without {','.join(names[1:])}"]
        )
    ]
    assert len(set(folders)) == 2
    assert all(len(folder) <= 100 for folder in folders)


@pytest.mark.parametrize(
    "text", ["", "base", "with Picasso", "without", "only ,", "active Picasso", "none Picasso"]
)
def test_other_words_are_refused(erased: api.Workspace, text: str) -> None:
    with pytest.raises(InvalidInputError, match="'without A,B'"):
        compositions_in_words(erased, [text])


def test_unknown_and_never_erased_concepts_are_refused(erased: api.Workspace) -> None:
    with pytest.raises(NotFoundError, match="Did you mean 'Picasso'"):
        compositions_in_words(erased, ["without Picaso"])
    with pytest.raises(NotFoundError, match="never erased"):
        compositions_in_words(erased, ["only Cezanne"])
