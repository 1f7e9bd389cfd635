"""Selections of shifts, and their labels."""

from __future__ import annotations

from pathlib import Path

import pytest

from shiftreg import api
from shiftreg.concepts import label
from shiftreg.errors import InvalidInputError, NotFoundError
from shiftreg.settings import Settings


def parsed(workspace: api.Workspace, text: str) -> api.Selection:
    return api.Selection.parse(text).normalised(workspace.find)


def test_labels_become_plans_with_a_folder_each(erased: api.Workspace) -> None:
    texts = ["none", "active", "without Picasso", "only Picasso", "without Picasso,Caravaggio"]
    selections = [parsed(erased, text) for text in texts]
    assert [(one.label, one.folder) for one in selections] == [
        ("none", "base"),
        ("active", "active"),
        ("without Picasso", "without-picasso"),
        ("only Picasso", "only-picasso"),
        ("without Caravaggio,Picasso", "without-caravaggio+picasso"),
    ]
    plans = [api.plan_composition(erased, one) for one in selections]
    erased_there = [{c for c, s in plan.states.items() if s == "erased"} for plan in plans]
    assert erased_there == [set(), {"Caravaggio", "Picasso"}, {"Caravaggio"}, {"Picasso"}, set()]


def test_all_spellings_of_a_selection_normalise_to_one(erased: api.Workspace) -> None:
    texts = ["without Picasso,Van Gogh", ' WITHOUT van  gogh, "picasso", Picasso ']
    [one] = {parsed(erased, text) for text in texts}
    assert one.label == "without Picasso,Van Gogh"


def test_a_name_with_a_comma_is_quoted_and_makes_another_folder(home: Path) -> None:
    workspace = api.open_workspace(Settings(home, "miniature", None))
    api.register_base(workspace, protected=["Bek, the elder", "Bek", "the elder"])
    quoted = parsed(workspace, 'without "Bek, the elder"')
    listed = parsed(workspace, "without Bek, the elder")
    assert quoted.label == 'without "Bek, the elder"'
    assert quoted.folder == f"without-{label('Bek, the elder')}"
    assert listed.folder == "without-bek+the-elder"


def test_the_folder_of_many_names_is_short_and_their_own(erased: api.Workspace) -> None:
    names = erased.known_names()
    folders = {api.Selection(without=given).folder for given in (names, names[1:])}
    assert len(folders) == 2
    assert all(len(folder) <= 100 for folder in folders)


def test_a_selection_is_a_value() -> None:
    assert api.Selection(only=["A"]) == api.Selection(only=("A",)) != api.Selection(without=["A"])
    assert api.Selection(without=[]) == api.Selection() != api.Selection(only=[])


def test_only_and_without_exclude_each_other() -> None:
    with pytest.raises(InvalidInputError, match="exclude each other"):
        api.Selection(only=["Picasso"], without=["Picasso"])


@pytest.mark.parametrize(
    "text", ["", "base", "with Picasso", "without", "only ,", "active Picasso", "none Picasso"]
)
def test_other_words_are_refused(text: str) -> None:
    with pytest.raises(InvalidInputError, match="'without A,B'"):
        api.Selection.parse(text)


def test_unknown_and_never_erased_concepts_are_refused(erased: api.Workspace) -> None:
    with pytest.raises(NotFoundError, match="Did you mean 'Picasso'"):
        parsed(erased, "without Picaso")
    with pytest.raises(NotFoundError, match="never erased"):
        api.plan_composition(erased, parsed(erased, "only Cezanne"))
