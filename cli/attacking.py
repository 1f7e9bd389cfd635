"""The command that tries to bring an erased concept back: ``attack``."""

from pathlib import Path
from typing import Annotated, Any

import typer

from .failures import CHECK_FAILED
from .options import DryRunOption, OnlyOption, WithoutOption, Writing, examples, with_common
from .parsing import choose, read_value, split_pair

commands = typer.Typer()


@commands.command(
    epilog=examples(
        "shiftreg attack Caravaggio",
        "shiftreg attack Caravaggio --attack concept-inversion --set concept-inversion.iterations=500",  # noqa: E501
        "shiftreg attack Caravaggio --against esd --against @1 --images 20",
        "shiftreg attack Caravaggio --at-most 0.1 --json",
        "shiftreg attack --list",
    )
)
@with_common
def attack(
    common: Writing,
    concept: Annotated[
        str | None,
        typer.Argument(metavar="CONCEPT", help="Name of an erased concept.", show_default=False),
    ] = None,
    *,
    attacks: Annotated[
        list[str] | None,
        typer.Option("--attack", metavar="NAME", help="See --list. Repeat; all by default."),
    ] = None,
    against: Annotated[
        list[str] | None,
        typer.Option(
            metavar="VERSION",
            help="Attack this version of the shift alone, too: NAME@VERSION, @VERSION, or a "
            "method for the newest version that it made. Repeat.",
        ),
    ] = None,
    images: Annotated[
        int, typer.Option(min=1, metavar="N", help="Images an attack and target.")
    ] = 8,
    seed: Annotated[
        int, typer.Option(min=0, metavar="N", help="Of the attacks, and the first of the images.")
    ] = 0,
    options: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="ATTACK.KEY=VALUE", help="Option of an attack. Repeat."),
    ] = None,
    only: OnlyOption = None,
    without: WithoutOption = None,
    classifier: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Who says what an image shows; see shiftreg classifier train."
        ),
    ] = None,
    at_most: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            metavar="SHARE",
            help="Fail if an attack on the composition succeeds in a larger share of images.",
            show_default=False,
        ),
    ] = None,
    listed: Annotated[
        bool, typer.Option("--list", help="List the attacks, with what --set takes, and stop.")
    ] = False,
    dry_run: DryRunOption = False,
) -> None:
    """Try to make an erased concept appear again, and say how often that succeeds.

    An erasure may hide a concept rather than take it out. Each attack searches for a way around
    it, on the composition and, as a check of the attack itself, on the base; the classifier says
    in how many images the concept is found.

    Exit code 0 whatever the attacks reach; with --at-most, 1 if one reaches more.
    """
    from . import render_attacks

    if listed:
        from shiftreg import api

        described = api.list_attacks()
        common.show(described, render_attacks.methods(described))
        return
    if concept is None:
        raise typer.BadParameter("CONCEPT is missing: which erased concept is attacked?")
    request: dict[str, Any] = {
        "attacks": tuple(attacks or ("all",)),
        "options": _read_options(options or ()),
        "against": tuple(against or ()),
        "selection": choose(only, without),
        "images": images,
        "seed": seed,
        "classifier": classifier,
    }
    workspace = common.workspace(dry_run=dry_run)
    from shiftreg import api

    plan = api.plan_attack(workspace, concept, **request)
    if dry_run:
        common.show(plan, render_attacks.plan(plan))
        common.note("Dry run: nothing was attacked.")
        return
    common.preview(render_attacks.plan(plan))
    with common.progress() as observe:
        report = api.attack(workspace, concept, **request, observe=observe)
    common.show(report, render_attacks.report(report))
    if at_most is not None and (over := render_attacks.above(report, at_most)):
        common.note(f"More than {at_most:.0%} on the composition: {', '.join(over)}")
        raise typer.Exit(CHECK_FAILED)


def _read_options(texts: list[str] | tuple[str, ...]) -> dict[str, dict[str, float | int | str]]:
    """``ATTACK.KEY=VALUE`` as attack -> key -> value.

    Raises:
        typer.BadParameter: Another form.
    """
    options: dict[str, dict[str, float | int | str]] = {}
    for text in texts:
        name, value = split_pair(text, "--set")
        attack_name, dot, key = name.partition(".")
        if not (attack_name and dot and key):
            raise typer.BadParameter(
                "--set takes ATTACK.KEY=VALUE, such as relearning.iterations=10. See --list."
            )
        options.setdefault(attack_name, {})[key] = read_value(value)
    return options
