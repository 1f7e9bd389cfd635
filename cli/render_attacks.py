"""Attacks as tables, and what they reached in words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.text import Text

from .console import safe
from .render import make_table, number, pairs, plain, short, warnings
from .render_evaluation import share

if TYPE_CHECKING:
    from shiftreg.api.attacks.attacking import AttackReport, AttackScore
    from shiftreg.api.attacks.methods import AttackMethod
    from shiftreg.api.attacks.planning import AttackPlan
    from shiftreg.api.values import Estimate

BASE, COMPOSITION, CONTROL = "base", "composition", "base, without the name"
CAUTION = (
    "What no attack brings back here may still be in the weights: other attacks, or more of their "
    "budget, may find it."
)


def methods(described: Sequence[AttackMethod]) -> RenderableType:
    """Attacks, a row each, and what ``--set`` takes."""
    table = make_table("Attack", "Needs", "Source")
    options = make_table("--set", "Default", "Meaning")
    for method in described:
        table.add_row(*map(safe, (method.name, method.needs, method.source)))
        for name, option in method.options.items():
            cells = (f"{method.name}.{name}", plain(option.default), option.meaning)
            options.add_row(*map(safe, cells))
    return Group(table, options)


def plan(planned: AttackPlan) -> RenderableType:
    """What would be attacked, in a panel."""
    rows: dict[str, object] = {
        "targets": "; ".join(planned.targets),
        "images": f"{planned.images} an attack and target, seeds from {planned.seed}",
        "classifier": planned.classifier,
    }
    for name, budget in planned.budgets.items():
        given = {option: value for option, value in budget.items() if value != ""}
        rows[name] = plain(given) or "no options"
    title = f"Attack {planned.concept} in composition {planned.digest[:12]} of {planned.base}"
    return Panel(
        Group(pairs(rows), *warnings(planned.warnings)),
        title=safe(title),
        title_align="left",
        expand=False,
    )


def report(result: AttackReport) -> RenderableType:
    """What attacks reached: a table, a sentence an attack, and where the rest is."""
    facts = {
        "classifier": result.classifier,
        "images": f"{result.images} an attack and target, intervals of 95%",
        "composition": short(result.digest),
        "grid": result.image,
        "report": result.report_path,
    }
    return Group(
        scores(result),
        *(Text(safe(sentence)) for sentence in sentences(result)),
        Text(CAUTION, style="yellow"),
        pairs(facts),
    )


def scores(result: AttackReport) -> RenderableType:
    """Attacks by targets: the share of images in which the concept is found."""
    targets = tuple(result.unattacked)
    table = make_table("Attack", "Seconds", *map(safe, targets))
    table.title = safe(f"{result.concept} found in images of")
    table.title_justify = "left"
    table.add_row("none: its name", "", *(share(result.unattacked[t]) for t in targets))
    table.add_section()
    for name, by_target in _by_attack(result).items():
        seconds = sum(score.seconds for score in by_target.values())
        cells = (share(by_target[t].success) if t in by_target else "" for t in targets)
        table.add_row(safe(name), number(seconds), *cells)
    return table


def sentences(result: AttackReport) -> list[str]:
    """What each attack reached on the composition, in words."""
    name = result.unattacked[COMPOSITION]
    told = [f"Without an attack, {result.concept} is found in {_of(name)} of its name."]
    for attack, by_target in _by_attack(result).items():
        score = by_target[COMPOSITION]
        told.append(f"{attack}: found in {_of(score.success)}{_compared(by_target)}.")
    return told


def above(result: AttackReport, limit: float) -> list[str]:
    """Attacks that reach more on the composition than the limit, and than their start alone."""
    return [
        f"{name} {success:.0%}"
        for name, success in result.above_control().items()
        if success > limit
    ]


def _compared(by_target: dict[str, AttackScore]) -> str:
    """What to hold against a number: the start alone, or an attack that does not work at all."""
    success = by_target[COMPOSITION].success
    if CONTROL in by_target and success.value > 0:
        control = by_target[CONTROL].success
        alone = f"{_of(control)} that the base generated from the same start without the name"
        if success.value <= control.high:
            return f", which the start alone may explain: found in {alone}"
        return f", against {alone}"
    if by_target[BASE].success.value == 0:
        return "; on the base in none, so the attack itself does not work here"
    return ""


def _of(estimate: Estimate) -> str:
    return f"{round(estimate.value * estimate.count)} of {estimate.count} images"


def _by_attack(result: AttackReport) -> dict[str, dict[str, AttackScore]]:
    sorted_out: dict[str, dict[str, AttackScore]] = {}
    for score in result.scores:
        sorted_out.setdefault(score.attack, {})[score.target] = score
    return sorted_out
