"""The values that the use cases take and give; plain data, so that any front end can show them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from shiftreg.checks import Check as Check
from shiftreg.evaluation.intervals import Estimate as Estimate
from shiftreg.evaluation.intervals import pooled_rate as pooled_rate
from shiftreg.evaluation.results import ConceptScore as ConceptScore
from shiftreg.evaluation.results import Evaluation as Evaluation
from shiftreg.evaluation.results import ParaphraseScore as ParaphraseScore
from shiftreg.evaluation.results import StepResult as StepResult

State = Literal["erased", "generates"]


@dataclass(frozen=True)
class Progress:
    """How far a long piece of work is.

    Attributes:
        stage: A label of what is being done ("training Caravaggio").
        total: Units in all; for a training that may stop early, its limit.
        values: Numbers worth showing (loss, momentum average, tau).
        lane: Which of several things done at once it is about; "" for all of them together.
    """

    stage: str
    done: int
    total: int
    values: Mapping[str, float] = field(default_factory=dict)
    lane: str = ""


Observer = Callable[[Progress], None]


def ignore_progress(_progress: Progress) -> None:
    """The observer of those who do not look."""


@dataclass(frozen=True)
class ErasurePlan:
    """What an erasure would do, before it does it.

    Attributes:
        aliases: Erased with it.
        kind: "style" or "object".
        hyperparameters: As they will be used.
        prompts: Prompts that will lose the concept.
        protected: Prompts that stay exactly as they are (hard).
        preserved: Prompts that are disturbed as little as possible (soft).
        capacity: Dimensions and predictions; see ``subspace.Capacity``.
    """

    base: str
    concept: str
    aliases: tuple[str, ...]
    kind: str
    method: str
    hyperparameters: Mapping[str, Any]
    prompts: tuple[str, ...]
    protected: tuple[str, ...]
    preserved: tuple[str, ...]
    capacity: Mapping[str, float]
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class ErasureResult:
    """A shift that was made and registered.

    Attributes:
        version: Number of the new version of the concept.
        metrics: Measured, e.g. ``relative_change``, ``max_drift``, ``iterations``, ``seconds``.
        stale: Older active shifts that do not protect this concept: run ``shiftreg refresh``.
        statement: "Caravaggio: erased (version 1)".
        samples: Image of before and after, a local file, if it was asked for.
        erased: Whether the version is active: one that hardly changes the concept is not.
    """

    plan: ErasurePlan
    version: int
    digest: str
    metrics: Mapping[str, float]
    stale: tuple[str, ...]
    statement: str
    samples: Path | None = None
    erased: bool = True


@dataclass(frozen=True)
class ConceptState:
    """One concept as the registry has it.

    Attributes:
        state: "erased" or "generates", in the default composition.
        version: The active version, or None.
        latest: The newest version; 0 if the base protects the concept and it was never erased.
        method: Of the active or newest version.
        digest: Of the active or newest version; "" if there is none.
        stale_towards: Concepts that the active version does not protect.
        separable: Whether the active version leaves others exactly as they are; True if none is
            active.
        deleted: Numbers of versions that were deleted.
    """

    concept: str
    state: State
    version: int | None
    latest: int
    method: str
    digest: str
    stale_towards: tuple[str, ...]
    separable: bool = True
    deleted: tuple[int, ...] = ()


@dataclass(frozen=True)
class ConceptDetail:
    """Everything about one concept: its state, versions (newest last) and history."""

    state: ConceptState
    versions: tuple[Mapping[str, Any], ...]
    history: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True)
class CompositionPlan:
    """Which shifts a composition applies, and what that means for every concept.

    Attributes:
        shifts: ``(concept, version, digest)``, in canonical order.
        states: Every known concept -> "erased" or "generates".
        statements: The same as sentences, a line a concept.
        warnings: Sentences to show, e.g. stale shifts, or ``--without`` of what was not erased.
    """

    base: str
    base_digest: str
    digest: str
    shifts: tuple[tuple[str, int, str], ...]
    states: Mapping[str, State]
    statements: tuple[str, ...]
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class ReleaseFiles:
    """What was written beside an export, to check it by.

    Attributes:
        signature: OpenSSF model signature; None if it is not signed.
        attestation: in-toto attestation; None if it is not signed.
        signer: Fingerprint of the key that signed, or "".
        bill: CycloneDX bill of materials, or None.
    """

    signature: Path | None = None
    attestation: Path | None = None
    signer: str = ""
    bill: Path | None = None


@dataclass(frozen=True)
class RoundingResult:
    """What rounding to half precision does to protected prompts.

    Their keys and values are compared with the base's in that precision, in the layer where they
    move most: ``|e(p) (W_file - W).T| / |e(p) W.T|`` over all of the prompts.

    Attributes:
        dtype: "float16" or "bfloat16".
        method: "compensated", or "plain".
        plain: What plain rounding leaves.
        compensated: What error-compensated rounding leaves; None if that was not done.
    """

    dtype: str
    method: str
    plain: float
    compensated: float | None

    @property
    def statement(self) -> str:
        """In words."""
        if self.compensated is None:
            return (
                f"Rounding to {self.dtype} moves the keys and values of protected prompts by "
                f"{self.plain:.1e} of their size; error-compensated rounding would move them less. "
                "Export again: shiftreg compose --export"
            )
        times = f", {self.plain / self.compensated:.0f} times as much" if self.compensated else ""
        return (
            f"Rounding to {self.dtype} moves the keys and values of protected prompts by "
            f"{self.compensated:.1e} of their size; plain rounding would move them by "
            f"{self.plain:.1e}{times}."
        )


@dataclass(frozen=True)
class ExportResult:
    """A checkpoint that was written and registered.

    Attributes:
        format: "ckpt", "safetensors" or "folder".
        digest: Of the file, or of the folder's files.
        dtype: Of the UNet's weights.
        version: Number of the composition in the registry.
        rounding: How rounding was kept away from protected prompts; None where it was not.
        overridden: Gates of the policy that it breaks, and was released against.
        passed: Whether its verification passed; None if it was not verified.
    """

    plan: CompositionPlan
    path: Path
    format: str
    digest: str
    dtype: str
    recipe_path: Path
    recipe_digest: str
    version: int
    card_path: Path | None = None
    release: ReleaseFiles = field(default_factory=ReleaseFiles)
    overridden: tuple[Check, ...] = ()
    passed: bool | None = None
    rounding: RoundingResult | None = None


@dataclass(frozen=True)
class Verification:
    """All checks of a composition or an exported file.

    Attributes:
        plan: The composition that was verified.
        file: The exported file, or None.
        checks: In the order of their names.
        separability: Concept of a shift -> protected prompt -> relative residual.
        gates: Name of a gate -> limit, as they were in force.
        classifier: Digest of the classifier that looked for erased concepts, or "".
        report_path: The report as JSON, a local file.
        rounding: What half precision does to protected prompts; None of other precisions.
        images: The images that were looked at, a local file.
        unmeasured: Sentences on what was not looked at, and what that would take.
    """

    plan: CompositionPlan
    file: Path | None
    checks: tuple[Check, ...]
    separability: Mapping[str, Mapping[str, float]]
    passed: bool
    gates: Mapping[str, float | None] = field(default_factory=dict)
    classifier: str = ""
    report_path: Path | None = None
    rounding: RoundingResult | None = None
    images: Path | None = None
    unmeasured: tuple[str, ...] = ()


@dataclass(frozen=True)
class GridResult:
    """A grid of same-seed images: base and composition side by side."""

    plan: CompositionPlan
    path: Path
    prompts: tuple[str, ...]
    seeds: tuple[int, ...]
