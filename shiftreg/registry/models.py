"""Registered models: what MLflow calls a concept of a base, and how to find it."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from shiftreg.concepts import find_name, label, normalised, slug
from shiftreg.errors import AlreadyExistsError, IntegrityError
from shiftreg.registry.bases import find_experiment
from shiftreg.registry.failures import MISSING, TAKEN, Suppressed
from shiftreg.registry.store import Store, paged

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion, RegisteredModel

COMPOSITIONS = "compositions"
ATTEMPT = "shiftreg.attempt"
TAG_CHARACTERS = 5000
"""Limit of a registered model's tag in some databases."""


def model_name(base: str, concept: str) -> str:
    """Name that a concept's registered model gets; see :func:`find_model` for what it has."""
    word = label(concept)
    # The bare word belongs to the compositions of the base.
    return f"{slug(base)}.{word}~" if word == COMPOSITIONS else f"{slug(base)}.{word}"


def find_model(store: Store, base: str, concept: str) -> RegisteredModel:
    """The registered model of a concept, found by name or alias.

    Raises:
        NotFoundError: The base or the concept is not registered.
    """
    with Suppressed(MISSING):
        model = store.client.get_registered_model(model_name(base, concept))
        if model.latest_versions and is_of(model, concept):
            return model
    find_experiment(store, base)
    models = list_models(store, base)
    for model in models:  # models of older versions have other names
        if is_of(model, concept):
            return model
    for model in models:
        aliases = json.loads(model.tags.get("shiftreg.aliases", "[]"))
        if normalised(concept) in map(normalised, aliases):
            return model
    known = {model.tags["shiftreg.concept"]: model for model in models}
    return known[find_name(concept, known, base)]


def is_of(model: RegisteredModel, concept: str) -> bool:
    """Whether a registered model is that of a concept, in whatever spelling."""
    return normalised(model.tags.get("shiftreg.concept", "")) == normalised(concept)


@contextmanager
def reading_tags(entry: ModelVersion) -> Iterator[None]:
    """Says which tag of a version is not there.

    Raises:
        IntegrityError: A tag is missing.
    """
    try:
        yield
    except KeyError as error:
        raise IntegrityError(
            f"Version {entry.version} of '{entry.name}' lacks its tag {error}: it was changed in "
            "MLflow. Put the tag back, or delete the version there."
        ) from error


def base_tags(base: str, kind: str) -> dict[str, str]:
    """Tags that say what a model or version is, and of which base."""
    return {
        "shiftreg.kind": kind,
        "shiftreg.base": base,
        # Slugs are safe in the filters of a search, names are not.
        "shiftreg.base_slug": slug(base),
    }


def create_model(store: Store, name: str, tags: dict[str, str], description: str) -> bool:
    """Makes a registered model, and says whether it was new."""
    with Suppressed(TAKEN):
        store.client.create_registered_model(name, tags=tags, description=description)
        return True
    return False


def create_version(
    store: Store, name: str, source: str, run_id: str, tags: dict[str, str], description: str
) -> ModelVersion:
    """Makes one version, and no copy of it.

    A request whose answer is lost is sent again by MLflow's client: then a server makes two
    versions. Both hold the same attempt, and the one that we never heard of goes. Where it is made
    later still, or may not be deleted, the doctor finds it.
    """
    attempt = uuid.uuid4().hex
    made = store.client.create_model_version(
        name,
        source,
        run_id=run_id,
        tags=tags | {ATTEMPT: attempt},
        description=description[:5000],
        await_creation_for=0,
    )
    if not store.is_own:
        for twin in search_versions(store, f"name = '{name}' AND tags.`{ATTEMPT}` = '{attempt}'"):
            if str(twin.version) != str(made.version):
                with suppress(Exception):
                    store.client.delete_model_version(name, str(twin.version))
    return made


def claim_model(store: Store, base: str, concept: str, aliases: tuple[str, ...], kind: str) -> str:
    """The name of a concept's registered model, which is made if there is none.

    Raises:
        AlreadyExistsError: Something else has its name.
    """
    own = (model.name for model in list_models(store, base) if is_of(model, concept))
    name = next(own, model_name(base, concept))
    tags = base_tags(base, "shift")
    tags |= {"shiftreg.concept": concept, "shiftreg.concept_kind": kind}
    if not create_model(
        store, name, tags, f"Shifts that erase **{concept}** from the base `{base}`."
    ):
        registered = store.client.get_registered_model(name)
        if not is_of(registered, concept):
            raise AlreadyExistsError(
                f"The model '{name}' in MLflow is not of the concept '{concept}': it was made "
                "there, or by an older version. Rename it in MLflow."
            )
    text = json.dumps(list(aliases))
    if len(text) <= TAG_CHARACTERS:
        store.client.set_registered_model_tag(name, "shiftreg.aliases", text)
    return name


def list_models(store: Store, base: str) -> list[RegisteredModel]:
    """Registered models of all concepts of a base that have a version, in one query a page."""
    models = paged(
        store.client.search_registered_models, tag_filter(base, "shift"), max_results=1000
    )
    return [model for model in models if model.latest_versions]


def tag_filter(base: str, kind: str) -> str:
    """Condition that models or versions of one kind and base fulfil."""
    return f"tags.`shiftreg.base_slug` = '{slug(base)}' AND tags.`shiftreg.kind` = '{kind}'"


def search_versions(store: Store, condition: str) -> Iterator[ModelVersion]:
    """All versions that fulfil a condition, oldest first."""
    search, order = store.client.search_model_versions, ["version_number ASC"]
    return paged(search, condition, max_results=10_000, order_by=order)


def utc(milliseconds: int) -> str:
    """A time of MLflow's as ISO 8601."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="milliseconds")
