"""The values of releases: what a policy asks for, why a release was refused, who signed a file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shiftreg.api.values import CompositionPlan, ReleaseFiles, Verification
from shiftreg.checkpoints import Export
from shiftreg.checks import Check
from shiftreg.errors import IntegrityError, ShiftregError
from shiftreg.verification import Policy


@dataclass(frozen=True)
class ReleaseRequest:
    """What is asked of a file that is released, beyond what the policy of the project requires.

    Attributes:
        verify: Refuse what does not pass the gates; done anyway where the project states gates, or
            its policy asks for it.
        images: Images a prompt that the verification generates.
        sign: Sign it with the key of the settings: an OpenSSF model signature, and an attestation
            of its verification. It is verified then, and has a bill of materials.
        override: Release what breaks the policy or a gate; needs a reason, and is recorded.
    """

    verify: bool = False
    images: int = 4
    sign: bool = False
    bill: bool = False
    override: bool = False
    reason: str = ""


PLAIN = ReleaseRequest()


@dataclass(frozen=True)
class Published:
    """A file that has appeared.

    Attributes:
        version: Of its record.
        overridden: Gates of the policy that it breaks, and was released against.
        passed: Whether its verification passed; None if it was not verified.
    """

    export: Export
    version: int
    files: ReleaseFiles
    overridden: tuple[Check, ...]
    passed: bool | None


@dataclass(frozen=True)
class PolicyStanding:
    """How a composition stands against the policy of the project.

    Attributes:
        checks: What is required of it, and whether it holds.
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
        verification: All that was checked; None if it did not come to that.
    """

    target: Path
    plan: CompositionPlan
    broken: tuple[Check, ...]
    verification: Verification | None


class ReleaseRefusedError(ShiftregError, PermissionError):
    """A release breaks a gate; nothing was written."""

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
        signer: Fingerprint of the key that it was checked by; "" if there is none.
        statement: What the attestation says of the file, JSON values; empty if it is not valid.
    """

    file: Path
    signer: str
    checks: tuple[Check, ...]
    passed: bool
    statement: Mapping[str, Any]


class UntrustedFileError(IntegrityError):
    """A file is not what was signed, or not by whom; it was not looked into."""

    def __init__(self, report: SignatureReport) -> None:
        wrong = next(check for check in report.checks if not check.passed)
        super().__init__(f"{wrong.name} of '{report.file}': {wrong.explanation}")
        self.report = report
