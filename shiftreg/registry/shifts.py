"""Versions of shifts: one registered model a concept, one version a shift."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shiftreg.concepts import label
from shiftreg.errors import IncompatibleError, InvalidInputError, NotFoundError
from shiftreg.registry.bases import find_experiment
from shiftreg.registry.models import (
    base_tags,
    claim_model,
    create_version,
    find_model,
    list_models,
    reading_tags,
    search_versions,
    tag_filter,
    utc,
)
from shiftreg.registry.records import ShiftVersion
from shiftreg.registry.runs import (
    artifacts,
    fetch,
    fetch_verified,
    file_digest,
    from_tag,
    log_file,
    to_tag,
)
from shiftreg.registry.store import Section, Store, translates_errors
from shiftreg.registry.training import TrainingLog, log_metrics

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion, RegisteredModel

TEXT_FIELDS = ("base", "concept", "digest", "method", "artifact", "file_digest")
LONG_FIELDS = ("aliases", "protected", "metrics")
ACTIVE = "active"
SAMPLES = "samples"


class Shifts(Section):
    """The versions of every concept's shift."""

    @translates_errors
    def register(
        self,
        base: str,
        run: TrainingLog | str,
        shift_file: Path,
        shift_metadata: Mapping[str, Any],
        metrics: Mapping[str, float],
        *,
        predecessor: str | None = None,
        reason: str = "",
        actor: str = "",
        activate: bool = True,
    ) -> ShiftVersion:
        """Makes a new version from a shift file. Versions never change and are never reused.

        Args:
            run: The training's log, or the id of its run.
            shift_file: The file; a copy is kept.
            shift_metadata: "concept", "digest", "method" and "protected"; perhaps "aliases", "kind"
                and "base_digest".
            metrics: Measured on the shift.
            predecessor: Digest of the version that it replaces with a wider protection.
            activate: Whether it becomes the active version.

        Raises:
            NotFoundError: The base or the file does not exist.
            IncompatibleError: The shift was made for another base.
            InvalidInputError: Metadata is missing.
            AlreadyExistsError: Something else has the name of the concept's model.
        """
        store = self.store
        try:
            concept, digest, method = (shift_metadata[k] for k in ("concept", "digest", "method"))
            protected = tuple(shift_metadata["protected"])
        except KeyError as error:
            raise InvalidInputError(
                f"The metadata of a shift must name its {error}; it names {sorted(shift_metadata)}."
            ) from error
        experiment = find_experiment(store, base)
        made_for = shift_metadata.get("base_digest", experiment.tags["shiftreg.digest"])
        if made_for != experiment.tags["shiftreg.digest"]:
            raise IncompatibleError(
                f"The shift of '{concept}' was made for base {made_for[:12]}, and '{base}' is "
                f"{experiment.tags['shiftreg.digest'][:12]}. Erase the concept on this base."
            )
        run_id = run if isinstance(run, str) else run.run_id
        aliases = tuple(shift_metadata.get("aliases", ()))
        # The digest in its name keeps a second shift of the same run from taking its place.
        artifact = f"shift/{label(concept)}-{digest[:12]}{Path(shift_file).suffix}"
        log_file(store, run_id, Path(shift_file), artifact)
        tags = base_tags(base, "shift") | {
            "shiftreg.concept": concept,
            "shiftreg.aliases": to_tag(store, run_id, "aliases", aliases),
            "shiftreg.digest": digest,
            "shiftreg.method": method,
            "shiftreg.reason": reason,
            "shiftreg.actor": actor,
            "shiftreg.protected": to_tag(store, run_id, "protected", protected),
            "shiftreg.metrics": to_tag(store, run_id, "metrics", dict(metrics)),
            "shiftreg.artifact": artifact,
            "shiftreg.file_digest": file_digest(Path(shift_file)),
        }
        if predecessor:
            tags["shiftreg.predecessor"] = predecessor
        log_metrics(store, run_id, metrics)

        name = claim_model(store, base, concept, aliases, str(shift_metadata.get("kind", "")))
        what = reason or f"Shift that erases {concept}."
        entry = create_version(store, name, f"runs:/{run_id}/{artifact}", run_id, tags, what)
        if isinstance(run, TrainingLog):
            run.is_registered = True
        # Last: whoever reads the alias finds a version that is whole.
        if activate:
            store.client.set_registered_model_alias(name, ACTIVE, str(entry.version))
        return shift_version(store, entry, activate)

    @translates_errors
    def concepts(self, base: str) -> tuple[str, ...]:
        """Names of all concepts that have a version, as they were registered."""
        return tuple(model.tags["shiftreg.concept"] for model in list_models(self.store, base))

    @translates_errors
    def versions(self, base: str, concept: str) -> list[ShiftVersion]:
        """All versions of a concept, oldest first.

        Raises:
            NotFoundError: The base or the concept is not registered.
        """
        return _versions(self.store, find_model(self.store, base, concept))

    @translates_errors
    def by_concept(self, base: str) -> dict[str, list[ShiftVersion]]:
        """All versions of all concepts, in two queries.

        Returns:
            Name of a concept -> its versions, oldest first.
        """
        models = {model.name: model for model in list_models(self.store, base)}
        found: dict[str, list[ShiftVersion]] = {
            model.tags["shiftreg.concept"]: [] for model in models.values()
        }
        for entry in search_versions(self.store, tag_filter(base, "shift")):
            # A concept whose first version came between the two queries is not listed yet.
            if model := models.get(entry.name):
                version = shift_version(self.store, entry, _is_active(entry, model))
                found[model.tags["shiftreg.concept"]].append(version)
        return found

    @translates_errors
    def version(self, base: str, concept: str, ref: str | int | None = None) -> ShiftVersion:
        """One version of a concept.

        Args:
            concept: Its name or an alias; case does not matter.
            ref: A number, "active" or "latest"; by default the active or else the latest one.

        Raises:
            NotFoundError: The base, the concept or the version is not registered.
        """
        model = find_model(self.store, base, concept)
        found = _versions(self.store, model)
        name = model.tags["shiftreg.concept"]
        active = [version for version in found if version.active]
        word = "" if ref is None else str(ref).removeprefix("v")
        if word in ("", "latest"):
            return (active if word == "" and active else found)[-1]
        if word == ACTIVE:
            if not active:
                raise NotFoundError(
                    f"Concept '{name}' has no active version on base '{base}'. "
                    f"Activate one: shiftreg erase '{name}@{found[-1].version}'"
                )
            return active[0]
        for version in found:
            if word == str(version.version):
                return version
        raise NotFoundError(
            f"Concept '{name}' has no version '{ref}' on base '{base}'. "
            f"It has {', '.join(str(version.version) for version in found)}."
        )

    @translates_errors
    def active(self, base: str) -> list[ShiftVersion]:
        """The active versions of all concepts, by concept."""
        numbers = active_numbers(self.store, base)
        entries = search_versions(self.store, tag_filter(base, "shift"))
        chosen = (one for one in entries if str(one.version) == numbers.get(one.name))
        found = [shift_version(self.store, entry, True) for entry in chosen]
        return sorted(found, key=lambda version: version.concept)

    @translates_errors
    def activate(self, base: str, concept: str, version: str | int | ShiftVersion) -> ShiftVersion:
        """Makes one version the active one. Hold the registry's lock for it.

        Raises:
            NotFoundError: The base, the concept or the version is not registered.
        """
        chosen = version
        if not isinstance(chosen, ShiftVersion):
            chosen = self.version(base, concept, chosen)
        name = find_model(self.store, base, chosen.concept).name
        self.store.client.set_registered_model_alias(name, ACTIVE, str(chosen.version))
        return replace(chosen, active=True)

    @translates_errors
    def deactivate(self, base: str, concept: str) -> ShiftVersion | None:
        """Leaves a concept without active version; its versions stay. Hold the registry's lock.

        Returns:
            The version that was active, as it is now; None if there was none.

        Raises:
            NotFoundError: The base or the concept is not registered.
        """
        model = find_model(self.store, base, concept)
        version = model.aliases.get(ACTIVE)
        if version is None:
            return None
        self.store.client.delete_registered_model_alias(model.name, ACTIVE)
        return self.version(base, concept, version)

    @translates_errors
    def download(self, version: ShiftVersion) -> Path:
        """A local file of a version, whose bytes are those that were registered; do not change it.

        Raises:
            IntegrityError: The file is missing or was changed.
        """
        return fetch_verified(self.store, version.run_id, version.artifact, version.file_digest)

    @translates_errors
    def keep_samples(self, version: ShiftVersion, path: Path) -> None:
        """Keeps an image of what a version does; its name begins with the shift's digest."""
        log_file(self.store, version.run_id, path, f"{SAMPLES}/{path.name}")

    @translates_errors
    def download_samples(self, version: ShiftVersion) -> Path | None:
        """A local image of what a version does; None if none was kept.

        Its digest is in the audit trail, not here.
        """
        # A run may hold the images of several shifts; the digest in the name tells them apart.
        for file in artifacts(self.store, version.run_id).list_artifacts(SAMPLES):
            if Path(file.path).name.startswith(version.digest[:16]):
                return fetch(self.store, version.run_id, file.path)
        return None


