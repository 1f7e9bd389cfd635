"""The values of releases: what a policy asks for, why a release was refused, who signed a file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shiftreg.api.values import CompositionPlan, Verification
from shiftreg.checks import Check
from shiftreg.errors import IntegrityError, ShiftregError
from shiftreg.verification import Policy


@dataclass(frozen=True)
class PolicyStanding:
    """How a composition stands against the policy of the project.

    Attributes:
        policy: The requirements.
        gates: Name of a gate -> limit.
        plan: The composition.
        checks: What is required of it, and whether it holds.
        met: Whether all hold.
        warnings: What is on record and was not believed.
    """

    policy: Policy
    gates: Mapping[str, float | None]
    plan: CompositionPlan
    checks: tuple[Check, ...]
    met: bool
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Refusal:
    """A release that was not made.

    Attributes:
        target: What would have been written.
        plan: The composition.
        broken: What does not hold.
        verification: All that was checked; None if it did not come to that.
    """

    target: Path
    plan: CompositionPlan
    broken: tuple[Check, ...]
    verification: Verification | None


class ReleaseRefusedError(ShiftregError, PermissionError):
    """A release breaks a gate; nothing was written.

    Attributes:
        refusal: Why.
    """

    def __init__(self, refusal: Refusal) -> None:
        first = refusal.broken[0]
        more = f" (and {len(refusal.broken) - 1} more)" if len(refusal.broken) > 1 else ""
        super().__init__(
            f"'{refusal.target}' was not released: {first.name}, {first.subject}: "
            f"{first.explanation}{more}"
        )
        self.refusal = refusal


@dataclass(frozen=True)
class SignatureReport:
    """Whether a file is what somebody signed.

    Attributes:
        file: The file or folder.
        signer: Fingerprint of the key that it was checked by; "" if there is none.
        checks: Signature, attestation, bill of materials.
        passed: Whether all hold.
        statement: What the attestation says of the file, JSON values; empty if it is not valid.
    """

    file: Path
    signer: str
    checks: tuple[Check, ...]
    passed: bool
    statement: Mapping[str, Any]


class UntrustedFileError(IntegrityError):
    """A file is not what was signed, or not by whom; it was not looked into.

    Attributes:
        report: What was found.
    """

    def __init__(self, report: SignatureReport) -> None:
        wrong = next(check for check in report.checks if not check.passed)
        super().__init__(f"{wrong.name} of '{report.file}': {wrong.explanation}")
        self.report = report
