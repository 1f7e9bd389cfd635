"""One page about a composition or a file: what holds, what it looks like, how it came about."""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from shiftreg import __version__, checkpoints
from shiftreg.api.changes import change
from shiftreg.api.composition.contents import Contents
from shiftreg.api.composition.verify import verify_contents
from shiftreg.api.front_end import to_json
from shiftreg.api.report.images import Generated, generate_groups
from shiftreg.api.report.records import (
    event_lines,
    export_lines,
    shift_parts,
    stored_attacks,
    stored_evaluation,
)
from shiftreg.api.selection import ACTIVE, Selection
from shiftreg.api.values import CompositionPlan, Observer, Verification, ignore_progress
from shiftreg.api.workspace import Workspace
from shiftreg.concepts import label
from shiftreg.errors import InvalidInputError
from shiftreg.reports import ConceptLine, ReportPage, image_grid, render_page, save_image


@dataclass(frozen=True)
class ReportResult:
    """A page that was written and registered.

    Attributes:
        digest: SHA-256 of the page.
        file: The exported file that it is about, or None.
        failed: How many of them failed.
        run_id: The run in MLflow that keeps it.
    """

    plan: CompositionPlan
    path: Path
    digest: str
    file: Path | None
    passed: bool
    checks: int
    failed: int
    images: int
    run_id: str


def write_report(
    workspace: Workspace,
    path: Path,
    *,
    file: Path | None = None,
    selection: Selection = ACTIVE,
    images: int = 4,
    classifier: Path | None = None,
    overwrite: bool = False,
    observe: Observer = ignore_progress,
) -> ReportResult:
    """Verifies a composition or an exported file, and writes all that is known about it as a page.

    Args:
        path: Of the page, one HTML file that holds everything.
        file, classifier: As in ``verify``.
        selection: As in ``verify``; not with ``file``.
        images: Same-seed images a prompt.

    Raises:
        AlreadyExistsError: The page exists.
        StorageError: The disk is full or read-only.
        NotFoundError: The file or its recipe, or a concept, does not exist.
        IntegrityError: The file cannot be read, or its recipe was exchanged.
        InvalidInputError: No image asked for, or a file together with a choice of concepts,
            or a page in the place of the file.
    """
    if file is not None and path.absolute() == file.absolute():
        raise InvalidInputError(f"The page would replace the model '{file}'. Choose another --out.")
    if path.is_dir():
        raise InvalidInputError(
            f"'{path}' is a folder, and a page would be written there. Choose another --out."
        )
    # Opened first: a page that cannot be written is refused before the work, not after it. One that
    # cannot be registered goes again, and what it replaced is put back.
    with checkpoints.placed_together(path, overwrite=overwrite) as placement:
        verification, contents = verify_contents(
            workspace,
            file,
            selection=selection,
            images=images,
            classifier=classifier,
            observe=observe,
        )
        plan = verification.plan
        generated = generate_groups(workspace, plan, contents.weights, images, observe)
        page = _page(workspace, verification, contents, generated)
        with checkpoints.storage_errors(path):
            placement.path.write_text(render_page(page), encoding="utf-8")
        placement.place()
        digest = checkpoints.file_digest(path)
        run_id = _register(workspace, verification, generated, path, digest, page.file_digest)
    failed = sum(not check.passed for check in verification.checks)
    return ReportResult(
        plan=plan,
        path=path,
        digest=digest,
        file=file,
        passed=verification.passed,
        checks=len(verification.checks),
        failed=failed,
        images=sum(len(r.before) + len(r.after) for g in generated.groups for r in g.rows),
        run_id=run_id,
    )


def _register(
    workspace: Workspace,
    verification: Verification,
    generated: Generated,
    path: Path,
    digest: str,
    file_digest: str,
) -> str:
    """Keeps a page with its images in the registry, and notes it; the run's identity."""
    plan, checks = verification.plan, verification.checks
    exported = {"export": file_digest} if file_digest else {}
    with (
        tempfile.TemporaryDirectory() as scratch,
        change(
            workspace,
            "report",
            base=plan.base,
            concepts=tuple(name for name, state in plan.states.items() if state == "erased"),
            digests={"base": plan.base_digest, "composition": plan.digest, "report": digest}
            | exported,
            recovery={"kind": "report"},
            details={"passed": verification.passed, "path": str(path)},
        ),
    ):
        # One image a group, for those who look at the registry rather than at the page.
        for title, rows in generated.grids.items():
            grid = image_grid(rows, ("base", "composition"))
            save_image(grid, Path(scratch) / f"{label(title)}.png")
        measurement = workspace.registry.measurements.record(
            plan.base,
            "report",
            plan.digest,
            path,
            metrics={
                "checks": float(len(checks)),
                "failed": float(sum(not check.passed for check in checks)),
            },
            passed=verification.passed,
            export_digest=file_digest,
            files=sorted(Path(scratch).iterdir()),
        )
    return measurement.run_id


def _page(
    workspace: Workspace, verification: Verification, contents: Contents, generated: Generated
) -> ReportPage:
    plan, file = verification.plan, verification.file
    evaluation, evaluation_notes = stored_evaluation(workspace, plan)
    attacks, attack_notes = stored_attacks(workspace, plan)
    history, chain, head = event_lines(workspace, plan)
    return ReportPage(
        created=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        tool=f"shiftreg {__version__}",
        base=plan.base,
        base_digest=plan.base_digest,
        digest=plan.digest,
        file=file.name if file else "",
        file_digest=contents.digest,
        concepts=_concept_lines(workspace, plan),
        warnings=plan.warnings,
        sampling=_sampling(workspace, file),
        images=generated.groups,
        separability=verification.separability,
        checks=verification.checks,
        evaluation=evaluation,
        evaluation_notes=evaluation_notes,
        attacks=attacks,
        attack_notes=attack_notes,
        shifts=shift_parts(workspace, plan),
        history=history,
        chain=chain,
        chain_head=head,
        exports=export_lines(workspace, plan),
        recipe=checkpoints.recipe_path_of(file).read_text(encoding="utf-8")
        if file
        else json.dumps(to_json(plan), indent=2, ensure_ascii=False),
    )


def _concept_lines(workspace: Workspace, plan: CompositionPlan) -> tuple[ConceptLine, ...]:
    shifts = {concept: (version, digest) for concept, version, digest in plan.shifts}
    stored = workspace.registry.shifts.concepts(plan.base)
    lines = []
    for (name, state), statement in zip(plan.states.items(), plan.statements, strict=True):
        version, digest = shifts.get(name, (0, ""))
        words = statement.removeprefix(f"{name}: ")
        if words == "erased":  # what a file's recipe says
            words += f" (version {version})"
        if words == "generates" and name in stored:
            words += " (its shift is stored, and not applied)"
        lines.append(ConceptLine(name, state, words, digest))
    return tuple(lines)


def _sampling(workspace: Workspace, file: Path | None) -> str:
    base = workspace.base
    sentence = f"Generated for this page in {base.steps} steps with guidance {base.guidance:g}."
    if file is None:
        return sentence
    return (
        f"{sentence} The composition is the base with the shifts that the file's recipe names, in "
        "the file's precision; the check “file” says whether the file holds exactly that."
    )
