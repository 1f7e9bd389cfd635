"""What commands that release a file share: options, and what is said of a refusal."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from .failures import CHECK_FAILED
from .options import Writing

_PANEL = "Release"


@dataclass(frozen=True)
class Releasing(Writing):
    """The options of every command that writes a file for others."""

    check: Annotated[
        bool,
        typer.Option(
            "--verify",
            help="Verify the file, and write nothing if a gate is broken.",
            rich_help_panel=_PANEL,
        ),
    ] = False
    sign: Annotated[
        bool,
        typer.Option(
            "--sign",
            help="Verify and sign: model signature, attestation, bill of materials.",
            rich_help_panel=_PANEL,
        ),
    ] = False
    signing_key: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Private key, PEM (or SHIFTREG_SIGNING_KEY, signing_key in shiftreg.toml).",
            show_default=False,
            rich_help_panel=_PANEL,
        ),
    ] = None
    bill: Annotated[
        bool,
        typer.Option(
            "--bill",
            help="Write a CycloneDX bill of materials beside the file.",
            rich_help_panel=_PANEL,
        ),
    ] = False
    override: Annotated[
        bool,
        typer.Option(
            "--override",
            help="Release what breaks the policy; needs --reason.",
            rich_help_panel=_PANEL,
        ),
    ] = False

    def check_options(self) -> None:
        """Refuses an override without a reason.

        Raises:
            typer.BadParameter: There is none.
        """
        if self.override and not self.reason.strip():
            raise typer.BadParameter("--override needs --reason TEXT, for the audit trail.")

    def is_asked_for(self) -> bool:
        """Whether any of these options is given."""
        return any((self.check, self.sign, self.signing_key, self.bill, self.override))

    def release(self) -> dict[str, bool]:
        """What was asked for, as the use cases take it."""
        return {
            "verify": self.check,
            "sign": self.sign,
            "bill": self.bill,
            "override": self.override,
        }

    @contextmanager
    def refusals_shown(self, file: Path) -> Iterator[None]:
        """Shows why a file was not released.

        Raises:
            typer.Exit: It was not.
        """
        from shiftreg import api

        from . import render_release

        try:
            yield
        except api.ReleaseRefusedError as error:
            self.show(error.refusal, render_release.refusal(error.refusal))
            self.note(f"Not released: {file} was not written.")
            raise typer.Exit(CHECK_FAILED) from error
