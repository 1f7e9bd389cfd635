"""What stands between a composition and its release: requirements, verification, signature."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from shiftreg import release
from shiftreg.api.changes import change
from shiftreg.api.composition.verify import examine_file, keep_verification
from shiftreg.api.release.documents import bill_parts, predicate
from shiftreg.api.release.policy import attack_checks, read_policy, requirements
from shiftreg.api.release.values import Published, Refusal, ReleaseRefusedError, ReleaseRequest
from shiftreg.api.values import CompositionPlan, Observer, ReleaseFiles, Verification
from shiftreg.api.workspace import Workspace
from shiftreg.checkpoints import (
    Export,
    file_digest,
    placed_together,
    recipe_path_of,
    storage_errors,
)
from shiftreg.checkpoints.atomic import Placement
from shiftreg.checks import Check
from shiftreg.errors import InvalidInputError
from shiftreg.keys import SigningKey, load_signing_key
from shiftreg.release.files import BILLS, SIGNATURES, require
from shiftreg.settings import PROJECT_FILE, Settings


def written_files(target: Path) -> tuple[Path, ...]:
    """All that may lie beside a release and belongs to it."""
    return (recipe_path_of(target), *release.sidecar_files(target).values())


class Release:
    """A release on its way: refused, or examined, described, signed and recorded."""

    def __init__(
        self,
        workspace: Workspace,
        plan: CompositionPlan,
        target: Path,
        request: ReleaseRequest,
        observe: Observer,
        *,
        is_adapter: bool = False,
    ) -> None:
        """Checks all that can be known before anything is written.

        What the policy says of whole models (``must_erase``, ``may_generate``) does not hold an
        adapter, which makes nothing generate.

        Raises:
            IntegrityError: The registry and the audit trail disagree on what is active.
            ReleaseRefusedError: A requirement of the policy does not hold.
            InvalidInputError: No key to sign with, or no reason to override.
            MissingExtraError: A library that is asked for is not installed.
        """
        workspace.require_agreement()
        if request.override and not request.reason.strip():
            raise InvalidInputError(
                "Overriding the policy needs a reason, for the audit trail. Give --reason TEXT."
            )
        self._workspace, self._plan, self._target, self._request = workspace, plan, target, request
        self._policy, self._gates = read_policy(workspace.settings)
        # What is signed says how its verification went; limits that nobody measures bind nobody.
        limited = bool(workspace.settings.gates)
        self._verifies = request.verify or request.sign or self._policy.verify or limited
        self._observe = observe
        self._override = request.override
        self._bills = request.bill or request.sign
        self._key = _signing_key(workspace.settings) if request.sign else None
        if self._bills:
            require(*BILLS)
        self._verification: Verification | None = None
        self._overridden: tuple[Check, ...] = ()
        checks = requirements(
            workspace,
            plan,
            self._policy,
            signed=request.sign,
            billed=self._bills,
            is_adapter=is_adapter,
        )
        if self._verifies:
            # Known before an image is generated; reported again by the verification.
            checks += attack_checks(workspace, plan, self._gates)
        self._refuse([check for check in checks if not check.passed])

    def publish(
        self,
        write: Callable[[Path], Export],
        *,
        form: str,
        overwrite: bool = False,
        details: Mapping[str, Any] | None = None,
        measured: Callable[[], Mapping[str, Any]] = dict,
    ) -> Published:
        """Makes a file out of sight, and lets it appear with its record and its event, or not.

        It is examined and signed before it appears, as far as that is asked for.

        Args:
            write: Writes to the path that it is given, and a recipe beside it that holds
                :meth:`recipe_entry`.
            form: Of the file, in the words of the registry.
            details: More for the audit trail.
            measured: Still more, known when the file is written.

        Raises:
            ReleaseRefusedError: A gate does not hold.
            AlreadyExistsError: The target, or what belongs to it, exists.
            StorageError: The disk or the registry refused.
        """
        plan, target, registry = self._plan, self._target, self._workspace.registry
        beside = written_files(target)
        with (
            change(
                self._workspace,
                "export",
                base=plan.base,
                concepts=tuple(name for name, state in plan.states.items() if state == "erased"),
                reason=self._request.reason,
                digests={"base": plan.base_digest, "composition": plan.digest},
                details={"path": str(target), "form": form, "states": dict(plan.states)}
                | dict(details or {}),
                recovery={"paths": [str(path.absolute()) for path in (target, *beside)]},
            ) as recorded,
            placed_together(target, beside, overwrite) as placement,
        ):
            recorded.note(partial=placement.folder.name)
            with storage_errors(target):
                made = write(placement.path)
            if self._examine(placement.path):
                with storage_errors(target):
                    made = write(placement.path)  # its recipe has to name what was overridden
            files = self._complete(placement.path, made)
            recorded.note(made=_marks(placement, made.digest))
            placement.place()
            # Without record and event no file stays: what fails from here on takes it away again.
            shifts = [registry.shifts.version(plan.base, name, n) for name, n, _ in plan.shifts]
            version = registry.compositions.register(
                plan.base,
                shifts,
                digest=plan.digest,
                form=form,
                restored=[name for name, state in plan.states.items() if state == "generates"],
                export_path=str(target.absolute()),
                export_digest=made.digest,
                recipe_digest=made.recipe_digest,
                files=[path for path in beside if path.is_file()],
                reason=self._request.reason,
            )
            recorded.digests |= {
                "export": made.digest,
                "recipe": made.recipe_digest,
                "record": version.record_digest,
                **release.sidecar_digests(target),
            }
            signer = {"signer": files.signer} if files.signer else {}
            recorded.details |= {**self.recipe_entry(), **signer, **measured()}
            recorded.record()
        if self._verification is not None:
            keep_verification(self._workspace, self._verification, made.digest)
        return Published(
            export=replace(made, path=target),
            version=version.version,
            files=files,
            overridden=self._overridden,
            passed=self._verification.passed if self._verification else None,
        )

    def recipe_entry(self) -> dict[str, Any]:
        """What the recipe says of an override; empty without one."""
        if not self._overridden:
            return {}
        said = ("name", "subject", "value", "limit")
        broken = [{key: getattr(check, key) for key in said} for check in self._overridden]
        return {"override": {"reason": self._request.reason, "broken": broken}}

    def _examine(self, staged: Path) -> bool:
        """Verifies the file before it appears, if it is to be verified.

        Returns:
            Whether more is overridden than before, so that the recipe has to say so.

        Raises:
            ReleaseRefusedError: A gate does not hold, or the file is not what it should be.
        """
        if not self._verifies:
            return False
        found = examine_file(self._workspace, staged, self._request.images, self._observe)
        self._verification = replace(found, file=self._target)
        before = self._overridden
        failed = [check for check in found.checks if not check.passed]
        if any(check.name == "file" for check in failed):
            self._override = False  # a damaged file is nobody's will
        self._refuse(failed)
        return self._overridden != before

    def _complete(self, staged: Path, made: Export) -> ReleaseFiles:
        """Writes and signs what goes with the file, beside where it was made.

        Returns:
            The files, where they will appear.
        """
        files = ReleaseFiles()
        made_here, shown = release.sidecar_files(staged), release.sidecar_files(self._target)
        recipe: Mapping[str, Any] = json.loads(recipe_path_of(staged).read_text(encoding="utf-8"))
        digests = release.file_digests(staged) if staged.is_dir() else {staged.name: made.digest}
        if self._bills:
            parts = bill_parts(self._workspace, self._plan, made, recipe, digests)
            release.write_bill(*parts, made_here["bill"], recipe["tools"]["shiftreg"])
            files = replace(files, bill=shown["bill"])
        if self._key is not None:
            said = predicate(
                self._plan, made, recipe, self._verification, self._request.images, staged
            ) | {"policy": dict(self._workspace.settings.policy)}
            attestation = release.Attestation(digests, said)
            release.write_attestation(attestation, made_here["attestation"], self._key)
            release.write_bundle(staged, digests, made_here["signature"], self._key)
            files = replace(
                files,
                signature=shown["signature"],
                attestation=shown["attestation"],
                signer=self._key.public.fingerprint,
            )
        return files

    def _refuse(self, broken: list[Check]) -> None:
        """Stops the release, or notes what is overridden."""
        known = {(check.name, check.subject) for check in self._overridden}
        new = [check for check in broken if (check.name, check.subject) not in known]
        if self._override or not new:
            self._overridden += tuple(new)
            return
        if self._verification is not None:
            self._verification = keep_verification(self._workspace, self._verification)
        refusal = Refusal(self._target, self._plan, tuple(broken), self._verification)
        raise ReleaseRefusedError(refusal)


def _marks(placement: Placement, digest: str) -> dict[str, list[Any]]:
    """By what each file that is about to appear is known again: its inode and its SHA-256."""
    return {
        path.name: [path.stat().st_ino, digest if path == placement.path else file_digest(path)]
        for path in placement.folder.iterdir()
    }


def _signing_key(settings: Settings) -> SigningKey:
    if settings.signing_key is None:
        raise InvalidInputError(
            "Signing needs a key, and none is set. Give --signing-key FILE, SHIFTREG_SIGNING_KEY "
            f"or signing_key in {PROJECT_FILE}."
        )
    require(*SIGNATURES)
    key = load_signing_key(settings.signing_key)
    release.require_curve(key)
    return key
