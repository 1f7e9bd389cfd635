"""Releases as tables: what a policy asks for, why a release was refused, who signed a file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.text import Text

from .console import safe
from .render import pairs, plain, warnings
from .render_checks import checks

if TYPE_CHECKING:
    from shiftreg.api.composition.adapting import AdapterResult
    from shiftreg.api.release.values import PolicyStanding, Refusal, SignatureReport
    from shiftreg.api.values import Check, ExportResult

EXAMPLE = """No requirements: shiftreg.toml has no table [policy]. For example:

[policy]
must_erase = ["Caravaggio"]
verify = true
signature_required = true"""


def files(result: ExportResult | AdapterResult) -> list[RenderableType]:
    """What lies beside an export, and what it was released against."""
    release = result.release
    shown = {
        "signature": release.signature,
        "attestation": release.attestation,
        "signer": release.signer and f"key {release.signer}",
        "bill": release.bill,
    }
    parts: list[RenderableType] = [pairs(shown)] if any(shown.values()) else []
    if result.overridden:
        parts.append(Text("Released against the policy, which is recorded:", style="bold yellow"))
        parts.append(_explained(result.overridden, "yellow"))
    return parts


def refusal(refused: Refusal) -> RenderableType:
    """Each broken gate with value, limit and remedy."""
    shown = [] if refused.verification is None else [checks(refused.verification.checks)]
    broken = len(refused.broken)
    return Group(
        *shown,
        *([] if shown else [checks(refused.broken)]),
        _explained(refused.broken, "red"),
        Text(f"{broken} gate{'s'[: broken > 1]} broken: {safe(refused.target)}", "bold red"),
        *(
            [pairs({"report": refused.verification.report_path})]
            if refused.verification is not None
            else []
        ),
    )


def policy(standing: PolicyStanding) -> RenderableType:
    """Requirements and limits, and how a composition stands."""
    asked = {
        name: value
        for name, value in asdict(standing.policy).items()
        if value not in (None, False, ())
    }
    if not asked and not standing.checks:
        return Text(EXAMPLE)
    limits = {name: limit for name, limit in standing.gates.items() if limit is not None}
    failed = [check for check in standing.checks if not check.passed]
    verdict = "The policy is met" if standing.met else "The policy is not met"
    return Group(
        pairs({name: plain(value) for name, value in asked.items()}),
        pairs({"gates": plain(limits)}),
        *([checks(standing.checks)] if standing.checks else []),
        *([_explained(failed, "red")] if failed else []),
        *warnings(standing.warnings),
        Text(
            f"{verdict}: composition {safe(standing.plan.digest[:12])}",
            "bold green" if standing.met else "bold red",
        ),
    )


def signature(report: SignatureReport) -> RenderableType:
    """Who signed a file, and what they state of it."""
    failed = [check for check in report.checks if not check.passed]
    statements = report.statement.get("statements", ())
    override = report.statement.get("override") or {}
    verdict = "Signed, and unchanged" if report.passed else "Not to be trusted"
    verification = report.statement.get("verification") or {}
    return Group(
        checks(report.checks),
        pairs(
            {
                "checked by": report.signer and f"key {report.signer}",
                "stated": "; ".join(map(str, statements)),
                "verification": verification
                and ("passed" if verification.get("passed") else "did not pass"),
                "against the policy": override.get("reason"),
            }
        ),
        *([_explained(failed, "red")] if failed else []),
        Text(f"{verdict}: {safe(report.file)}", "bold green" if report.passed else "bold red"),
    )


def _explained(lines: Sequence[Check], style: str) -> RenderableType:
    return Group(
        *(
            Text(f"{safe(check.name)}, {safe(check.subject)}: {safe(check.explanation)}", style)
            for check in lines
        )
    )
