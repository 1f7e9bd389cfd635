"""Bases: one MLflow experiment each, with the record in the run that its tag names."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from shiftreg.concepts import slug
from shiftreg.errors import (
    AlreadyExistsError,
    IntegrityError,
    InvalidInputError,
    NotFoundError,
    StorageError,
)
from shiftreg.registry.failures import MISSING, Suppressed
from shiftreg.registry.records import BaseRecord
from shiftreg.registry.runs import (
    fetch_verified,
    find_or_create_experiment,
    local_folder,
    log_text,
    refuse_moved,
    start_run,
)
from shiftreg.registry.server import require_proxied_artifacts
from shiftreg.registry.store import Section, Store, translates_errors

if TYPE_CHECKING:
    from mlflow.entities import Experiment

RECORD = "base.json"
RECORD_DIGEST = "shiftreg.record_sha256"


class Bases(Section):
    """The bases that shifts are made for."""

    @translates_errors
    def save(self, record: BaseRecord) -> None:
        """Keeps a base's record; the same base again replaces its lists and settings.

        Raises:
            InvalidInputError: The name cannot be a base's.
            AlreadyExistsError: The name, or one that is too like it, stands for something else.
        """
        store, client = self.store, self.store.client
        experiment = _claim(store, record)
        if experiment.tags["shiftreg.digest"] != record.digest:
            raise AlreadyExistsError(
                f"Base '{record.name}' is registered with digest "
                f"{experiment.tags['shiftreg.digest'][:12]}, and this one has "
                f"{record.digest[:12]}. Its shifts would not fit: register this base under "
                "another name (--name)."
            )
        run = start_run(
            store,
            experiment.experiment_id,
            f"base {record.name}",
            {
                "shiftreg.kind": "base",
                "shiftreg.digest": record.digest,
                RECORD_DIGEST: record.record_digest,
                "mlflow.note.content": f"The base model `{record.name}`, from {record.source}.",
            },
        )
        log_text(store, run.info.run_id, record.to_json(), RECORD)
        client.set_terminated(run.info.run_id)
        # Last, so that an interrupted save leaves the old record standing.
        client.set_experiment_tag(experiment.experiment_id, "shiftreg.base_run", run.info.run_id)

    @translates_errors
    def read(self, name: str) -> BaseRecord:
        """The record of a base.

        Raises:
            NotFoundError: No base has this name.
            IntegrityError: The record is missing or damaged.
        """
        return base_record(self.store, find_experiment(self.store, name))

    @translates_errors
    def all(self) -> tuple[BaseRecord, ...]:
        """The records of all bases, by name."""
        return tuple(base_record(self.store, found) for found in base_experiments(self.store))


def base_experiments(store: Store) -> list[Experiment]:
    """The experiments of all bases that are fully registered, by name."""
    experiments = store.client.search_experiments(filter_string="tags.`shiftreg.kind` = 'base'")
    whole = [experiment for experiment in experiments if "shiftreg.base_run" in experiment.tags]
    return sorted(whole, key=lambda experiment: str(experiment.name))


def find_experiment(store: Store, name: str) -> Experiment:
    """The experiment of a base that is fully registered.

    Raises:
        NotFoundError: No base has this name.
        StorageError: Its files belong to another place.
    """
    experiment = store.client.get_experiment_by_name(name)
    if (
        experiment is None
        or experiment.lifecycle_stage != "active"
        or "shiftreg.base_run" not in experiment.tags
    ):
        raise NotFoundError(f"Base '{name}' is not registered. Register it: shiftreg init")
    require_proxied_artifacts(store.uri, experiment.artifact_location)
    if folder := local_folder(experiment.artifact_location):
        refuse_moved(store, folder)
    return experiment


def base_record(store: Store, experiment: Experiment) -> BaseRecord:
    """The record that an experiment's tag names.

    Raises:
        IntegrityError: It is missing or damaged.
    """
    try:
        path = _record_file(store, experiment.tags["shiftreg.base_run"])
    except IntegrityError as error:
        raise IntegrityError(
            f"The record of base '{experiment.name}' cannot be used. {error} Or register the base "
            f"again, with the same options: shiftreg init"
        ) from error
    return BaseRecord.from_json(path.read_text(encoding="utf-8"))


def _record_file(store: Store, run_id: str) -> Path:
    run = None
    with Suppressed(MISSING):
        run = store.client.get_run(run_id)
    if run is None:
        raise IntegrityError(
            f"Its run {run_id} is missing from MLflow. Restore the registry from a backup."
        )
    # With the run, not the experiment: record and digest are exchanged in one step.
    return fetch_verified(store, run_id, RECORD, run.data.tags.get(RECORD_DIGEST, ""))


def _claim(store: Store, record: BaseRecord) -> Experiment:
    """The experiment of a name, made if there is none."""
    name, word = record.name, slug(record.name)
    if not word or name != name.strip() or len(name) > 100 or not name.isprintable():
        raise InvalidInputError(
            f"A base's name has 1 to 100 visible characters with a letter or digit: {name!r}."
        )
    client = store.client
    if client.get_experiment_by_name(name) is None:
        found_alike = client.search_experiments(filter_string=f"tags.`shiftreg.slug` = '{word}'")
        # Another client may have registered this very name since we asked for it.
        if alike := [experiment for experiment in found_alike if experiment.name != name]:
            raise AlreadyExistsError(
                f"Base '{name}' cannot be distinguished from '{alike[0].name}' in the names of "
                "registered models. Choose another name (--name)."
            )
    found = find_or_create_experiment(
        store,
        name,
        {
            "shiftreg.kind": "base",
            "shiftreg.digest": record.digest,
            "shiftreg.slug": word,
            # Opens MLflow's pages on runs and metrics, not on traces of conversations.
            "mlflow.experimentKind": "custom_model_development",
            "mlflow.note.content": (
                f"Concept shifts of the base model `{name}`, from {record.source}, "
                f"digest `{record.digest}`."
            ),
        },
        store.artifacts(word),
    )
    if found.lifecycle_stage != "active":
        raise StorageError(
            f"Experiment '{name}' was deleted in MLflow. "
            "Restore it there, or remove it for good: mlflow gc"
        )
    if found.tags.get("shiftreg.kind") != "base":
        raise AlreadyExistsError(
            f"Experiment '{name}' exists in {store.uri} and is not shiftreg's. "
            "Choose another name for the base (--name)."
        )
    require_proxied_artifacts(store.uri, found.artifact_location)
    return found
