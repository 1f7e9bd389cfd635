"""Values as tables and panels: what the renderings of more than one command are made of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType
from rich.text import Text

from .console import safe

if TYPE_CHECKING:
    from rich.panel import Panel
    from rich.table import Table

    from shiftreg.api.values import Check, ConceptState, ErasureResult, Estimate

STATE_STYLES = {"erased": "yellow", "generates": "green"}


def make_table(
    *columns: str, rows: Iterable[Sequence[object] | None] = (), title: str | None = None
) -> Table:
    """A table whose cells break over lines rather than lose their end.

    Args:
        rows: The cells: texts as they are, all else as text that is safe; None draws a line.
    """
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title_justify="left")
    table.title = None if title is None else safe(title)
    for column in columns:
        table.add_column(safe(column), overflow="fold")
    for row in rows:
        if row is None:
            table.add_section()
        else:
            table.add_row(*(cell if isinstance(cell, Text) else safe(cell) for cell in row))
    return table


def make_matrix(
    title: str, heading: str, rows: Mapping[str, Sequence[str]], columns: str, names: Iterable[str]
) -> RenderableType:
    """A narrow table whose columns are numbers, with a legend that names them."""
    from rich.table import Table

    names = list(names)
    table = Table(title=title, title_justify="left", box=None, padding=(0, 1, 0, 0))
    table.add_column(heading, overflow="fold")
    for position in range(1, len(names) + 1):
        table.add_column(str(position), justify="right")
    for name, cells in rows.items():
        table.add_row(safe(name) or '""', *cells)
    legend = ", ".join(f"{position} {safe(name)}" for position, name in enumerate(names, 1))
    return Group(table, Text(f"{columns}: {legend}", style="dim"))


def make_panel(title: str, *parts: RenderableType) -> Panel:
    """Parts in a frame with a title."""
    from rich.panel import Panel

    return Panel(Group(*parts), title=safe(title), title_align="left", expand=False)


def pairs(values: Mapping[str, Any]) -> Table:
    """Names and values in two columns; empty values are skipped."""
    from rich.table import Table

    table = Table.grid(padding=(0, 2))
    table.add_column(style="cyan", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in values.items():
        if value not in (None, "", (), [], {}):
            table.add_row(safe(name).replace("_", " "), safe(plain(value)))
    return table


def warnings(sentences: Iterable[str]) -> list[RenderableType]:
    """Sentences that the reader should not miss."""
    return [Text(f"Note: {safe(sentence)}", style="yellow") for sentence in sentences]


def verdict(text: str, *, passed: bool) -> Text:
    """The sentence that sums up a check."""
    return Text(safe(text), style="bold green" if passed else "bold red")


def checks(lines: Sequence[Check]) -> RenderableType:
    """The checks, a row each; of separability, the worst pair of each shift."""
    rows: list[Sequence[object] | None] = []
    name = ""
    for check in worst_pairs(lines):
        if name and check.name != name:
            rows.append(None)
        outcome = Text("ok", "green") if check.passed else Text("FAILED", "bold red")
        shown = "" if check.name == name else check.name
        rows.append((shown, check.subject, measured(check), number(check.limit), outcome))
        name = check.name
    return make_table("Check", "Subject", "Value", "Limit", "Result", rows=rows)


def worst_pairs(lines: Sequence[Check]) -> list[Check]:
    """The checks, with one separability check a shift: a failed one, else the largest."""
    worst: dict[str | int, Check] = {}
    for position, check in enumerate(lines):
        key: str | int = position
        if check.name == "separability":
            key = check.subject.partition(" -> ")[0]
        known = worst.get(key, check)
        worst[key] = max(known, check, key=lambda it: (not it.passed, it.value))
    return list(worst.values())


def explained(lines: Iterable[Check], style: str = "red") -> list[RenderableType]:
    """What each check found, in a sentence."""
    return [
        Text(safe(f"{check.name}, {check.subject}: {check.explanation}"), style) for check in lines
    ]


def concepts(states: Sequence[ConceptState]) -> RenderableType:
    """The state of concepts, a row each."""
    rows = (
        (
            state.concept,
            Text(state.state, style=STATE_STYLES[state.state]),
            _version(state),
            state.method,
            short(state.digest),
            ", ".join(state.stale_towards) if state.separable else "anything: not separable",
        )
        for state in states
    )
    return make_table(
        "Concept", "State", "Version", "Method", "Digest", "Does not protect", rows=rows
    )


def erasures(results: Sequence[ErasureResult]) -> RenderableType:
    """What erasures did, and what to run next."""
    parts: list[RenderableType] = []
    for result in results:
        parts.append(Text(safe(result.statement), style="bold"))
        rows: dict[str, object] = {"shift": short(result.digest)}
        rows |= {key.replace("_", " "): number(value) for key, value in result.metrics.items()}
        if result.plan.warnings and not result.plan.prompts:
            parts += warnings(result.plan.warnings)
        if result.samples:
            rows["before and after"] = result.samples
        parts.append(pairs(rows))
    stale = dict.fromkeys(name for result in results for name in result.stale)
    if stale:
        parts += warnings(
            [f"Not protecting the new concepts: {', '.join(stale)}. Run: shiftreg refresh"]
        )
    if unseen := [one.plan.concept for one in results if not one.samples]:
        parts.append(Text(safe(f'See what it does: shiftreg samples "{unseen[0]}"'), style="dim"))
    return Group(*parts)


def quoted(prompts: Sequence[str], shown: int = 3) -> str:
    """How many prompts, and the first of them."""
    if not prompts:
        return "no prompts"
    rest = ", ..." if len(prompts) > shown else ""
    some = ", ".join(f'"{prompt}"' for prompt in prompts[:shown])
    return f"{count(len(prompts), 'prompt')} ({some}{rest})"


def count(amount: int, noun: str) -> str:
    """A number of things: "1 prompt", "2 prompts"."""
    return f"{amount} {noun}{'s' if amount != 1 else ''}"


def short(digest: str) -> str:
    """A digest as one recognises it."""
    return safe(digest[:12])


def number(value: float) -> str:
    """A number with three digits that count; a whole number in full."""
    return f"{value:.0f}" if float(value).is_integer() and abs(value) < 1e9 else f"{value:.3g}"


def measured(check: Check) -> str:
    """What a check measured, with its interval if it has one: "0.02 [0, 0.1]"."""
    ends = f" [{', '.join(map(number, check.interval))}]" if check.interval else ""
    return number(check.value) + ends


def share(estimate: Estimate) -> str:
    """A share with its interval: "62% (31-86%)"."""
    return f"{estimate.value:.0%} ({100 * estimate.low:.0f}-{estimate.high:.0%})"


def size(path: Path) -> str:
    """Size of a file, or of all files of a folder, in units that one can read."""
    files = path.rglob("*") if path.is_dir() else [path]
    amount = float(sum(file.stat().st_size for file in files if file.is_file()))
    for unit in ("bytes", "kB", "MB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}"
        amount /= 1000
    return f"{amount:.2f} GB"


def _version(state: ConceptState) -> str:
    deleted = f", {plain(state.deleted)} deleted" if state.deleted else ""
    if state.version is None:
        return (f"none ({state.latest} stored)" if state.latest else "none") + deleted
    of = f" of {state.latest}" if state.latest != state.version else ""
    return f"{state.version}{of}{deleted}"


def plain(value: object) -> str:
    """Any JSON value in one line."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {plain(item)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(plain, value))
    return number(value) if isinstance(value, float) else str(value)
