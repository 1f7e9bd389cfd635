"""Keeping a shift: its measurements, its version in the registry, its event in the audit trail."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from shiftreg import pipelines
from shiftreg.api.changes import change
from shiftreg.api.workspace import Workspace
from shiftreg.checkpoints import save_shift
from shiftreg.compose import Composition, merged_weights
from shiftreg.registry import ShiftVersion
from shiftreg.registry.training import TrainingLog
from shiftreg.shift import ConceptShift
from shiftreg.subspace import relative_change
from shiftreg.verification import separability_row


def register_shift(
    workspace: Workspace,
    log: TrainingLog,
    shift: ConceptShift,
    metrics: Mapping[str, float],
    *,
    action: str,
    predecessor: str | None = None,
    reason: str = "",
    digests: Mapping[str, str] | None = None,
    details: Mapping[str, Any] | None = None,
    activate: bool = True,
) -> ShiftVersion:
    """Makes a shift a version of its concept, and says so in the audit trail.

    Args:
        workspace: Where.
        log: Of the run that it comes from.
        shift: The shift.
        metrics: Measured on it.
        action: For the audit trail.
        predecessor: Digest of the version that it was made from.
        reason: For the audit trail.
        digests: Further ones for the audit trail.
        details: Further ones for the audit trail.
        activate: Whether it becomes the active version.
    """
    base = workspace.base
    known = {"base": base.digest, "shift": shift.digest}
    if predecessor:
        known["predecessor"] = predecessor
    with (
        tempfile.TemporaryDirectory() as scratch,
        change(
            workspace,
            action,
            base=base.name,
            concepts=(shift.concept,),
            reason=reason,
            digests=known | dict(digests or {}),
            details={"method": shift.method, "active": activate, **(details or {})},
        ) as made,
    ):
        shift_file = Path(scratch) / "shift.safetensors"
        save_shift(shift, shift_file)
        version = workspace.registry.register_shift(
            base.name,
            log,
            shift_file,
            {**shift.metadata(), "digest": shift.digest},
            metrics=metrics,
            predecessor=predecessor,
            reason=reason,
            activate=False,
        )
        # The file is kept by now: a turn is for what others must not come between.
        with workspace.registry.turn():
            if activate:
                version = workspace.registry.activate(base.name, shift.concept, version)
            made.digests["record"] = version.seal
            made.details["version"] = version.version
            made.tell()
    return version


def measure_shift(
    workspace: Workspace, shift: ConceptShift, protected_embeds: Tensor
) -> dict[str, float]:
    """The size of a shift, and how far it moves what should not notice it.

    Args:
        workspace: Where.
        shift: The shift.
        protected_embeds: ``(p, L, d_in)``.
    """
    own = pipelines.parameters(workspace.network)
    # A bias may be zero, and no change is small or large beside that.
    changes = [
        relative_change(shift.delta_weight(name), own[name])
        for name in shift.layers
        if own[name].any()
    ]
    metrics = {
        "relative_change": max(changes, default=0.0),
        "worst_leak": max(disturbance(workspace, shift, protected_embeds)),
    }
    if shift.factors:
        metrics["rank"] = float(shift.rank)
    if shift.dense:
        metrics["dense_parameters"] = float(len(shift.dense))
    return metrics


def disturbance(workspace: Workspace, shift: ConceptShift, prompt_embeds: Tensor) -> list[float]:
    """How far one shift moves each prompt, relative to its size.

    Of keys and values; of the noise predictions where a shift reaches layers that see the picture,
    since then keys and values do not tell what it does.

    Args:
        workspace: Where.
        shift: The shift.
        prompt_embeds: ``(n, L, d_in)``.
    """
    unet = workspace.network
    weights = pipelines.layer_weights(unet)
    row = separability_row(shift, weights, prompt_embeds)
    if weights.keys() >= set(shift.layers):
        return row
    moved = noise_moved(workspace, shift, prompt_embeds)
    return [max(pair) for pair in zip(row, moved, strict=True)]


def noise_moved(workspace: Workspace, shift: ConceptShift, prompt_embeds: Tensor) -> list[float]:
    """How far one shift, alone, moves the noise predictions of prompts ``(n, L, d_in)``."""
    alone = Composition.of(shift.base_digest, [shift])
    changed = merged_weights(pipelines.parameters(workspace.network), alone)
    return pipelines.noise_difference(workspace.pipeline, changed, prompt_embeds).tolist()
