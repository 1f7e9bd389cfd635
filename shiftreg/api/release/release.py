"""What stands between a composition and its release: requirements, verification, signature."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from shiftreg import release
from shiftreg.api.composition.contents import contents_of_file
from shiftreg.api.composition.verify import examine, keep_verification
from shiftreg.api.release.documents import bill_parts, predicate
from shiftreg.api.release.policy import attack_checks, read_policy, requirements
from shiftreg.api.release.values import Refusal, ReleaseRefusedError
from shiftreg.api.values import CompositionPlan, Observer, ReleaseFiles, Verification
from shiftreg.api.workspace import Workspace
from shiftreg.checkpoints import Export, card_path_of, recipe_path_of
from shiftreg.checks import Check
from shiftreg.errors import InvalidInputError
from shiftreg.keys import SigningKey, load_signing_key
from shiftreg.release.bill import require_library as require_bills
from shiftreg.release.bundle import require_library as require_bundles
from shiftreg.settings import PROJECT_FILE, Settings


def family_of(target: Path) -> tuple[Path, ...]:
    """All that may lie beside a release and belongs to it."""
    return (
        recipe_path_of(target),
        card_path_of(target),
        release.signature_path_of(target),
        release.attestation_path_of(target),
        release.bill_path_of(target),
    )


class Release:
    """A release on its way: refused, or examined, described, signed and recorded.

    Attributes:
        overridden: What the release breaks, by the will of who overrides it.
    """

    def __init__(
        self,
        workspace: Workspace,
        plan: CompositionPlan,
        target: Path,
        *,
        verify: bool,
        images: int,
        sign: bool,
        bill: bool,
        override: bool,
        reason: str,
        observe: Observer,
        is_adapter: bool = False,
    ) -> None:
        """Checks all that can be known before anything is written.

        What the policy says of whole models (``must_erase``, ``may_generate``) does not hold an
        adapter, which makes nothing generate.

        Raises:
            ReleaseRefusedError: A requirement of the policy does not hold.
            InvalidInputError: No key to sign with, or no reason to override.
            MissingExtraError: A library that is asked for is not installed.
        """
        if override and not reason.strip():
            raise InvalidInputError(
                "Overriding the policy needs a reason, for the audit trail. Give --reason TEXT."
            )
        self._workspace, self._plan, self._target = workspace, plan, target
        self._policy, self._gates = read_policy(workspace.settings)
        # What is signed says how its verification went; limits that nobody measures bind nobody.
        limited = bool(workspace.settings.gates)
        self._verifies = verify or sign or self._policy.verify or limited
        self._images, self._observe = images, observe
        self._override, self._reason = override, reason
        self._bills = bill or sign
        self._key = _signing_key(workspace.settings) if sign else None
        if self._bills:
            require_bills()
        self.verification: Verification | None = None
        self.overridden: tuple[Check, ...] = ()
        self._digest = ""
        checks = requirements(
            workspace,
            plan,
            self._policy,
            signed=sign,
            billed=self._bills,
            is_adapter=is_adapter,
        )
        if self._verifies:
            # Known before an image is generated; told again by the verification.
            checks += attack_checks(workspace, plan, self._gates)
        self._refuse([check for check in checks if not check.passed])

    def examine(self, staged: Path) -> bool:
        """Verifies the file before it appears, if it is to be verified.

        Args:
            staged: Where it was made.

        Returns:
            Whether more is overridden than before, so that the recipe has to say so.

        Raises:
            ReleaseRefusedError: A gate does not hold, or the file is not what it should be.
        """
        if not self._verifies:
            return False
        found, _ = examine(
            self._workspace,
            lambda: contents_of_file(self._workspace, staged, self._observe),
            images=self._images,
            observe=self._observe,
        )
        self.verification = replace(found, file=self._target)
        before = self.overridden
        failed = [check for check in found.checks if not check.passed]
        if any(check.name == "file" for check in failed):
            self._override = False  # a damaged file is nobody's will
        self._refuse(failed)
        return self.overridden != before

    def recipe_entry(self) -> dict[str, Any]:
        """What the recipe says of an override; empty without one."""
        if not self.overridden:
            return {}
        return {"override": {"reason": self._reason, "broken": _told(self.overridden)}}

    def complete(self, staged: Path, made: Export) -> ReleaseFiles:
        """Writes and signs what goes with the file, beside where it was made.

        Returns:
            The files, where they will appear.
        """
        self._digest = made.digest
        files = ReleaseFiles()
        recipe: Mapping[str, Any] = json.loads(recipe_path_of(staged).read_text(encoding="utf-8"))
        digests = release.file_digests(staged) if staged.is_dir() else {staged.name: made.digest}
        if self._bills:
            path = release.bill_path_of(staged)
            parts = bill_parts(self._workspace, self._plan, made, recipe, digests)
            release.write_bill(*parts, path, recipe["tools"]["shiftreg"])
            files = replace(files, bill=release.bill_path_of(self._target))
        if self._key is not None:
            said = predicate(self._plan, made, recipe, self.verification, self._images, staged) | {
                "policy": dict(self._workspace.settings.policy)
            }
            release.write_attestation(
                release.Attestation(digests, said),
                release.attestation_path_of(staged),
                self._key,
            )
            release.write_bundle(staged, digests, release.signature_path_of(staged), self._key)
            files = replace(
                files,
                signature=release.signature_path_of(self._target),
                attestation=release.attestation_path_of(self._target),
                signer=self._key.public.fingerprint,
            )
        return files

    def details(self, files: ReleaseFiles) -> dict[str, Any]:
        """What the audit trail says of the release."""
        details: dict[str, Any] = self.recipe_entry()
        if files.signer:
            details["signer"] = files.signer
        return details

    def record(self) -> None:
        """Records the verification of a file that appeared."""
        if self.verification is not None:
            self.verification = keep_verification(self._workspace, self.verification, self._digest)

    def _refuse(self, broken: list[Check]) -> None:
        """Stops the release, or notes what is overridden."""
        known = {(check.name, check.subject) for check in self.overridden}
        new = [check for check in broken if (check.name, check.subject) not in known]
        if self._override or not new:
            self.overridden += tuple(new)
            return
        if self.verification is not None:
            self.verification = keep_verification(self._workspace, self.verification)
        refusal = Refusal(self._target, self._plan, tuple(broken), self.verification)
        raise ReleaseRefusedError(refusal)


def _signing_key(settings: Settings) -> SigningKey:
    if settings.signing_key is None:
        raise InvalidInputError(
            "Signing needs a key, and none is set. Give --signing-key FILE, SHIFTREG_SIGNING_KEY "
            f"or signing_key in {PROJECT_FILE}."
        )
    require_bundles()
    key = load_signing_key(settings.signing_key)
    release.require_curve(key)
    return key


def _told(checks: tuple[Check, ...]) -> list[dict[str, Any]]:
    return [
        {
            "name": check.name,
            "subject": check.subject,
            "value": check.value,
            "limit": check.limit,
        }
        for check in checks
    ]
