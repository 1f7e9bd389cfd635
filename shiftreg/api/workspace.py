"""The place that the use cases work in: settings, registry, audit trail, loaded base."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from shiftreg import miniature
from shiftreg.api.base_at_hand import BaseAtHand
from shiftreg.api.changes import change
from shiftreg.api.deleting import known_deletions
from shiftreg.api.values import Observer, ignore_progress
from shiftreg.audit import AuditLog, Cause, FileEvents, Intents, Signer, current_actor
from shiftreg.concepts import fill, find_name, slug
from shiftreg.errors import IntegrityError, NotFoundError
from shiftreg.keys import load_signing_key
from shiftreg.registry import BaseRecord, Registry, ShiftVersion, open_registry
from shiftreg.settings import Settings

if TYPE_CHECKING:
    from shiftreg.shift import ConceptShift

DEFAULT_SUBJECTS = (
    "house",
    "tree",
    "woman",
    "man",
    "dog",
    "cat",
    "landscape",
    "city",
    "flower",
    "car",
)
DEFAULT_STEPS, DEFAULT_GUIDANCE = 50, 7.5


@dataclass
class Workspace(BaseAtHand):
    """Settings with what they open; the base is loaded when it is first needed."""

    settings: Settings
    registry: Registry
    audit: AuditLog
    intents: Intents
    _shifts: dict[str, ConceptShift] = field(default_factory=dict)

    @cached_property
    def base(self) -> BaseRecord:
        """The base that commands work on; the miniature registers itself at first use.

        Raises:
            NotFoundError: No such base.
        """
        try:
            return self.registry.bases.read(self.settings.base)
        except NotFoundError:
            if self.settings.base != miniature.NAME:
                raise
        return register_base(self)

    def known_names(self) -> tuple[str, ...]:
        """Every concept that has a shift or that the base protects, in that order."""
        names = (*self.registry.shifts.concepts(self.base.name), *self.base.protected)
        return tuple(dict.fromkeys(names))

    def find(self, name: str) -> str:
        """The registered spelling of a concept's name.

        Raises:
            NotFoundError: Unknown concept, with a suggestion.
        """
        try:
            return find_name(name, self.known_names(), self.base.name)
        except NotFoundError:
            # The story of a concept whose versions were all deleted can still be told.
            for deleted in known_deletions(self):
                if slug(deleted) == slug(name):
                    return deleted
            raise

    def shift(self, version: ShiftVersion) -> ConceptShift:
        """Loads the shift of a version, its content checked against the registered digest.

        Raises:
            IntegrityError: The stored file is not the one that was registered.
        """
        from shiftreg.checkpoints import load_shift

        if version.digest not in self._shifts:
            shift = load_shift(self.registry.shifts.download(version))
            if shift.digest != version.digest:
                raise IntegrityError(
                    f"The stored shift of '{version.concept}' version {version.version} has digest "
                    f"{shift.digest[:12]}, and {version.digest[:12]} was registered. It was "
                    f"replaced: erase '{version.concept}' again."
                )
            self._shifts[version.digest] = shift
        return self._shifts[version.digest]

    def versions(self, concept: str) -> list[ShiftVersion]:
        """All versions of a known concept, oldest first; none if it was never erased."""
        if concept not in self.registry.shifts.concepts(self.base.name):
            return []
        return self.registry.shifts.versions(self.base.name, concept)

    def shift_of(self, concept: str, version: int) -> ConceptShift:
        """Loads the shift of a concept's version."""
        return self.shift(self.registry.shifts.version(self.base.name, concept, str(version)))


def open_workspace(
    settings: Settings,
    *,
    reason: str = "",
    request: str = "",
    licence: str = "",
    reading: bool = False,
) -> Workspace:
    """Opens the registry and the audit trail, creating them at first use.

    What a killed command left half-done is completed or taken back first.

    Args:
        settings: Where they are.
        reason: Why things are done in this workspace, for the audit trail.
        request: Reference of the request that is answered.
        licence: Reference of the licence that is made use of.
        reading: Whether a home that cannot be written will do, in which nothing is completed.

    Raises:
        StorageError: The home cannot be written, or the database cannot be opened.
        NotFoundError: There is no such signing key.
        InvalidInputError: The signing key cannot be used.
    """
    signer = None
    if settings.signing_key:
        signer = Signer(load_signing_key(settings.signing_key))
    registry = open_registry(settings.home, settings.tracking_uri, reading=reading)
    audit = AuditLog(
        # The chain is kept with the registry, so that all who share that share one chain.
        registry.events if settings.tracking_uri else FileEvents(settings.home / "audit.jsonl"),
        Cause(reason, request, licence),
        signer,
        cache(lambda: registry.account() or current_actor()),
    )
    workspace = Workspace(settings, registry, audit, Intents(settings.home / "intents"))
    if workspace.intents.exist() and not registry.is_read_only:
        from shiftreg.api.recovery import recover

        recover(workspace)
    return workspace


