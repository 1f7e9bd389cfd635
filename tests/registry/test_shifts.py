from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from mlflow import MlflowClient

from shiftreg.errors import (
    AlreadyExistsError,
    IncompatibleError,
    IntegrityError,
    InvalidInputError,
    NotFoundError,
)
from shiftreg.registry import BaseRecord, Registry, ShiftVersion, open_registry
from shiftreg.registry.shifts import unprotected

Erase = Callable[..., ShiftVersion]


def test_a_version_is_read_back_as_it_was_registered(
    registry: Registry, erase: Erase, home: Path
) -> None:
    made = erase(
        "Pablo Picasso",
        protected=("", "Monet"),
        aliases=("Picasso",),
        reason="complaint 7",
        actor="someone",
        predecessor="b" * 64,
    )
    assert made.version == 1
    assert made.active
    assert made.reference == "Pablo Picasso@1"
    assert made.metrics == {"lpips": 0.25}
    assert made.created.endswith("+00:00")
    again = open_registry(home)
    assert again.shifts.version("miniature", "Pablo Picasso") == made
    assert again.shifts.versions("miniature", "Pablo Picasso") == [made]
    assert again.shifts.active("miniature") == [made]
    assert again.shifts.concepts("miniature") == ("Pablo Picasso",)


def test_a_new_version_leaves_the_old_one_as_it_was(registry: Registry, erase: Erase) -> None:
    first = erase("Picasso", digest="1" * 64)
    bytes_of_first = registry.shifts.download(first).read_bytes()
    second = erase("Picasso", digest="2" * 64, predecessor=first.digest)
    assert registry.shifts.versions("miniature", "Picasso") == [
        replace(first, active=False),
        second,
    ]
    assert registry.shifts.download(first).read_bytes() == bytes_of_first
    assert registry.shifts.download(second).read_bytes() != bytes_of_first
    assert registry.shifts.active("miniature") == [second]


def test_two_shifts_of_one_run_keep_their_own_files(registry: Registry, tmp_path: Path) -> None:
    file = tmp_path / "shift.safetensors"
    made = []
    with registry.trainings.run("miniature", "Picasso", {}) as log:
        pass
    for digest in ("1" * 64, "2" * 64):
        file.write_text(digest)
        metadata = {"concept": "Picasso", "digest": digest, "method": "m", "protected": ()}
        made.append(registry.shifts.register("miniature", log.run_id, file, metadata, {}))
    assert [registry.shifts.download(v).read_text() for v in made] == ["1" * 64, "2" * 64]


def test_more_than_nine_versions_are_in_order(registry: Registry, erase: Erase) -> None:
    for number in range(11):
        erase("Picasso", digest=f"{number:064}")
    assert [v.version for v in registry.shifts.versions("miniature", "Picasso")] == list(
        range(1, 12)
    )
    assert registry.shifts.version("miniature", "Picasso").version == 11


def test_versions_are_found_by_number_and_word(registry: Registry, erase: Erase) -> None:
    first = erase("Picasso", digest="1" * 64)
    second = erase("Picasso", digest="2" * 64, activate=False)
    find = registry.shifts.version
    assert find("miniature", "Picasso") == first
    assert find("miniature", "Picasso", "active") == first
    assert find("miniature", "Picasso", "latest") == second
    assert find("miniature", "Picasso", "2") == find("miniature", "Picasso", 2) == second
    with pytest.raises(NotFoundError, match=r"no version '3'.*It has 1, 2"):
        find("miniature", "Picasso", "3")
    registry.shifts.deactivate("miniature", "Picasso")
    assert find("miniature", "Picasso") == second
    with pytest.raises(NotFoundError, match="no active version"):
        find("miniature", "Picasso", "active")


def test_concepts_are_found_in_any_spelling_and_by_alias(registry: Registry, erase: Erase) -> None:
    made = erase("Georgia O'Keeffe", aliases=("O'Keeffe",))
    for spelling in ("georgia o'keeffe", " GEORGIA  O'KEEFFE", "o'keeffe"):
        assert registry.shifts.version("miniature", spelling) == made
    with pytest.raises(NotFoundError, match="Did you mean 'Georgia O'Keeffe'"):
        registry.shifts.version("miniature", "georgia-o-keeffe")


