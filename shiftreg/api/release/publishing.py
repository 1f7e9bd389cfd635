"""Files that appear with their record and their event, or not at all."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from shiftreg import checkpoints
from shiftreg.api.changes import Change, change, placing
from shiftreg.api.release.papers import paper_digests
from shiftreg.api.release.release import Release, family_of
from shiftreg.api.values import CompositionPlan, ReleaseFiles
from shiftreg.api.workspace import Workspace
from shiftreg.checkpoints.atomic import Placement


@dataclass
class Publication:
    """A model or adapter that is being made, out of sight.

    Attributes:
        version: Of its record, when it has appeared.
        files: What lies beside it, when it has appeared.
    """

    workspace: Workspace
    plan: CompositionPlan
    target: Path
    form: str
    reason: str
    release: Release
    _placement: Placement
    _change: Change
    version: int = 0
    files: ReleaseFiles = field(default_factory=ReleaseFiles)

    def write(self, write: Callable[[Path], checkpoints.Export]) -> checkpoints.Export:
        """Makes the file, examines it if the release asks for that, and signs it.

        Args:
            write: Writes to the path it is given, and a recipe beside it that holds
                :meth:`Release.recipe_entry`.

        Returns:
            What was made, where it will be.

        Raises:
            ReleaseRefusedError: A gate does not hold.
        """
        path = self._placement.path
        with checkpoints.storage_errors(self.target):
            made = write(path)
        if self.release.examine(path):
            with checkpoints.storage_errors(self.target):
                made = write(path)  # its recipe has to name what was overridden
        self.files = self.release.complete(path, made)
        recipe_path = checkpoints.recipe_path_of(self.target)
        return replace(made, path=self.target, recipe_path=recipe_path)

    def appear(self, made: checkpoints.Export, details: Mapping[str, Any] | None = None) -> None:
        """Lets all files appear, registers them, and tells the audit trail.

        Args:
            made: From :meth:`write`.
            details: More for the audit trail.
        """
        self._placement.place()
        # Without record and event no file stays: what fails from here on takes it away again.
        plan, registry = self.plan, self.workspace.registry
        version = registry.compositions.register(
            plan.base,
            [registry.shifts.version(plan.base, name, number) for name, number, _ in plan.shifts],
            digest=plan.digest,
            form=self.form,
            restored=[name for name, state in plan.states.items() if state == "generates"],
            export_path=str(self.target.absolute()),
            export_digest=made.digest,
            recipe_digest=made.recipe_digest,
            files=[path for path in family_of(self.target) if path.is_file()],
            reason=self.reason,
        )
        self.version = version.version
        self._change.digests |= {
            "export": made.digest,
            "recipe": made.recipe_digest,
            "record": version.record_digest,
            **paper_digests(self.target),
        }
        self._change.details |= {**self.release.details(self.files), **(details or {})}
        self._change.record()


@contextmanager
def publication(
    workspace: Workspace,
    plan: CompositionPlan,
    target: Path,
    release: Release,
    *,
    form: str,
    overwrite: bool = False,
    reason: str = "",
    details: Mapping[str, Any] | None = None,
) -> Iterator[Publication]:
    """Announces a file, and takes everything back that was made if it does not come to that.

    Args:
        workspace: Where.
        plan: What is in it.
        target: The file or folder.
        release: What it is held to.
        form: Of the file, in the words of ``Registry.register_composition``.
        overwrite: Replaces what is there.
        reason: For the audit trail.
        details: More for the audit trail.

    Raises:
        AlreadyExistsError: The target, or what belongs to it, exists.
        StorageError: The disk or the registry refused.
    """
    family = family_of(target)
    said = {"path": str(target), "form": form, "states": dict(plan.states), **(details or {})}
    with (
        change(
            workspace,
            "export",
            base=plan.base,
            concepts=tuple(name for name, state in plan.states.items() if state == "erased"),
            reason=reason,
            digests={"base": plan.base_digest, "composition": plan.digest},
            details=said,
            recovery=placing(target, family),
        ) as recorded,
        checkpoints.placed_together(target, family, overwrite) as placement,
    ):
        yield Publication(workspace, plan, target, form, reason, release, placement, recorded)
    release.record()
