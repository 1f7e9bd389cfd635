"""Registering a base: its weights, its triggers, and the prompts that shifts protect."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from shiftreg import checkpoints, miniature, pipelines
from shiftreg.api.bases.single_files import check_options, convert_base
from shiftreg.api.changes import change
from shiftreg.api.values import Observer, ignore_progress
from shiftreg.api.workspace import Workspace
from shiftreg.concepts import fill
from shiftreg.registry import BaseRecord

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
    packaged = miniature.prompts() if source == miniature.NAME else {}
    check_options(source, config, ema)
    if packaged:
        folder = miniature.BASE_FOLDER
    elif checkpoints.is_single_file(source):
        converted = convert_base(workspace, source, config=config, ema=ema, observe=observe)
        folder = converted.folder.resolve()
    else:
        folder = pipelines.resolve_source(source)
    origin = checkpoints.read_origin(folder)
    own_name = Path(origin["file"]).stem if origin else source if packaged else folder.name
    pipeline = pipelines.load_pipeline(folder)
    parameters = (name for name, _ in pipelines.network_of(pipeline).named_parameters())
    checkpoints.check_base_weights(folder, parameters)
    pipelines.check_image_independence(pipeline)
    triggers = dict(triggers) if triggers is not None else packaged.get("triggers", {})
    subjects = tuple(subjects) or tuple(packaged.get("subjects", DEFAULT_SUBJECTS))
    record = BaseRecord(
        name=name or own_name,
        source=source if packaged else str(folder),
        digest=checkpoints.folder_digest(folder),
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
            digests={"base": record.digest, "record": record.record_digest},
            details={"source": record.source} | ({"single_file": origin} if origin else {}),
        ),
    ):
        workspace.registry.bases.save(record)
    return record


def _text_encoder_digest(folder: Path) -> str:
    """Of the text encoder's folder; of two, over the digests of both."""
    digests = [
        checkpoints.folder_digest(encoder) for encoder in sorted(folder.glob("text_encoder*"))
    ]
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
