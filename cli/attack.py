"""The command that tries to bring an erased concept back: ``attack``."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Group, RenderableType
from rich.text import Text

from shiftreg import api

from .console import safe
from .failures import fail_unless
from .options import ClassifierOption, DryRunOption, OnlyOption, WithoutOption, Writing, command
from .parsing import choose, read_value, split_pair
from .render import make_panel, make_table, number, pairs, plain, share, short, warnings

if TYPE_CHECKING:
    from shiftreg.api.attacks.attack import AttackReport, AttackScore
    from shiftreg.api.attacks.plan import AttackPlan
    from shiftreg.api.values import Estimate

BASE, COMPOSITION, CONTROL = "base", "composition", "base, without the name"
CAUTION = (
    "What no attack brings back here may still be in the weights: other attacks, or a larger "
    "budget, may find it."
)


@command(
    "Measure",
    "shiftreg attack Caravaggio",
    "shiftreg attack Picasso --attack relearning --set relearning.iterations=10",
    "shiftreg attack Caravaggio --against esd --against @1 --images 20",
    "shiftreg attack Caravaggio --at-most 0.1 --json",
    "shiftreg attack --list",
)
def attack(
    common: Writing,
    concept: Annotated[
        str | None, typer.Argument(metavar="CONCEPT", help="Name of an erased concept.")
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
            help="Also attack this version of the shift alone: NAME@VERSION, @VERSION, or a "
            "method for the newest version that it made. Repeat.",
        ),
    ] = None,
    images: Annotated[
        int, typer.Option(min=1, metavar="N", help="Images per attack and target.")
    ] = 8,
    seed: Annotated[
        int, typer.Option(min=0, metavar="N", help="Of the attacks, and of the first image.")
    ] = 0,
    options: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="ATTACK.KEY=VALUE", help="Option of an attack. Repeat."),
    ] = None,
    only: OnlyOption = None,
    without: WithoutOption = None,
    classifier: ClassifierOption = None,
    at_most: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            metavar="SHARE",
            help="Fail if an attack on the composition succeeds in a larger share of images.",
        ),
    ] = None,
    listed: Annotated[
        bool, typer.Option("--list", help="List the attacks and what --set accepts, and stop.")
    ] = False,
    dry_run: DryRunOption = False,
) -> None:
    """Try to make an erased concept reappear, and report how often that succeeds.

    An erasure may hide a concept rather than remove it. Each attack searches for a way around it,
    on the composition and, as a control, on the base; the classifier detects the concept in the
    images.

    Exit code 0 whatever the attacks achieve; with --at-most, 1 if one achieves more.
    """
    if listed:
        described = api.list_attacks()
        common.show(described, render_methods(described))
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
    planned = api.plan_attack(workspace, concept, **request)
    shown = render_plan(planned.plan)
    if common.plan(planned.plan, shown, dry_run=dry_run, note="nothing was attacked."):
        return
    with common.progress() as observe:
        report = api.attack(workspace, planned, observe=observe)
    common.show(report, render_report(report))
    if at_most is not None:
        over = [
            f"{name} {success:.0%}"
            for name, success in report.above_control().items()
            if success > at_most
        ]
        if over:
            common.note(f"More than {at_most:.0%} on the composition: {', '.join(over)}")
        fail_unless(not over)


def _read_options(texts: Sequence[str]) -> dict[str, dict[str, float | int | str]]:
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


def render_methods(described: Sequence["api.AttackMethod"]) -> RenderableType:
    """Attacks, a row each, and what ``--set`` accepts."""
    rows = ((method.name, method.needs, method.source) for method in described)
    options = (
        (f"{method.name}.{name}", plain(option.default), option.meaning)
        for method in described
        for name, option in method.options.items()
    )
    return Group(
        make_table("Attack", "Needs", "Source", rows=rows),
        make_table("--set", "Default", "Meaning", rows=options),
    )


def render_plan(plan: "AttackPlan") -> RenderableType:
    """What would be attacked, in a panel."""
    rows: dict[str, object] = {
        "targets": "; ".join(plan.targets),
        "images": f"{plan.images} per attack and target, seeds from {plan.seed}",
        "classifier": plan.classifier,
    }
    for name, budget in plan.budgets.items():
        given = {option: value for option, value in budget.items() if value != ""}
        rows[name] = plain(given) or "no options"
    title = f"Attack {plan.concept} in composition {plan.digest[:12]} of {plan.base}"
    return make_panel(title, pairs(rows), *warnings(plan.warnings))


def render_report(result: "AttackReport") -> RenderableType:
    """What attacks achieved: a table, a sentence an attack, and where the rest is."""
    facts = {
        "classifier": result.classifier,
        "images": f"{result.images} per attack and target, 95% intervals",
        "composition": short(result.digest),
        "grid": result.image,
        "report": result.report_path,
    }
    return Group(
        render_scores(result),
        *(Text(safe(sentence)) for sentence in sentences(result)),
        Text(CAUTION, style="yellow"),
        pairs(facts),
    )


def render_scores(result: "AttackReport") -> RenderableType:
    """Attacks by targets: the share of images in which the concept is detected."""
    targets = tuple(result.unattacked)
    rows: list[Sequence[object] | None] = [
        ("none: its name", "", *(share(result.unattacked[target]) for target in targets)),
        None,
    ]
    for name, by_target in _by_attack(result).items():
        seconds = sum(score.seconds for score in by_target.values())
        cells = (share(by_target[t].success) if t in by_target else "" for t in targets)
        rows.append((name, number(seconds), *cells))
    title = f"{result.concept} detected in images of"
    return make_table("Attack", "Seconds", *targets, rows=rows, title=title)


def sentences(result: "AttackReport") -> list[str]:
    """What each attack achieved on the composition."""
    name = result.unattacked[COMPOSITION]
    found = [f"Without an attack, {result.concept} is detected in {_of(name)} of its name."]
    for attacked, by_target in _by_attack(result).items():
        score = by_target[COMPOSITION]
        found.append(f"{attacked}: detected in {_of(score.success)}{_compared(by_target)}.")
    return found


def _compared(by_target: dict[str, "AttackScore"]) -> str:
    """What to compare a rate with: the start alone, or an attack that does not work at all."""
    success = by_target[COMPOSITION].success
    if CONTROL in by_target and success.value > 0:
        control = by_target[CONTROL].success
        alone = f"{_of(control)} that the base generated from the same start without the name"
        if success.value <= control.high:
            return f", which the start alone may explain: detected in {alone}"
        return f", against {alone}"
    if by_target[BASE].success.value == 0:
        return "; on the base in none, so the attack itself does not work here"
    return ""


def _of(estimate: "Estimate") -> str:
    return f"{round(estimate.value * estimate.count)} of {estimate.count} images"


def _by_attack(result: "AttackReport") -> dict[str, dict[str, "AttackScore"]]:
    sorted_out: dict[str, dict[str, AttackScore]] = {}
    for score in result.scores:
        sorted_out.setdefault(score.attack, {})[score.target] = score
    return sorted_out
