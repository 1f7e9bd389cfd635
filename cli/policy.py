"""What a project requires of its releases: ``policy``, and the options of commands that release."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Group, RenderableType
from rich.text import Text

from shiftreg import api

from .failures import CHECK_FAILED, fail_unless
from .options import Common, OnlyOption, WithoutOption, Writing, command, option
from .parsing import choose
from .render import checks, count, explained, pairs, plain, verdict, warnings

if TYPE_CHECKING:
    from shiftreg.api.composition.adapter import AdapterResult
    from shiftreg.api.release.values import PolicyStanding, Refusal, ReleaseRequest
    from shiftreg.api.values import ExportResult

_PANEL = "Release"
EXAMPLE = """No requirements: shiftreg.toml has no table [policy]. For example:

[policy]
must_erase = ["Caravaggio"]
verify = true
signature_required = true"""


@dataclass(frozen=True)
class Releasing(Writing):
    """The options of every command that writes a file for others."""

    check: Annotated[
        bool, option(_PANEL, "--verify", help="Verify the file, and write nothing if a gate fails.")
    ] = False
    sign: Annotated[
        bool,
        option(
            _PANEL,
            "--sign",
            help="Verify and sign: model signature, attestation, bill of materials.",
        ),
    ] = False
    signing_key: Annotated[
        Path | None,
        option(
            _PANEL,
            metavar="FILE",
            help="Private key, PEM (or SHIFTREG_SIGNING_KEY, signing_key in shiftreg.toml).",
        ),
    ] = None
    bill: Annotated[
        bool, option(_PANEL, "--bill", help="Write a CycloneDX bill of materials beside the file.")
    ] = False
    override: Annotated[
        bool, option(_PANEL, "--override", help="Release despite the policy; requires --reason.")
    ] = False

    def check_options(self) -> None:
        """Refuses an override without a reason.

        Raises:
            typer.BadParameter: No reason is given.
        """
        if self.override:
            self.require_reason("--override needs --reason TEXT, for the audit trail.")

    def is_asked_for(self) -> bool:
        """Whether any of these options is given."""
        return any((self.check, self.sign, self.signing_key, self.bill, self.override))

    def release(self) -> "ReleaseRequest":
        """What was asked for, as the use cases take it."""
        return api.ReleaseRequest(
            verify=self.check,
            sign=self.sign,
            bill=self.bill,
            override=self.override,
            reason=self.reason,
        )

    @contextmanager
    def refusals_shown(self, file: Path) -> Iterator[None]:
        """Shows why a file was not released.

        Raises:
            typer.Exit: It was not.
        """
        try:
            yield
        except api.ReleaseRefusedError as error:
            self.show(error.refusal, render_refusal(error.refusal))
            self.note(f"Not released: {file} was not written.")
            raise typer.Exit(CHECK_FAILED) from error


@command(
    "Models",
    "shiftreg policy",
    "shiftreg policy --without Picasso",
    "shiftreg policy --json",
)
def policy(common: Common, *, only: OnlyOption = None, without: WithoutOption = None) -> None:
    """Show what a release must fulfil, and whether the composition does.

    Requirements are in the table policy of shiftreg.toml, limits in the table gates. Nothing is
    measured again: what is on record counts, and what is missing says what to run.

    Exit code 0 if everything is fulfilled, 1 if something is not.
    """
    selection = choose(only, without)
    workspace = common.workspace()
    standing = api.policy_standing(workspace, selection)
    common.show(standing, render_policy(standing))
    fail_unless(standing.met)


def render_policy(standing: "PolicyStanding") -> RenderableType:
    """Requirements and limits, and whether a composition fulfils them."""
    asked = {
        name: plain(value)
        for name, value in asdict(standing.policy).items()
        if value not in (None, False, ())
    }
    if not asked and not standing.checks:
        return Text(EXAMPLE)
    limits = {name: limit for name, limit in standing.gates.items() if limit is not None}
    outcome = "The policy is met" if standing.met else "The policy is not met"
    return Group(
        pairs(asked),
        pairs({"gates": plain(limits)}),
        *([checks(standing.checks)] if standing.checks else []),
        *explained(check for check in standing.checks if not check.passed),
        *warnings(standing.warnings),
        verdict(f"{outcome}: composition {standing.plan.digest[:12]}", passed=standing.met),
    )


def render_sidecars(result: "ExportResult | AdapterResult") -> list[RenderableType]:
    """What lies beside an export, and what it was released despite."""
    release = result.release
    shown = {
        "signature": release.signature,
        "attestation": release.attestation,
        "signer": release.signer and f"key {release.signer}",
        "bill": release.bill,
    }
    parts: list[RenderableType] = [pairs(shown)] if any(shown.values()) else []
    if result.overridden:
        parts.append(Text("Released despite the policy, on record:", style="bold yellow"))
        parts += explained(result.overridden, "yellow")
    return parts


def render_refusal(refused: "Refusal") -> RenderableType:
    """Each failed gate with value, limit and remedy."""
    verification = refused.verification
    return Group(
        checks(refused.broken if verification is None else verification.checks),
        *explained(refused.broken),
        verdict(f"{count(len(refused.broken), 'gate')} failed: {refused.target}", passed=False),
        *([] if verification is None else [pairs({"report": verification.report_path})]),
    )