def test_an_unknown_concept_suggests_the_nearest(registry: Registry, erase: Erase) -> None:
    erase("Picasso")
    with pytest.raises(NotFoundError, match="Did you mean 'Picasso'"):
        registry.shifts.versions("miniature", "Picaso")
    with pytest.raises(NotFoundError, match="shiftreg init"):
        registry.shifts.versions("sd15", "Picasso")


ODD_NAMES = (
    "毕加索",
    "O'Keeffe",
    'the "Old" one',
    "50%_off",
    "a/b:c",
    "compositions",
    "émile ÷ 2",
    "`x`",
)


def test_concepts_may_have_odd_names(registry: Registry, erase: Erase) -> None:
    made = {name: erase(name) for name in ODD_NAMES}
    assert set(registry.shifts.concepts("miniature")) == set(ODD_NAMES)
    assert {v.concept for v in registry.shifts.active("miniature")} == set(ODD_NAMES)
    for name, version in made.items():
        assert registry.shifts.version("miniature", name) == version
        assert (
            registry.shifts.download(version).read_bytes().startswith(b"shift of " + name.encode())
        )


def test_concepts_whose_names_differ_are_kept_apart(registry: Registry, erase: Erase) -> None:
    names = ("C++", "C#", "C", "Pablo Д", "Pablo Ж", "-x", "../x", "x")
    made = {name: erase(name, digest=f"{number:064x}") for number, name in enumerate(names)}
    assert [version.version for version in made.values()] == [1] * len(names)
    assert {v.concept: v.digest for v in registry.shifts.active("miniature")} == {
        name: version.digest for name, version in made.items()
    }
    for name, version in made.items():
        assert registry.shifts.versions("miniature", name) == [version]
        assert registry.shifts.version("miniature", f" {name.upper()}  ") == version
    assert registry.shifts.deactivate("miniature", "C#") == replace(made["C#"], active=False)
    registry.remove_version(made["-x"])
    left = {version.concept for version in registry.shifts.active("miniature")}
    assert left == set(names) - {"C#", "-x"}
    assert erase("\uff43++", digest="f" * 64).version == 2, "equal when normalised"


def test_a_concept_whose_model_has_the_name_of_an_older_version_keeps_it(
    registry: Registry, erase: Erase
) -> None:
    first = erase("Čapek", digest="1" * 64)
    client = MlflowClient(registry.uri)
    (model,) = client.search_registered_models("name LIKE 'miniature.capek%'")
    client.rename_registered_model(model.name, "miniature.capek")
    assert registry.shifts.active("miniature") == [first]
    second = erase("Čapek", digest="2" * 64)
    assert second.version == 2
    assert registry.shifts.activate("miniature", "čapek", 1).version == 1
    assert [v.active for v in registry.shifts.versions("miniature", "Čapek")] == [True, False]
    with pytest.raises(AlreadyExistsError, match="is not of the concept 'capek'"):
        erase("capek", digest="3" * 64)


def test_a_model_that_is_of_something_else_is_refused(registry: Registry, erase: Erase) -> None:
    client = MlflowClient(registry.uri)
    client.create_registered_model("miniature.picasso", tags={"shiftreg.concept": "Monet"})
    with pytest.raises(AlreadyExistsError, match="is not of the concept 'Picasso'"):
        erase("Picasso")


def test_bases_keep_their_concepts_apart(
    registry: Registry, erase: Erase, record: BaseRecord
) -> None:
    names = ("a_b", "a%b", "axb")
    for name in names:
        registry.bases.save(replace(record, name=name))
        erase("Picasso " + name.replace("%", " percent "), base=name)
    for name in names:
        assert len(registry.shifts.concepts(name)) == len(registry.shifts.active(name)) == 1
    assert registry.shifts.concepts("miniature") == ()


def test_activation_moves_and_ends(registry: Registry, erase: Erase) -> None:
    first = erase("Picasso", digest="1" * 64)
    erase("Picasso", digest="2" * 64)
    assert registry.shifts.activate("miniature", "picasso", "1") == first
    assert registry.shifts.active("miniature") == [first]
    assert registry.shifts.deactivate("miniature", "Picasso") == replace(first, active=False)
    assert registry.shifts.deactivate("miniature", "Picasso") is None
    assert registry.shifts.active("miniature") == []
    assert len(registry.shifts.versions("miniature", "Picasso")) == 2
    with pytest.raises(NotFoundError):
        registry.shifts.activate("miniature", "Picasso", 9)


