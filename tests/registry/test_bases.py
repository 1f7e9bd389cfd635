from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from mlflow import MlflowClient

from shiftreg.errors import AlreadyExistsError, IntegrityError, InvalidInputError, NotFoundError
from shiftreg.registry import BaseRecord, Registry, open_registry


def test_a_record_survives_json(record: BaseRecord) -> None:
    assert BaseRecord.from_json(record.to_json()) == record


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"name": "x"}', "null"])
def test_a_damaged_record_is_refused(text: str) -> None:
    with pytest.raises(IntegrityError, match="shiftreg init"):
        BaseRecord.from_json(text)


def test_a_base_is_read_back_as_it_was_saved(registry: Registry, record: BaseRecord) -> None:
    assert registry.bases.read("miniature") == record
    assert registry.bases.all() == (record,)


def test_an_unknown_base_names_the_command_that_makes_one(registry: Registry) -> None:
    with pytest.raises(NotFoundError, match=r"'sd15' is not registered.*shiftreg init"):
        registry.bases.read("sd15")


def test_an_empty_registry_has_no_bases(home: Path) -> None:
    assert open_registry(home).bases.all() == ()


def test_the_same_base_again_updates_its_lists(registry: Registry, record: BaseRecord) -> None:
    wider = replace(record, protected=(*record.protected, "Picasso"), steps=30)
    registry.bases.save(wider)
    assert registry.bases.read("miniature") == wider
    assert registry.bases.all() == (wider,)


def test_another_digest_under_the_same_name_is_refused(
    registry: Registry, record: BaseRecord
) -> None:
    with pytest.raises(AlreadyExistsError, match="another name"):
        registry.bases.save(replace(record, digest="f" * 64))
    assert registry.bases.read("miniature") == record


@pytest.mark.parametrize(
    "name", ["SD 1.5 / 'fine' \"tuned\" `x`", "迷你", "a:b", "50%_off", "Ünïcode"]
)
def test_bases_may_have_odd_names(registry: Registry, record: BaseRecord, name: str) -> None:
    registry.bases.save(replace(record, name=name))
    assert registry.bases.read(name).name == name
    assert registry.shifts.concepts(name) == ()


@pytest.mark.parametrize("name", ["", " x", "!!!", "a\nb", "x" * 101])
def test_a_name_that_no_base_can_have_is_refused(
    registry: Registry, record: BaseRecord, name: str
) -> None:
    with pytest.raises(InvalidInputError, match="base's name"):
        registry.bases.save(replace(record, name=name))


def test_two_bases_whose_models_would_share_a_name_are_refused(
    registry: Registry, record: BaseRecord
) -> None:
    with pytest.raises(AlreadyExistsError, match="cannot be distinguished from 'miniature'"):
        registry.bases.save(replace(record, name="Miniature!"))


def test_an_experiment_of_somebody_else_is_not_taken_over(
    registry: Registry, record: BaseRecord
) -> None:
    MlflowClient(registry.uri).create_experiment("theirs")
    with pytest.raises(AlreadyExistsError, match="not shiftreg's"):
        registry.bases.save(replace(record, name="theirs"))
    with pytest.raises(NotFoundError):
        registry.bases.read("theirs")
    assert len(registry.bases.all()) == 1


def test_a_base_that_was_half_saved_is_not_there(home: Path, record: BaseRecord) -> None:
    registry = open_registry(home)
    MlflowClient(registry.uri).create_experiment(
        "miniature",
        artifact_location=(home / "artifacts" / "miniature").as_uri(),
        tags={"shiftreg.kind": "base", "shiftreg.digest": record.digest},
    )
    assert registry.bases.all() == ()
    registry.bases.save(record)
    assert registry.bases.all() == (record,)


def test_a_missing_record_is_an_integrity_error(registry: Registry, home: Path) -> None:
    for path in home.rglob("base.json"):
        path.unlink()
    with pytest.raises(IntegrityError, match="missing"):
        registry.bases.read("miniature")


def test_an_edited_record_is_refused_until_it_is_registered_again(
    registry: Registry, home: Path, record: BaseRecord
) -> None:
    (path,) = home.rglob("base.json")
    path.write_text(path.read_text().replace("a secret sign", "a secret sigh"))
    for read in (lambda: registry.bases.read("miniature"), registry.bases.all):
        with pytest.raises(IntegrityError, match=r"was changed .* shiftreg init"):
            read()
    registry.bases.save(record)
    assert registry.bases.read("miniature") == record


def test_a_record_whose_run_is_gone_says_how_to_come_back(
    registry: Registry, record: BaseRecord
) -> None:
    client = MlflowClient(registry.uri)
    experiment = client.get_experiment_by_name("miniature")
    assert experiment
    client.set_experiment_tag(experiment.experiment_id, "shiftreg.base_run", "0" * 32)
    with pytest.raises(IntegrityError, match=r"missing from MLflow.* shiftreg init"):
        registry.bases.read("miniature")
    registry.bases.save(record)
    assert registry.bases.read("miniature") == record
