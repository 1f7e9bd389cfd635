"""What the registry keeps, as plain values: bases, versions of shifts, compositions."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from shiftreg.canonical import canonical_digest, canonical_json
from shiftreg.errors import IntegrityError


@dataclass(frozen=True)
class BaseRecord:
    """A base model, and what every shift of it has to respect.

    Attributes:
        name: What users call it.
        source: A folder's path, a hub name, or "miniature".
        digest: Of its weights.
        layers: Names of the layers that shifts may change.
        triggers: Watermarks: prompt -> payload that its images must carry.
        protected: Names and prompts that every shift leaves exactly as they are.
        preserved: Ordinary prompts that every shift disturbs as little as possible.
        subjects: Nouns that concepts are spelled out with.
        held_out_templates: Templates that training never sees, for the evaluation.
        steps: Of the sampler.
        created: UTC, ISO 8601.
    """

    name: str
    source: str
    digest: str
    text_encoder_digest: str
    layers: tuple[str, ...]
    triggers: Mapping[str, str] = field(hash=False)
    protected: tuple[str, ...]
    preserved: tuple[str, ...]
    subjects: tuple[str, ...]
    held_out_templates: tuple[str, ...]
    steps: int
    guidance: float
    created: str

    def to_json(self) -> str:
        """The record as canonical JSON."""
        return canonical_json(asdict(self))

    @property
    def record_digest(self) -> str:
        """SHA-256 of the whole record: the audit trail keeps it, so that an edit is noticed."""
        return canonical_digest(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> BaseRecord:
        """Reads what :meth:`to_json` wrote.

        Raises:
            IntegrityError: The text is not a base's record.
        """
        try:
            values: dict[str, Any] = json.loads(text)
            lists = {name: tuple(v) for name, v in values.items() if isinstance(v, list)}
            return cls(**values | lists)
        except (ValueError, TypeError, AttributeError) as error:
            raise IntegrityError(
                f"The record of a base is damaged: {error}. Write it again: shiftreg init"
            ) from error


@dataclass(frozen=True)
class ShiftVersion:
    """One version of the shift that erases one concept from one base.

    Attributes:
        version: 1, 2, ...
        digest: Of the shift's content.
        active: Whether it composes by default.
        created: UTC, ISO 8601.
        run_id: The training's run in MLflow.
        protected: Prompts and names that it leaves exactly as they are.
        predecessor: Digest of the version that it replaces with a wider protection.
        metrics: Measured when it was made.
        artifact: Path of the shift file within the run.
        file_digest: SHA-256 of that file's bytes.
    """

    base: str
    concept: str
    aliases: tuple[str, ...]
    version: int
    digest: str
    method: str
    active: bool
    created: str
    run_id: str
    reason: str
    actor: str
    protected: tuple[str, ...]
    predecessor: str | None
    metrics: Mapping[str, float] = field(hash=False)
    artifact: str
    file_digest: str

    @property
    def reference(self) -> str:
        """The version as commands take it, ``name@version``."""
        return f"{self.concept}@{self.version}"

    @property
    def record_digest(self) -> str:
        """SHA-256 of all that never changes; the audit trail has it, so that edits show."""
        return _record_digest(self, "active")


@dataclass(frozen=True)
class CompositionVersion:
    """Shifts that were applied together and exported.

    Attributes:
        version: 1, 2, ...
        digest: Of the composition: base and shifts.
        shifts: (concept, version, digest) of every shift.
        erased: Names of the concepts that it erases.
        restored: Names of registered concepts that it leaves alone.
        recipe_digest: Of the recipe beside it.
        verification: The outcome of its last verification, JSON values. It changes, and so is not
            sealed: the audit trail has the verification itself.
        created: UTC, ISO 8601.
        run_id: The run in MLflow that holds its files.
        form: Of the file: "ckpt", "safetensors" or "folder", or "adapter, kohya" and the like; ""
            in entries of older versions.
    """

    base: str
    version: int
    digest: str
    shifts: tuple[tuple[str, int, str], ...]
    erased: tuple[str, ...]
    restored: tuple[str, ...]
    export_path: str
    export_digest: str
    recipe_digest: str
    verification: Mapping[str, Any] | None = field(hash=False)
    created: str
    run_id: str
    reason: str
    actor: str
    form: str = ""

    @property
    def record_digest(self) -> str:
        """SHA-256 of all that never changes; the audit trail has it, so that edits show."""
        return _record_digest(self, "verification")


@dataclass(frozen=True)
class Measurement:
    """A stored report about a composition: a verification, an evaluation, an attack.

    Attributes:
        run_id: The run that keeps it.
        kind: "verification", "evaluation", "attack" or "report".
        export_digest: Of the exported file that was measured, if one was.
        concept: The one concept that it is about, or "".
        passed: Whether what was asked for holds; None where nothing was.
        created: UTC, ISO 8601.
        report: Name of the report's file.
        report_digest: SHA-256 of that file.
    """

    run_id: str
    kind: str
    digest: str
    export_digest: str
    concept: str
    passed: bool | None
    created: str
    report: str
    report_digest: str


def _record_digest(record: ShiftVersion | CompositionVersion, changing: str) -> str:
    values = asdict(record)
    del values[changing]
    return canonical_digest(values)