def active_numbers(store: Store, base: str) -> dict[str, str]:
    """Registered model -> number of its active version, "None" where there is none."""
    return {model.name: str(model.aliases.get(ACTIVE)) for model in list_models(store, base)}


def unprotected(
    versions: Mapping[str, Sequence[ShiftVersion]],
) -> dict[ShiftVersion, tuple[str, ...]]:
    """Active separable versions that do not protect every other registered concept.

    Args:
        versions: What :meth:`Shifts.by_concept` found.

    Returns:
        Version -> names of the concepts that it does not protect.
    """
    found = {}
    active = (v for concept in versions.values() for v in concept if v.active)
    for version in sorted(active, key=lambda version: version.concept):
        if not version.protected:  # its method is not separable: no refresh would change that
            continue
        known = {version.concept, *version.aliases, *version.protected}
        if missing := tuple(name for name in versions if name not in known):
            found[version] = missing
    return found


def _versions(store: Store, model: RegisteredModel) -> list[ShiftVersion]:
    entries = search_versions(store, f"name = '{model.name}'")
    return [shift_version(store, entry, _is_active(entry, model)) for entry in entries]


def _is_active(entry: ModelVersion, model: RegisteredModel) -> bool:
    return str(entry.version) == str(model.aliases.get(ACTIVE))


def shift_version(store: Store, entry: ModelVersion, active: bool) -> ShiftVersion:
    """What a version in MLflow says.

    Raises:
        IntegrityError: A tag is missing, or what it stands for was changed.
    """
    tags, run_id = entry.tags, entry.run_id or ""
    with reading_tags(entry):
        long = {
            name: from_tag(store, run_id, name, tags[f"shiftreg.{name}"]) for name in LONG_FIELDS
        }
        return ShiftVersion(
            aliases=tuple(long["aliases"]),
            version=int(entry.version),
            active=active,
            created=utc(entry.creation_timestamp),
            run_id=run_id,
            reason=tags.get("shiftreg.reason", ""),
            actor=tags.get("shiftreg.actor", ""),
            protected=tuple(long["protected"]),
            predecessor=tags.get("shiftreg.predecessor"),
            metrics=long["metrics"],
            **{name: tags[f"shiftreg.{name}"] for name in TEXT_FIELDS},
        )
