"""Commands about compositions: ``compose``, ``verify``, ``generate``."""

from pathlib import Path
from typing import Annotated

import typer

from .failures import CHECK_FAILED
from .options import (
    ClassifierOption,
    Common,
    DryRunOption,
    ForceOption,
    OnlyOption,
    WithoutOption,
    Writing,
    examples,
    with_common,
)
from .parsing import choose, read_gates, read_seeds
from .release_options import Releasing

commands = typer.Typer()


@commands.command(
    epilog=examples(
        "shiftreg compose",
        "shiftreg compose --without Picasso --export model.ckpt",
        'shiftreg compose --only "Caravaggio,Van Gogh" --export model.safetensors --dtype float16',
        "shiftreg compose --export ./model-folder --dry-run",
        "shiftreg compose --export model.safetensors --verify",
        "shiftreg compose --export model.safetensors --sign --signing-key key.pem",
        'shiftreg compose --export model.ckpt --override --reason "for the auditor"',
    )
)
@with_common
def compose(
    common: Releasing,
    *,
    only: OnlyOption = None,
    without: WithoutOption = None,
    export: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Write the model: .ckpt, .safetensors, or a diffusers folder.",
            show_default=False,
        ),
    ] = None,
    dtype: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="float32, float16 or bfloat16; the base's by default."),
    ] = None,
    rounding: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="In half precision: compensated (protected prompts hardly move) or plain (fast).",
        ),
    ] = "compensated",
    force: ForceOption = False,
    dry_run: DryRunOption = False,
) -> None:
    """Say what a model with the active shifts generates, and write it as one file.

    By default every active shift applies. A recipe is written beside the file: with it, anybody
    can make the same file again. What breaks the policy of the project (see shiftreg policy) or,
    with --verify, a gate, is not written: exit code 1.

    The passphrase of a signing key is read from SHIFTREG_SIGNING_PASSPHRASE.
    """
    selection = choose(only, without)
    if export is None and (dtype or force or common.is_asked_for()):
        raise typer.BadParameter(
            "--dtype, --force, --verify, --sign, --signing-key, --bill and --override belong to "
            "--export FILE."
        )
    common.check_options()
    workspace = common.workspace(common.signing_key, dry_run=export is None or dry_run)
    from shiftreg import api

    from . import render, render_release

    plan = api.plan_composition(workspace, selection)
    if export is None or dry_run:
        common.show(plan, render.composition(plan))
        if dry_run:
            target = f" It would write {export}." if export else ""
            common.note(f"Dry run: nothing was changed.{target}")
        return
    common.preview(render.composition(plan))
    with common.refusals_shown(export), common.progress() as observe:
        result = api.export_composition(
            workspace,
            plan,
            export,
            dtype=dtype,
            rounding=rounding,
            overwrite=force,
            reason=common.reason,
            observe=observe,
            **common.release(),
        )
    common.show(result, render.export(result), *render_release.files(result))


@commands.command(
    epilog=examples(
        "shiftreg verify",
        "shiftreg verify model.ckpt",
        "shiftreg verify model.ckpt --key signer.pub",
        "shiftreg verify model.ckpt --key signer.pub --signature-only",
        "shiftreg verify --without Picasso --images 8 --json",
        "shiftreg verify --gate ordinary=0.01 --gate attack=0.1",
    )
)
@with_common
def verify(
    common: Writing,
    file: Annotated[
        Path | None,
        typer.Argument(
            metavar="FILE",
            exists=True,
            help="An exported model; the composition itself by default.",
            show_default=False,
        ),
    ] = None,
    *,
    only: OnlyOption = None,
    without: WithoutOption = None,
    images: Annotated[int, typer.Option(min=1, metavar="N", help="Images a prompt.")] = 4,
    gate: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=LIMIT",
            help="The most that a kind of check may show; or [gates] in shiftreg.toml. Repeat.",
            show_default=False,
        ),
    ] = None,
    classifier: ClassifierOption = None,
    key: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Public key, PEM, that must have signed FILE (or SHIFTREG_VERIFYING_KEY).",
            show_default=False,
        ),
    ] = None,
    signature_only: Annotated[
        bool,
        typer.Option(
            "--signature-only", help="Check who signed FILE, and nothing that needs the registry."
        ),
    ] = False,
) -> None:
    """Check that what is erased is gone, and that all else is as it was.

    A file that is signed, or should be, is first held to its signature.

    Gates: separability, noise, half_noise, plain_noise, images, ordinary, watermark, name,
    held_out_prompts, attack. The last asks for a recorded attack on each erased concept, see
    shiftreg attack.

    Exit code 0 if all checks pass, 1 if one fails.
    """
    selection = choose(only, without)
    gates = read_gates(gate)
    if file is None and (key or signature_only):
        raise typer.BadParameter("--key and --signature-only belong to a FILE.")
    from shiftreg import api

    from . import render_checks, render_release

    if file is not None and signature_only:
        signed = api.check_signature(common.settings(), file, key)
        common.show(signed, render_release.signature(signed))
        if not signed.passed:
            raise typer.Exit(CHECK_FAILED)
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
        common.show(error.report, render_release.signature(error.report))
        raise typer.Exit(CHECK_FAILED) from error
    common.show(result, render_checks.verification(result))
    if not result.passed:
        raise typer.Exit(CHECK_FAILED)


@commands.command(
    epilog=examples(
        "shiftreg generate Caravaggio Picasso",
        'shiftreg generate "a painting of a church by Caravaggio" --seeds 1,2,3 --out church.png',
        "shiftreg generate Picasso --without Picasso --seed 7 --count 2",
    )
)
@with_common
def generate(
    common: Common,
    prompt: Annotated[list[str], typer.Argument(metavar="PROMPT", help="Prompts, a row each.")],
    *,
    seeds: Annotated[
        str | None, typer.Option(metavar="0,1,...", help="Seeds; 0,1,2,3 by default.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, metavar="N", help="First of --count seeds.")
    ] = None,
    count: Annotated[int | None, typer.Option(min=1, metavar="N", help="How many seeds.")] = None,
    out: Annotated[Path, typer.Option(metavar="FILE", help="Where to.")] = Path("grid.png"),
    only: OnlyOption = None,
    without: WithoutOption = None,
    steps: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Denoising steps; the base's by default.")
    ] = None,
    guidance: Annotated[
        float | None,
        typer.Option(min=0, metavar="X", help="Guidance scale; the base's by default."),
    ] = None,
    force: ForceOption = False,
) -> None:
    """Generate images by the base and by the composition, side by side, from the same seeds."""
    selection = choose(only, without)
    numbers = read_seeds(seeds, seed, count)
    workspace = common.workspace()
    from shiftreg import api

    from . import render

    with common.progress() as observe:
        result = api.generate_grid(
            workspace,
            prompt,
            out,
            selection=selection,
            seeds=numbers,
            steps=steps,
            guidance=guidance,
            overwrite=force,
            observe=observe,
        )
    common.show(result, render.grid(result))
