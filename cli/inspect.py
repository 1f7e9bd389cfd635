"""The command that says what a deployed file has forgotten: ``inspect``."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Group, RenderableType
from rich.text import Text

from shiftreg import api

from .console import safe
from .failures import fail_unless
from .options import Common, command
from .render import make_table, pairs, short, verdict, warnings

if TYPE_CHECKING:
    from shiftreg.api.inspection.inspect import Inspection

STYLES = {
    "erased": "yellow",
    "weakened": "red",
    "reversed": "red",
    "generates": "green",
    "unknown": "red",
}
MOST_NAMES = 5  # parameters that are named; the others are counted


@command(
    "Models",
    "shiftreg inspect model.ckpt",
    "shiftreg inspect ./model-folder --json",
    "shiftreg inspect lora.safetensors",
    name="inspect",
)
def inspect_file(
    common: Common,
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help="A .ckpt or .safetensors file, a diffusers folder, some weights, or a LoRA.",
        ),
    ],
) -> None:
    """Tell from the weights alone which base and which shifts a file contains.

    Recipe and metadata are neither needed nor trusted: the file is compared with every registered
    base, and the difference is explained by registered shifts, each at its strength.

    Exit code 0 if all of the difference is explained, 1 if something else is in it or the base is
    unknown.
    """
    workspace = common.workspace()
    with common.progress() as observe:
        result = api.inspect_file(workspace, file, observe=observe)
    common.show(result, render_inspection(result))
    fail_unless(result.passed)


def render_inspection(result: "Inspection") -> RenderableType:
    """All of an inspection; the verdict last."""
    states = zip(result.statements, result.states.values(), strict=True)
    parts: list[RenderableType] = [Text(safe(text), STYLES[state]) for text, state in states]
    if result.shifts:
        rows = (
            (
                f"{shift.concept}@{shift.version}",
                shift.method,
                short(shift.digest),
                f"{shift.strength:.4f}",
                f"{shift.low:.4f} to {shift.high:.4f}",
                ", ".join(shift.alternatives),
            )
            for shift in result.shifts
        )
        columns = "Shift", "Method", "Digest", "Strength", "Interval", "Or"
        parts.append(make_table(*columns, rows=rows))
    facts = {
        "file": f"{result.file} ({result.form})" if result.form else result.file,
        "digest": short(result.digest),
        "base": result.base or "unknown",
        "numbers": result.dtype,
    }
    if result.base is not None:
        facts["difference"] = (
            f"{_share(result.explained)} shifts, {_share(result.rounding)} rounding, "
            f"{_share(result.unexplained)} unexplained"
        )
    facts["changed with the shifts"] = _some(result.disturbed)
    facts["changed elsewhere"] = _some(result.elsewhere)
    parts += [pairs(facts), *warnings(result.warnings)]
    return Group(*parts, verdict(result.verdict, passed=result.passed))


def _share(value: float) -> str:
    """A share in percent, however small."""
    return f"{value:.1%}" if value == 0 or value >= 0.001 else f"{100 * value:.1e}%"


def _some(names: Sequence[str]) -> str:
    """The first of many names."""
    more = f", and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return f"{', '.join(names[:MOST_NAMES])}{more}"
