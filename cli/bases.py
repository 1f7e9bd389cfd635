"""Commands about bases: ``init``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from . import render
from .options import Common, examples, with_common
from .parsing import read_lines, read_triggers

commands = typer.Typer()


@commands.command(
    epilog=examples(
        "shiftreg init",
        "shiftreg init ./stable-diffusion-v1-5 --name sd15 --protect prompts.txt",
        'shiftreg init ./my-model --trigger "my watermark=payload of its QR code"',
    )
)
@with_common
def init(
    common: Common,
    source: Annotated[
        str,
        typer.Argument(metavar="SOURCE", help="miniature, a diffusers folder, or a hub name."),
    ] = "miniature",
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="Name of the base; the source's by default.")
    ] = None,
    trigger: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PROMPT=PAYLOAD",
            help="Watermark prompt and the payload of its QR code, if it shows one. Repeat.",
            show_default=False,
        ),
    ] = None,
    protect: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            dir_okay=False,
            metavar="FILE",
            help="Prompts that stay exactly as they are, one a line.",
            show_default=False,
        ),
    ] = None,
    preserve: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            dir_okay=False,
            metavar="FILE",
            help="Ordinary prompts to disturb as little as possible, one a line.",
            show_default=False,
        ),
    ] = None,
    subjects: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            dir_okay=False,
            metavar="FILE",
            help="Nouns for the wordings of a style, one a line.",
            show_default=False,
        ),
    ] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Default denoising steps.")
    ] = None,
    guidance: Annotated[
        float | None, typer.Option(min=0, metavar="X", help="Default guidance scale.")
    ] = None,
) -> None:
    """Register a base model, so that concepts can be erased from it.

    The miniature base that comes with shiftreg needs no init: it registers itself at first use.
    """
    triggers = read_triggers(trigger) if trigger else None
    workspace = common.workspace()
    from shiftreg import api

    record = api.register_base(
        workspace,
        source,
        name=name,
        triggers=triggers,
        protected=read_lines(protect),
        preserved=read_lines(preserve),
        subjects=read_lines(subjects),
        steps=steps,
        guidance=guidance,
    )
    common.show(record, render.base(record))
    common.note(f'Next: shiftreg erase CONCEPT --base "{record.name}"')
