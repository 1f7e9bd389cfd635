"""Registering a shift that another tool made: a LoRA, a partial state dict, a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch

from shiftreg import checkpoints, pipelines
from shiftreg.api.erasure.decouple import decouple_version, shift_plan
from shiftreg.api.erasure.measures import measure_shift
from shiftreg.api.erasure.register import register_shift
from shiftreg.api.values import ErasureResult, Observer, Progress, ignore_progress
from shiftreg.api.workspace import Workspace
from shiftreg.concepts import Concept, Kind
from shiftreg.errors import InvalidInputError, NotFoundError
from shiftreg.shift import ConceptShift, tensor_digest

IMPORTED = "imported"


@dataclass(frozen=True)
class ForeignShift:
    """What a file of another tool would register.

    Attributes:
        form: Such as "lora, kohya".
        digest: SHA-256 of the file.
        parameters: How many parameters it changes.
        text_layers: How many of them see the text alone: what can be decoupled.
        strength: What its deltas are multiplied by.
        left_out: Sentences on what the file holds and is not registered.
        details: Ranks, scales, dtypes.
        deltas: Parameter -> delta, under the names of ``ConceptShift``.
    """

    path: Path
    form: str
    digest: str
    concept: Concept
    parameters: int
    text_layers: int
    strength: float
    left_out: tuple[str, ...]
    details: Mapping[str, Any]
    deltas: Mapping[str, torch.Tensor]

    def summary(self) -> dict[str, Any]:
        """All but the tensors, as JSON values."""
        values = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "deltas"}
        return {**values, "concept": self.concept.name, "path": str(self.path)}


def read_import(
    workspace: Workspace,
    path: Path,
    name: str,
    *,
    aliases: Sequence[str] = (),
    kind: Kind = "style",
    strength: float = 1.0,
    unet_only: bool = False,
) -> ForeignShift:
    """Reads a file of another tool and checks that it belongs to the base; nothing is changed.

    Args:
        path: A LoRA (diffusers/PEFT or kohya), a partial state dict, or a whole checkpoint.
        name: Of the concept that it erases.
        kind: "style" or "object".
        strength: Multiplies the deltas; -1 turns a LoRA that *adds* a concept around.
        unet_only: Leave another text encoder or autoencoder out instead of refusing it.

    Raises:
        NotFoundError: The file does not exist.
        InvalidInputError: It holds nothing that can be registered.
        IncompatibleError: It was made for another base.
        IntegrityError: It is damaged.
    """
    if not strength or not abs(strength) < float("inf"):
        raise InvalidInputError(f"A strength is a number other than 0, and it is {strength}.")
    with suppress(NotFoundError):  # a new concept
        name = workspace.find(name)
    base, facts = workspace.base, checkpoints.model_facts(workspace.folder)
    change = checkpoints.read_foreign(path, workspace.folder, unet_only=unet_only)
    change.stated_base.check(f"'{path}'", base.name, base.digest, facts.kohya_version)
    deltas = {
        parameter.removesuffix(".weight"): (delta.double() * strength).float()
        for parameter, delta in change.deltas.items()
    }
    layers = workspace.base.layers
    return ForeignShift(
        path=path,
        form=change.form,
        digest=change.digest,
        concept=Concept(name, tuple(aliases), kind),
        parameters=len(deltas),
        text_layers=sum(parameter in layers for parameter in deltas),
        strength=strength,
        left_out=change.left_out,
        details=change.details,
        deltas=deltas,
    )


def import_shift(
    workspace: Workspace,
    foreign: ForeignShift,
    *,
    decouple: bool = False,
    refit: bool = False,
    reason: str = "",
    observe: Observer = ignore_progress,
) -> tuple[ErasureResult, ...]:
    """Registers what was read, and, if asked for, its decoupled version.

    Args:
        foreign: From :func:`read_import`.
        decouple: Also project it into the null space of everything that is protected; that
            version becomes the active one.
        refit: Decouple by a fit instead of a projection: see ``decoupling.decouple``.

    Raises:
        CapacityError: Nothing of the erasure is left within the null space; the imported version
            stays registered, and is not active.
    """
    base, concept = workspace.base, foreign.concept
    provenance = {
        "file": foreign.path.name,
        "file_digest": foreign.digest,
        "form": foreign.form,
        "strength": foreign.strength,
        "left_out": list(foreign.left_out),
        **foreign.details,
    }
    names = ("", *base.triggers, *(n for n in workspace.known_names() if n != concept.name))
    embeds = pipelines.encode_prompts(workspace.prompt_encoder, names)
    shift = ConceptShift(
        concept=concept.name,
        aliases=concept.aliases,
        kind=concept.kind,
        method=IMPORTED,
        base_digest=base.digest,
        text_encoder_digest=base.text_encoder_digest,
        support=torch.zeros(0, embeds.shape[2]),
        factors={},
        dense=foreign.deltas,
        protected=(),
        protected_digest=tensor_digest(embeds[:0]),
        hyperparameters=provenance,
    )
    with workspace.registry.trainings.run(
        base.name, concept.name, {**provenance, "method": IMPORTED}
    ) as log:
        observe(Progress(f"importing {concept.name}", 0, 1))
        metrics = measure_shift(workspace, shift, embeds)
        log.metrics(**metrics)
        version = register_shift(
            workspace,
            log,
            shift,
            metrics,
            action="import",
            reason=reason,
            digests={"file": foreign.digest},
            details={"file": foreign.path.name, "form": foreign.form},
            activate=not decouple,
        )
    observe(Progress(f"importing {concept.name}", 1, 1))
    state = "stored" if decouple else "erased"
    imported = ErasureResult(
        plan=shift_plan(workspace, shift, foreign.left_out),
        version=version.version,
        digest=shift.digest,
        metrics=metrics,
        stale=(),
        statement=f"{concept.name}: {state} (version {version.version}, imported from "
        f"{foreign.path.name})",
    )
    if not decouple:
        return (imported,)
    decoupled = decouple_version(
        workspace, version, shift, refit=refit, reason=reason, observe=observe
    )
    return (imported, decoupled)
