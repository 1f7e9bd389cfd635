"""The command that proves what a model or file is: ``verify``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Group, RenderableType
from rich.text import Text

from shiftreg import api

from .console import safe
from .failures import CHECK_FAILED, fail_unless
from .options import ClassifierOption, ImagesOption, OnlyOption, WithoutOption, Writing, command
from .parsing import choose, read_gates
from .render import checks, explained, make_matrix, pairs, verdict, warnings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from shiftreg.api.release.values import SignatureReport
    from shiftreg.api.values import Verification

MOST_COLUMNS = 9  # shifts that fit beside a prompt in a terminal of 80 columns


@command(
    "Models",
    "shiftreg verify",
    "shiftreg verify model.ckpt",
    "shiftreg verify model.ckpt --key signer.pub",
    "shiftreg verify model.ckpt --key signer.pub --signature-only",
    "shiftreg verify --without Picasso --images 8 --json",
    "shiftreg verify --gate ordinary=0.01 --gate attack=0.1",
)
def verify(
    common: Writing,
    file: Annotated[
        Path | None,
        typer.Argument(
            metavar="FILE", exists=True, help="An exported model; the composition by default."
        ),
    ] = None,
    *,
    only: OnlyOption = None,
    without: WithoutOption = None,
    images: ImagesOption = 4,
    gate: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=LIMIT",
            help="Limit for a kind of check; or the table gates of shiftreg.toml. Repeat.",
        ),
    ] = None,
    classifier: ClassifierOption = None,
    key: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Public key, PEM, that must have signed FILE (or SHIFTREG_VERIFYING_KEY).",
        ),
    ] = None,
    signature_only: Annotated[
        bool,
        typer.Option(
            "--signature-only", help="Check the signature of FILE only; needs no registry."
        ),
    ] = False,
) -> None:
    """Check that erased concepts are gone, and that everything else is as it was.

    If a file is signed, or should be, its signature is checked first.

    Gates: separability, noise, half_noise, plain_noise, remaining, images, ordinary, watermark,
    name, held_out_prompts, attack. The last requires a recorded attack on each erased concept, see
    shiftreg attack.

    Exit code 0 if all checks pass, 1 if one fails.
    """
    selection = choose(only, without)
    gates = read_gates(gate)
    if file is None and (key or signature_only):
        raise typer.BadParameter("--key and --signature-only require a FILE.")
    if file is not None and signature_only:
        signed = api.check_signature(common.settings(), file, key)
        common.show(signed, render_signature(signed))
        fail_unless(signed.passed)
        return
    workspace = common.workspace()
    try:
        with common.progress() as observe:
            result = api.verify(
                workspace,
                file,
                selection=selection,
                images=images,
                gates=gates,
                classifier=classifier,
                key=key,
                observe=observe,
            )
    except api.UntrustedFileError as error:
        common.show(error.report, render_signature(error.report))
        raise typer.Exit(CHECK_FAILED) from error
    common.show(result, render_verification(result))
    fail_unless(result.passed)


def render_verification(result: "Verification") -> RenderableType:
    """All of a verification; the matrix only while a terminal has room for it."""
    parts: list[RenderableType] = [checks(result.checks)]
    if 0 < len(result.separability) <= MOST_COLUMNS:
        parts.append(render_separability(result.separability))
    failed = [check for check in result.checks if not check.passed]
    parts += [Text(safe(f"{check.subject}: {check.explanation}"), style="red") for check in failed]
    parts += [Text(safe(sentence), style="yellow") for sentence in result.unmeasured]
    if result.rounding:
        parts.append(Text(safe(result.rounding.statement)))
    parts += warnings(result.plan.warnings)
    subject = f"file {result.file}" if result.file else f"composition {result.plan.digest[:12]}"
    outcome = (
        f"{len(failed)} of {len(result.checks)} checks failed" if failed else "All checks passed"
    )
    parts.append(verdict(f"{outcome}: {subject}", passed=result.passed))
    parts.append(pairs({"report": result.report_path}))
    return Group(*parts)


def render_separability(residuals: "Mapping[str, Mapping[str, float]]") -> RenderableType:
    """Protected prompts by shifts: how much each shift moves each prompt, relative."""
    prompts = dict.fromkeys(prompt for row in residuals.values() for prompt in row)
    rows = {
        prompt: [f"{row[prompt]:.0e}" if prompt in row else "" for row in residuals.values()]
        for prompt in prompts
    }
    return make_matrix("Separability", "Protected prompt", rows, "Shifts", residuals)


def render_signature(report: "SignatureReport") -> RenderableType:
    """Who signed a file, and what they state about it."""
    statement = report.statement
    verification = statement.get("verification") or {}
    return Group(
        checks(report.checks),
        pairs(
            {
                "checked by": report.signer and f"key {report.signer}",
                "stated": "; ".join(map(str, statement.get("statements", ()))),
                "verification": verification
                and ("passed" if verification.get("passed") else "did not pass"),
                "despite the policy": (statement.get("override") or {}).get("reason"),
            }
        ),
        *explained(check for check in report.checks if not check.passed),
        verdict(
            f"{'Signed and unchanged' if report.passed else 'Not trusted'}: {report.file}",
            passed=report.passed,
        ),
    )
