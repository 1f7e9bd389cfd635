"""The command that registers a base model: ``init``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import RenderableType

from shiftreg import api

from .options import FILE, FOLDER, DryRunOption, Writing, command
from .parsing import read_lines, read_triggers
from .render import pairs, quoted, short

if TYPE_CHECKING:
    from shiftreg.api.bases import Conversion


@command(
    "Setup",
    "shiftreg init",
    "shiftreg init ./stable-diffusion-v1-5 --name sd15 --protect prompts.txt",
    "shiftreg init v1-5-pruned.ckpt --config ./stable-diffusion-v1-5 --ema",
    "shiftreg init sd_xl_base_1.0.safetensors --dry-run",
    'shiftreg init ./my-model --trigger "my watermark=payload of its QR code"',
)
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
            **FOLDER,
            help="For a single file: a diffusers folder of the same architecture, for its "
            "configuration and tokenizers; by default the hub's for such a file.",
        ),
    ] = None,
    ema: Annotated[
        bool, typer.Option("--ema", help="For a single file: use its averaged (EMA) weights.")
    ] = False,
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="Name of the base; the source's by default.")
    ] = None,
    trigger: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PROMPT=PAYLOAD",
            help="Watermark prompt and the payload of its QR code, if it shows one. Repeat.",
        ),
    ] = None,
    protect: Annotated[
        Path | None, typer.Option(**FILE, help="Prompts to keep exactly as they are, one per line.")
    ] = None,
    preserve: Annotated[
        Path | None,
        typer.Option(
            **FILE, help="Ordinary prompts to disturb as little as possible, one per line."
        ),
    ] = None,
    subjects: Annotated[
        Path | None, typer.Option(**FILE, help="Nouns for the prompts of a style, one per line.")
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

    The miniature base that comes with shiftreg needs no init: it is registered at first use. A
    single file is converted once, into a diffusers folder in the home; its code is never run.
    """
    triggers = read_triggers(trigger) if trigger else None
    single = source.lower().endswith((".safetensors", ".ckpt")) and not Path(source).is_dir()
    if not single and (config or ema or dry_run):
        raise typer.BadParameter(
            "--config, --ema and --dry-run require a single file: .safetensors, .ckpt."
        )
    workspace = common.workspace(dry_run=dry_run)
    if single:
        with common.progress() as observe:
            converted = api.convert_base(
                workspace, source, config=config, ema=ema, dry_run=dry_run, observe=observe
            )
        shown = render_conversion(converted)
        if common.plan(converted, shown, dry_run=dry_run, note="nothing was written."):
            return
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
    common.show(record, render_base(record))
    common.note(f'Next: shiftreg erase CONCEPT --base "{record.name}"')


def render_base(record: "api.BaseRecord") -> RenderableType:
    """A base that was registered."""
    triggers = [f"{prompt} ({payload or 'no code'})" for prompt, payload in record.triggers.items()]
    return pairs(
        {
            "base": record.name,
            "source": record.source,
            "digest": short(record.digest),
            "layers": f"{len(record.layers)} that read only the text",
            "triggers": ", ".join(triggers) or "none",
            "protected": quoted(record.protected),
            "preserved": quoted(record.preserved),
            "subjects": ", ".join(record.subjects),
            "sampling": f"{record.steps} steps, guidance {record.guidance:g}",
        }
    )


def render_conversion(made: "Conversion") -> RenderableType:
    """A single file, and the folder that it became."""
    if not made.averaged:
        weights = "plain; the file has no averaged (EMA) ones"
    elif made.ema:
        weights = "averaged (EMA); the plain ones were skipped"
    else:
        weights = "plain; the file's averaged (EMA) ones were skipped, --ema uses them"
    names = ", ".join(made.left_out[:3]) + (", ..." if len(made.left_out) > 3 else "")
    return pairs(
        {
            "file": str(made.file),
            "digest": short(made.file_digest),
            "config": str(made.config),
            "tensors": ", ".join(f"{count} of {part}" for part, count in made.components.items()),
            "weights": weights,
            "skipped": f"{len(made.left_out)} tensors: {names}" if made.left_out else "nothing",
            "folder": f"{made.folder}{' (existed)' if made.exists else ''}",
        }
    )