def test_a_version_may_be_registered_without_being_active(registry: Registry, erase: Erase) -> None:
    assert not erase("Picasso", activate=False).active
    assert registry.shifts.active("miniature") == []
    assert registry.shifts.concepts("miniature") == ("Picasso",)


def test_stale_versions_name_the_concepts_they_do_not_protect(
    registry: Registry, erase: Erase
) -> None:
    picasso = erase("Picasso", protected=("",))
    assert unprotected(registry.shifts.by_concept("miniature")) == {}
    monet = erase("Monet", protected=("", "Picasso"))
    assert unprotected(registry.shifts.by_concept("miniature")) == {picasso: ("Monet",)}
    erase("Klee", protected=("Picasso", "Monet"))
    assert unprotected(registry.shifts.by_concept("miniature")) == {
        picasso: ("Klee", "Monet"),
        monet: ("Klee",),
    }
    registry.shifts.deactivate("miniature", "Picasso")
    assert unprotected(registry.shifts.by_concept("miniature")) == {monet: ("Klee",)}
    erase("Monet", digest="2" * 64, protected=("Picasso", "Klee"))
    assert unprotected(registry.shifts.by_concept("miniature")) == {}


def test_a_prompt_that_only_mentions_a_concept_does_not_protect_it(
    registry: Registry, erase: Erase
) -> None:
    erase("Monet", protected=("Picasso",))
    picasso = erase("Picasso", protected=("a painting by Monet",))
    assert unprotected(registry.shifts.by_concept("miniature")) == {picasso: ("Monet",)}


def test_an_own_alias_need_not_be_protected(registry: Registry, erase: Erase) -> None:
    erase("Picasso", protected=("Pablo Picasso",))
    erase("Pablo Picasso", aliases=("Picasso",), protected=())
    assert unprotected(registry.shifts.by_concept("miniature")) == {}


def test_very_long_lists_of_protected_prompts_are_kept_whole(
    registry: Registry, erase: Erase, home: Path
) -> None:
    protected = tuple(f"prompt {number} 毕" for number in range(6000))
    made = erase("Picasso", protected=protected)
    assert registry.shifts.version("miniature", "Picasso") == made
    assert made.protected == protected
    (path,) = home.rglob("protected-*.json")
    path.write_text('["prompt 0"]')
    with pytest.raises(IntegrityError, match="changed"):
        registry.shifts.version("miniature", "Picasso")


def test_a_flipped_byte_of_a_kept_file_is_refused(registry: Registry, erase: Erase) -> None:
    version = erase("Picasso")
    path = registry.shifts.download(version)
    content = bytearray(path.read_bytes())
    content[0] ^= 1
    path.write_bytes(content)
    with pytest.raises(IntegrityError, match="was changed"):
        registry.shifts.download(version)
    path.unlink()
    with pytest.raises(IntegrityError, match="missing"):
        registry.shifts.download(version)


def test_a_tag_that_points_outside_the_run_is_refused(registry: Registry, erase: Erase) -> None:
    version = replace(erase("Picasso"), artifact="../../secret")
    with pytest.raises(IntegrityError, match="tag was changed"):
        registry.shifts.download(version)


def test_a_deleted_tag_is_reported(registry: Registry, erase: Erase) -> None:
    erase("Picasso")
    client = MlflowClient(registry.uri, registry_uri=registry.uri)
    client.delete_model_version_tag("miniature.picasso", "1", "shiftreg.digest")
    with pytest.raises(IntegrityError, match=r"lacks its tag 'shiftreg\.digest'"):
        registry.shifts.versions("miniature", "Picasso")


def test_a_shift_of_another_base_is_refused(registry: Registry, tmp_path: Path) -> None:
    file = tmp_path / "shift.safetensors"
    file.write_bytes(b"x")
    metadata = {"concept": "P", "digest": "a" * 64, "method": "m", "protected": ()}
    with registry.trainings.run("miniature", "P", {}) as log:
        pass
    with pytest.raises(IncompatibleError, match="was made for base ffff"):
        registry.shifts.register("miniature", log, file, metadata | {"base_digest": "f" * 64}, {})
    del metadata["digest"]
    with pytest.raises(InvalidInputError, match="'digest'"):
        registry.shifts.register("miniature", log, file, metadata, {})
    assert registry.shifts.concepts("miniature") == ()
