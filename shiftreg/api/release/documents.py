"""What is said of a release: to who verifies its signature, and to who lists its parts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from shiftreg import release
from shiftreg.api.front_end import to_json
from shiftreg.api.values import CompositionPlan, Verification
from shiftreg.api.workspace import Workspace
from shiftreg.checkpoints import Export, recipe_path_of
from shiftreg.release import Part

FOLDER_DIGEST = "SHA-256 over the names and digests of the folder's files"


def predicate(
    plan: CompositionPlan,
    made: Export,
    recipe: Mapping[str, Any],
    verification: Verification | None,
    images: int,
    staged: Path,
) -> dict[str, Any]:
    """What an attestation says of an export.

    Args:
        images: Images a prompt that the verification generated.
    """
    said: dict[str, Any] = {
        "base": {"name": plan.base, "digest": plan.base_digest},
        "composition": plan.digest,
        "shifts": [
            {"concept": concept, "version": version, "digest": digest}
            for concept, version, digest in plan.shifts
        ],
        "states": dict(plan.states),
        "statements": list(plan.statements),
        "format": made.format,
        "dtype": made.dtype,
        "recipe": {"sha256": made.recipe_digest},
        "tools": dict(recipe["tools"]),
    }
    beside = release.sidecar_digests(staged)
    said |= {name: {"sha256": beside[name]} for name in ("bill", "card") if name in beside}
    if verification is not None:
        report = to_json(verification)
        kept = ("passed", "checks", "gates", "classifier")
        said["verification"] = {key: report[key] for key in kept} | {"images": images}
    return said | {key: recipe[key] for key in ("adapter", "override") if key in recipe}


def bill_parts(
    workspace: Workspace,
    plan: CompositionPlan,
    made: Export,
    recipe: Mapping[str, Any],
    digests: Mapping[str, str],
) -> tuple[Part, list[Part]]:
    """The export, and all that it was made from: the base and each shift."""
    base_reference = f"base:{plan.base_digest}"
    base = Part(
        reference=base_reference,
        name=plan.base,
        version=plan.base_digest[:12],
        description="The base model, unchanged.",
        digest=plan.base_digest,
        properties={"digest-of": FOLDER_DIGEST},
    )
    shifts = [_shift(workspace, plan, *one, base_reference) for one in plan.shifts]
    is_folder = made.format == "folder"
    properties = {
        "composition": plan.digest,
        "format": made.format,
        "dtype": made.dtype,
        "recipe-sha256": made.recipe_digest,
        "recipe": recipe_path_of(made.path).name,
    }
    if is_folder:
        properties["digest"] = made.digest
        properties["digest-of"] = FOLDER_DIGEST
    properties |= {f"state:{name}": state for name, state in plan.states.items()}
    if override := recipe.get("override"):
        properties["override-reason"] = override["reason"]
        properties |= {
            f"override:{one['name']}:{one['subject']}": f"{one['value']:g}, limit {one['limit']:g}"
            for one in override["broken"]
        }
    erased = ", ".join(name for name, state in plan.states.items() if state == "erased")
    description = f"{plan.base} without {erased}." if erased else f"{plan.base}, unchanged."
    if adapter := recipe.get("adapter"):
        description = f"A change of {plan.base} that erases {erased}."
        properties |= {"adapter-form": adapter["form"], "adapter-strength": adapter["strength"]}
    released = Part(
        reference=f"export:{made.digest}",
        name=made.path.name,
        version=plan.digest[:12],
        description=description,
        digest="" if is_folder else made.digest,
        files=digests if is_folder else {},
        properties=properties,
        made_from=(base_reference, *(part.reference for part in shifts)),
    )
    return released, [base, *shifts]


def _shift(
    workspace: Workspace, plan: CompositionPlan, concept: str, number: int, digest: str, base: str
) -> Part:
    version = workspace.registry.shifts.version(plan.base, concept, str(number))
    return Part(
        reference=f"shift:{digest}",
        name=f"shift of {concept}",
        version=version.reference,
        description=f"The change of weights that erases {concept}, made by {version.method}.",
        digest=version.file_digest,
        properties={
            "concept": concept,
            "version": str(number),
            "method": version.method,
            "digest": digest,
        },
        made_from=(base,),
    )
