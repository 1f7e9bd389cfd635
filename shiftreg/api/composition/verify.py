"""Checks of a composition or an exported file against the base."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypedDict, Unpack

from shiftreg import checkpoints, pipelines
from shiftreg.api.changes import change, unique_name
from shiftreg.api.composition.compose import plan_composition
from shiftreg.api.composition.contents import Contents, contents_of_file, contents_of_plan
from shiftreg.api.composition.images import generated, noise, remaining
from shiftreg.api.erasure.measures import disturbance
from shiftreg.api.evaluation.classifiers import find_classifier
from shiftreg.api.front_end import to_json
from shiftreg.api.release.policy import attack_checks
from shiftreg.api.release.signature import check_signature, is_to_be_signed
from shiftreg.api.release.values import SignatureReport, UntrustedFileError
from shiftreg.api.selection import ACTIVE, Selection
from shiftreg.api.values import Observer, Progress, Verification, ignore_progress
from shiftreg.api.workspace import Workspace
from shiftreg.compose import Composition
from shiftreg.errors import InvalidInputError, ShiftregError
from shiftreg.settings import PROJECT_FILE
from shiftreg.verification import (
    Check,
    Gates,
    separability_checks,
    unknown_to_classifier,
    unmeasured_checks,
)


class VerifyRequest(TypedDict, total=False):
    """What is verified, and how.

    Attributes:
        selection: The composition of the registry to check, the active one by default; not with a
            file.
        images: Same-seed images a prompt; 4 by default.
        gates: Limits in place of those of the project file and the defaults; see
            ``verification.Gates``.
        classifier: Says whether a concept is still seen; see ``classifiers.find_classifier``.
        key: Public key that must have signed the file; by default that of the settings, where the
            file is signed or the project's policy says that it must be.
    """

    selection: Selection
    images: int
    gates: Mapping[str, float] | None
    classifier: Path | None
    key: Path | None


def verify(
    workspace: Workspace,
    file: Path | None = None,
    *,
    observe: Observer = ignore_progress,
    **request: Unpack[VerifyRequest],
) -> Verification:
    """Checks that a composition erases what it says and leaves everything else as it was.

    Args:
        file: An exported file: its recipe says what it should hold, and its weights are compared
            with that bit by bit. Without it, the composition of the registry is checked.
        **request: See :class:`VerifyRequest`.

    Returns:
        All checks; the report is also written to the home's ``reports`` folder.

    Raises:
        NotFoundError: The file or its recipe does not exist.
        IntegrityError: The file cannot be read, its recipe was exchanged, or the registry and the
            audit trail disagree on what is active.
        UntrustedFileError: The file is not what was signed, or not by the key.
        InvalidInputError: No image asked for, an unknown gate, or a file together with a choice of
            concepts.
    """
    return verify_contents(workspace, file, observe=observe, **request)[0]


def verify_contents(
    workspace: Workspace,
    file: Path | None,
    *,
    selection: Selection = ACTIVE,
    images: int = 4,
    gates: Mapping[str, float] | None = None,
    classifier: Path | None = None,
    key: Path | None = None,
    observe: Observer = ignore_progress,
) -> tuple[Verification, Contents]:
    """Does what :func:`verify` does, and hands on what it read of the file."""
    if file is not None and selection != ACTIVE:
        raise InvalidInputError(
            "A file's recipe says what it holds, so --only and --without do not go with a file."
        )

    def read() -> Contents:
        if file is None:
            return contents_of_plan(workspace, plan_composition(workspace, selection))
        workspace.require_agreement()
        return _signed_contents(workspace, file, key, observe)

    verification, contents = _examine(workspace, read, images, observe, gates, classifier)
    return keep_verification(workspace, verification, contents.digest), contents


def examine_file(workspace: Workspace, file: Path, images: int, observe: Observer) -> Verification:
    """Checks a file that is not released yet: no signature is asked for, nothing is recorded."""

    def read() -> Contents:
        return contents_of_file(workspace, file, observe)

    return _examine(workspace, read, images, observe)[0]


def _examine(
    workspace: Workspace,
    read: Callable[[], Contents],
    images: int,
    observe: Observer,
    gates: Mapping[str, float] | None = None,
    classifier: Path | None = None,
) -> tuple[Verification, Contents]:
    """Checks what ``read`` gives, once all else is known to be right; nothing is recorded."""
    if images < 1:
        raise InvalidInputError(f"At least 1 image a prompt is needed, and {images} asked for.")
    limits = Gates().updated(workspace.settings.gates, str(PROJECT_FILE))
    limits = limits.updated(gates or {}, "This verification")
    reader = find_classifier(workspace, classifier)
    contents = read()
    plan = contents.plan
    stated = {**workspace.settings.gates, **(gates or {})}
    erased = [shift.concept for shift in contents.composition.shifts]
    unknown = [concept for concept in erased if not (reader and reader.knows(concept))]
    matrix = _separability_matrix(workspace, contents.composition)
    with pipelines.applied_weights(workspace.network, contents.reference):
        seen = noise(workspace, plan, contents.weights, contents.noise_limit(limits))
        left = remaining(workspace, contents, limits.remaining)
        of_images, path = generated(workspace, contents, images, limits, reader, observe)
        checks = (
            *separability_checks(matrix, contents.composition.shifts, limits.separability),
            *seen,
            *left,
            *of_images,
            *unmeasured_checks(unknown, stated),
            *attack_checks(workspace, plan, limits),
            *contents.checks,
        )
    verification = Verification(
        plan=plan,
        file=contents.file,
        checks=checks,
        separability=matrix,
        passed=all(check.passed for check in checks),
        gates=limits.limits(),
        classifier=reader.digest if reader else "",
        rounding=contents.rounding,
        images=path,
        unmeasured=tuple(map(unknown_to_classifier, unknown)),
    )
    return verification, contents


def _signed_contents(
    workspace: Workspace, file: Path, key: Path | None, observe: Observer
) -> Contents:
    """What a file holds, with the checks of its signature where there has to be one.

    The file is digested while it is compared, and held to its signature before anything else is
    done with it.

    Raises:
        UntrustedFileError: It is not what was signed, also where it cannot be read.
    """
    signed = is_to_be_signed(workspace.settings, file, key)
    observe(Progress("comparing the file", 0, 1))
    try:
        contents = contents_of_file(workspace, file, observe)
    except ShiftregError:
        if signed:
            _check_signature(workspace, file, key)
        raise
    checks = _check_signature(workspace, file, key, contents) if signed else ()
    observe(Progress("comparing the file", 1, 1))
    return replace(contents, checks=(*contents.checks, *checks))


def _check_signature(
    workspace: Workspace, file: Path, key: Path | None, contents: Contents | None = None
) -> tuple[Check, ...]:
    read = contents.read if contents else None
    report = check_signature(workspace.settings, file, key, read=read)
    if not report.passed:
        digest = contents.digest if contents else checkpoints.checkpoint_digest(file)
        _keep_distrust(workspace, report, digest)
        raise UntrustedFileError(report)
    return report.checks


def keep_verification(
    workspace: Workspace, verification: Verification, export_digest: str = ""
) -> Verification:
    """Writes the report of a verification, and records it in registry and audit trail.

    Args:
        export_digest: Of the exported file; "" for a composition.

    Returns:
        The verification with the path of its report.
    """
    plan, checks = verification.plan, verification.checks
    path = _write_report(workspace, verification)
    digests = {"base": plan.base_digest, "composition": plan.digest}
    if export_digest:
        digests["export"] = export_digest
    if verification.images is not None:
        digests["images"] = checkpoints.file_digest(verification.images)
    with change(
        workspace,
        "verify",
        base=plan.base,
        concepts=tuple(name for name, state in plan.states.items() if state == "erased"),
        digests=digests | {"report": checkpoints.file_digest(path)},
        recovery={"kind": "verification"},
        details={
            "passed": verification.passed,
            "checks": len(checks),
            "gates": dict(verification.gates),
            "classifier": verification.classifier,
        },
    ):
        workspace.registry.measurements.record(
            plan.base,
            "verification",
            plan.digest,
            path,
            passed=verification.passed,
            metrics=_worst(checks),
            export_digest=export_digest,
        )
    return replace(verification, report_path=path)


def _keep_distrust(workspace: Workspace, report: SignatureReport, digest: str) -> None:
    """Records that a file was not what it claims to be."""
    # Not "export", by which a file is found again: nobody says that it is one.
    digests = {"file": digest, "key": report.signer}
    workspace.audit.append(
        "verify",
        base=workspace.settings.base,
        digests={word: digest for word, digest in digests.items() if digest},
        details={
            "passed": False,
            "path": str(report.file),
            "findings": [check.explanation for check in report.checks if not check.passed],
        },
    )


def _separability_matrix(
    workspace: Workspace, composition: Composition
) -> dict[str, dict[str, float]]:
    """Concept of each shift -> residual on every prompt that must not notice it."""
    prompts = list(dict.fromkeys(("", *workspace.base.triggers, *workspace.known_names())))
    embeds = pipelines.encode_prompts(workspace.prompt_encoder, prompts)
    matrix = {}
    for shift in composition.shifts:
        own = (shift.concept, *shift.aliases)
        row = disturbance(workspace, shift, embeds)
        matrix[shift.concept] = {
            prompt: r for prompt, r in zip(prompts, row, strict=True) if prompt not in own
        }
    return dict(sorted(matrix.items()))


def _worst(checks: Sequence[Check]) -> dict[str, float]:
    """The worst value of each kind of check; of watermarks, the lowest rate."""
    worst: dict[str, float] = {}
    for check in checks:
        pick = min if check.name == "watermark" and check.limit > 0 else max
        worst[check.name] = pick(worst.get(check.name, check.value), check.value)
    return worst


def _write_report(workspace: Workspace, verification: Verification) -> Path:
    folder = workspace.settings.home / "reports"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{unique_name(f'verify-{verification.plan.digest[:12]}')}.json"
    with checkpoints.atomic_file(path) as partial:
        partial.write_text(json.dumps(to_json(verification), indent=2), encoding="utf-8")
    return path
