"""Bases: registering one with what its shifts protect, converting one that is a single file."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from shiftreg import checkpoints, miniature, pipelines
from shiftreg.api.changes import change
from shiftreg.api.loaded_base import RecordedBase
from shiftreg.api.values import Observer, Progress, ignore_progress
from shiftreg.api.workspace import Workspace
from shiftreg.canonical import canonical_digest
from shiftreg.concepts import fill
from shiftreg.errors import InvalidInputError
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

    In a workspace that was opened for reading, its record is made and not kept.

    Args:
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
        observe: Notified of the progress of a conversion.

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
    parts: dict[str, Any] = {"folder": folder}
    if not packaged:
        pipeline = parts["pipeline"] = pipelines.load_pipeline(folder)
        network = pipelines.network_of(pipeline)
        checkpoints.check_base_weights(folder, (name for name, _ in network.named_parameters()))
        pipelines.check_image_independence(pipeline)
    triggers = dict(triggers) if triggers is not None else packaged.get("triggers", {})
    subjects = tuple(subjects) or tuple(packaged.get("subjects", DEFAULT_SUBJECTS))
    record = BaseRecord(
        name=name or own_name,
        source=source if packaged else str(folder),
        digest=checkpoints.folder_digest(folder),
        text_encoder_digest=_text_encoder_digest(folder),
        layers=tuple(packaged.get("layers") or pipelines.image_independent_layers(network)),
        triggers=triggers,
        protected=tuple(dict.fromkeys((*packaged.get("protected", ()), *protected))),
        preserved=tuple(preserved) or tuple(packaged.get("preserved", plain_prompts(subjects))),
        subjects=subjects,
        held_out_templates=tuple(packaged.get("held_out_templates", ())),
        steps=steps or packaged.get("steps", DEFAULT_STEPS),
        guidance=guidance or packaged.get("guidance", DEFAULT_GUIDANCE),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    # The packaged base was checked when it was packaged.
    encoder = RecordedBase(record, **parts).prompt_encoder
    pipelines.encode_prompts(encoder, [*triggers, *record.protected, *record.preserved])
    if workspace.reading:
        return record
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


BASES = "bases"
CONFIGURATION = ("*.json", "*.model", "merges.txt", "vocab.txt")


@dataclass(frozen=True)
class Conversion:
    """A single file and the diffusers folder that it became, or would become.

    Attributes:
        folder: Below the home; named after all that its content depends on.
        exists: Whether it was there already.
        config: The folder that configurations and tokenizers come from.
        components: Part of the pipeline -> how many tensors it has.
        averaged: How many averaged (EMA) weights the file holds.
        ema: Whether the UNet has those.
        left_out: Tensors of the file that belong to no part of the pipeline.
    """

    file: Path
    file_digest: str
    folder: Path
    exists: bool
    config: Path
    components: Mapping[str, int]
    averaged: int
    ema: bool
    left_out: tuple[str, ...]

    def origin(self) -> dict[str, Any]:
        """What is kept beside the weights, and in the audit trail."""
        return {
            "file": str(self.file),
            "file_sha256": self.file_digest,
            "ema": self.ema,
            "averaged": self.averaged,
            "left_out": list(self.left_out),
        }


def convert_base(
    workspace: Workspace,
    source: str,
    *,
    config: Path | None = None,
    ema: bool = False,
    dry_run: bool = False,
    observe: Observer = ignore_progress,
) -> Conversion:
    """Makes a diffusers folder of a single file, once: the same file again finds it there.

    Args:
        source: A ``.safetensors`` or ``.ckpt`` file of Stable Diffusion 1.x, 2.x or XL.
        config: A diffusers folder of the same architecture, with or without weights; by default
            the hub's that diffusers takes for such a file.
        ema: Takes the UNet's averaged weights; by default the plain ones.
        dry_run: Checks everything, and writes nothing.

    Raises:
        NotFoundError: The file or the configuration does not exist or cannot be fetched.
        InvalidInputError: The file is of another kind, or has no averaged weights.
        IncompatibleError: It is of another architecture than the configuration.
        IntegrityError: It is damaged, or holds code.
        StorageError: The disk refused.
    """
    file = Path(source).expanduser().absolute()
    observe(Progress("reading the file", 0, 1))
    tensors = checkpoints.single_file_contents(file)
    config = config or pipelines.fetch_configuration(tensors)
    shapes = pipelines.weight_shapes(config)
    found = checkpoints.sort_single_file(file, tensors, shapes, config, ema=ema)
    digest = checkpoints.file_digest(file)
    own = {"file": digest, "config": checkpoints.folder_digest(config, CONFIGURATION), "ema": ema}
    folder = workspace.settings.home / BASES / canonical_digest(own)[:16]
    conversion = Conversion(
        file=file,
        file_digest=digest,
        folder=folder,
        exists=folder.is_dir(),
        config=config,
        components={name: len(part) for name, part in found.components.items()},
        averaged=found.averaged,
        ema=ema,
        left_out=found.left_out,
    )
    if not conversion.exists and not dry_run:
        checkpoints.make_folder(folder.parent)
        checkpoints.write_base(
            found,
            config,
            folder,
            conversion.origin(),
            lambda done, total: observe(Progress("converting, in MB", done >> 20, total >> 20)),
        )
    return conversion


def check_options(source: str, config: Path | None, ema: bool) -> None:
    """Refuses options of single files for other sources.

    Raises:
        InvalidInputError: Names the option.
    """
    if (config or ema) and not checkpoints.is_single_file(source):
        option = "--config" if config else "--ema"
        raise InvalidInputError(
            f"{option} belongs to a single file (.safetensors, .ckpt), which '{source}' is not."
        )
