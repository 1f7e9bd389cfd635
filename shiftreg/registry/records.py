"""What the registry keeps, as plain values: bases, versions of shifts, compositions."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar

from shiftreg.canonical import canonical_digest, canonical_json
from shiftreg.errors import IntegrityError


@dataclass(frozen=True)
class Recorded:
    """What the audit trail has a digest of.

    Attributes:
        CHANGING: Names of the fields that may change later.
    """

    CHANGING: ClassVar[tuple[str, ...]] = ()

    @property
    def record_digest(self) -> str:
        """SHA-256 of all that never changes; the audit trail has it, so that edits show."""
        values = asdict(self)
        return canonical_digest({k: v for k, v in values.items() if k not in self.CHANGING})


@dataclass(frozen=True)
class BaseRecord(Recorded):
    """A base model, and what every shift of it has to respect.

    Attributes:
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
class ShiftVersion(Recorded):
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
    CHANGING = ("active",)

    @property
    def reference(self) -> str:
        """The version as commands take it, ``name@version``."""
        return f"{self.concept}@{self.version}"


@dataclass(frozen=True)
class CompositionVersion(Recorded):
    """Shifts that were applied together and exported.

    Attributes:
        version: 1, 2, ...
        shifts: (concept, version, digest) of every shift.
        restored: Names of registered concepts that it leaves alone.
        verification: The outcome of its last verification, JSON values. It changes, and so is not
            sealed: the audit trail has the verification itself.
        created: UTC, ISO 8601.
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
    CHANGING = ("verification",)


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
