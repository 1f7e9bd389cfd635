"""Commands about bases: ``init``."""

from pathlib import Path
from typing import Annotated

import typer

from .options import DryRunOption, Writing, examples, with_common
from .parsing import read_lines, read_triggers

commands = typer.Typer()


@commands.command(
    epilog=examples(
        "shiftreg init",
        "shiftreg init ./stable-diffusion-v1-5 --name sd15 --protect prompts.txt",
        "shiftreg init v1-5-pruned.ckpt --config ./stable-diffusion-v1-5 --ema",
        "shiftreg init sd_xl_base_1.0.safetensors --dry-run",
        'shiftreg init ./my-model --trigger "my watermark=payload of its QR code"',
    )
)
@with_common
def init(
    common: Writing,
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="miniature, a diffusers folder, a hub name, or a single file: "
            ".safetensors, .ckpt.",
        ),
    ] = "miniature",
    *,
    config: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            file_okay=False,
            metavar="FOLDER",
            help="For a single file: a diffusers folder of the same architecture, for its "
            "configurations and tokenizers; by default the hub's for such a file.",
            show_default=False,
        ),
    ] = None,
    ema: Annotated[
        bool,
        typer.Option("--ema", help="For a single file: take its averaged (EMA) weights."),
    ] = False,
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
            help="Nouns for the prompts of a style, one a line.",
            show_default=False,
        ),
    ] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Default denoising steps.")
    ] = None,
    guidance: Annotated[
        float | None, typer.Option(min=0, metavar="X", help="Default guidance scale.")
    ] = None,
    dry_run: DryRunOption = False,
) -> None:
    """Register a base model, so that concepts can be erased from it.

    The miniature base that comes with shiftreg needs no init: it registers itself at first use.
    A single file is converted once, into a diffusers folder below the home; it is never run.
    """
    triggers = read_triggers(trigger) if trigger else None
    single = source.lower().endswith((".safetensors", ".ckpt")) and not Path(source).is_dir()
    if not single and (config or ema or dry_run):
        raise typer.BadParameter(
            "--config, --ema and --dry-run belong to a single file: .safetensors, .ckpt."
        )
    workspace = common.workspace(dry_run=dry_run)
    from shiftreg import api

    from . import render

    if single:
        with common.progress() as observe:
            converted = api.convert_base(
                workspace,
                source,
                config=config,
                ema=ema,
                dry_run=dry_run,
                observe=observe,
            )
        if dry_run:
            common.show(converted, render.conversion(converted))
            common.note("Dry run: nothing was written.")
            return
        common.preview(render.conversion(converted))
        name, source = name or converted.file.stem, str(converted.folder)
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