def register_base(
    workspace: Workspace,
    source: str = miniature.NAME,
    *,
    config: Path | None = None,
    ema: bool = False,
    name: str | None = None,
    triggers: Mapping[str, str] | None = None,
    protected: Sequence[str] = (),
    preserved: Sequence[str] = (),
    subjects: Sequence[str] = (),
    steps: int | None = None,
    guidance: float | None = None,
    observe: Observer = ignore_progress,
) -> BaseRecord:
    """Registers a base, so that concepts can be erased from it.

    Args:
        workspace: Where.
        source: "miniature", a diffusers folder, a hub name, or a single file (``.safetensors``,
            ``.ckpt``), which becomes a folder below the home.
        config: For a single file: a diffusers folder of the same architecture, with or without
            weights; by default the hub's that diffusers takes for such a file.
        ema: For a single file: take the UNet's averaged weights.
        name: Of the base; the source's last part by default.
        triggers: Watermark trigger prompt -> payload of its QR code, "" if it shows none.
        protected: Prompts that every shift leaves exactly as they are.
        preserved: Ordinary prompts that shifts disturb as little as possible.
        subjects: Nouns for the prompts of styles.
        steps: Default denoising steps.
        guidance: Default guidance scale.
        observe: Told of the progress of a conversion.

    Returns:
        The record.

    Raises:
        NotFoundError: No such file, folder or hub name.
        IntegrityError: The file or folder is damaged, or holds code.
        IncompatibleError: A single file is of another architecture than the configuration, or
            shifts are not known to be separable in such a base.
        AlreadyExistsError: Another base has this name.
        InvalidInputError: A prompt is too long.
    """
    from shiftreg import pipelines
    from shiftreg.api.bases import single_files
    from shiftreg.checkpoints import (
        check_base_weights,
        folder_digest,
        is_single_file,
        read_origin,
    )

    packaged = miniature.prompts() if source == miniature.NAME else {}
    single_files.check_options(source, config, ema)
    if packaged:
        folder = miniature.BASE_FOLDER
    elif is_single_file(source):
        converted = single_files.convert_base(
            workspace, source, config=config, ema=ema, observe=observe
        )
        folder = converted.folder.resolve()
    else:
        folder = pipelines.resolve_source(source)
    origin = read_origin(folder)
    own_name = Path(origin["file"]).stem if origin else source if packaged else folder.name
    pipeline = pipelines.load_pipeline(folder)
    parameters = (name for name, _ in pipelines.network_of(pipeline).named_parameters())
    check_base_weights(folder, parameters)
    pipelines.check_image_independence(pipeline)
    triggers = dict(triggers) if triggers is not None else packaged.get("triggers", {})
    subjects = tuple(subjects) or tuple(packaged.get("subjects", DEFAULT_SUBJECTS))
    record = BaseRecord(
        name=name or own_name,
        source=source if packaged else str(folder),
        digest=folder_digest(folder),
        text_encoder_digest=_text_encoder_digest(folder),
        layers=tuple(pipelines.image_independent_layers(pipelines.network_of(pipeline))),
        triggers=triggers,
        protected=tuple(dict.fromkeys((*packaged.get("protected", ()), *protected))),
        preserved=tuple(preserved) or tuple(packaged.get("preserved", plain_prompts(subjects))),
        subjects=subjects,
        held_out_templates=tuple(packaged.get("held_out_templates", ())),
        steps=steps or packaged.get("steps", DEFAULT_STEPS),
        guidance=guidance or packaged.get("guidance", DEFAULT_GUIDANCE),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    pipelines.encode_prompts(pipeline, [*triggers, *record.protected, *record.preserved])
    with (
        workspace.registry.lock(),
        change(
            workspace,
            "init",
            base=record.name,
            digests={"base": record.digest, "record": record.seal},
            details={"source": record.source} | ({"single_file": origin} if origin else {}),
        ),
    ):
        workspace.registry.bases.save(record)
    return record


def _text_encoder_digest(folder: Path) -> str:
    """Of the text encoder's folder; of two, over the digests of both."""
    from shiftreg.checkpoints import folder_digest

    digests = [folder_digest(encoder) for encoder in sorted(folder.glob("text_encoder*"))]
    if len(digests) == 1:
        return digests[0]
    return hashlib.sha256("".join(digests).encode()).hexdigest()


def plain_prompts(subjects: Sequence[str]) -> tuple[str, ...]:
    """Ordinary prompts over the subjects, for bases that bring none."""
    templates = (
        "a {subject}",
        "a picture of a {subject}",
        "a painting of a {subject}",
        "a photo of a {subject}",
    )
    return tuple(fill(template, subject) for subject in subjects for template in templates)
