"""Values as tables and panels; see ``render_plans`` and ``render_checks`` for others."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from .console import safe

if TYPE_CHECKING:
    from shiftreg.api import BaseRecord, Deletion
    from shiftreg.api.bases.single_files import Conversion
    from shiftreg.api.values import (
        Check,
        CompositionPlan,
        ConceptDetail,
        ConceptState,
        ErasureResult,
        ExportResult,
        GridResult,
    )

STATE_STYLES = {"erased": "yellow", "generates": "green"}


def concepts(states: Sequence[ConceptState]) -> RenderableType:
    """The state of concepts, a row each."""
    table = make_table("Concept", "State", "Version", "Method", "Digest", "Does not protect")
    for state in states:
        table.add_row(
            safe(state.concept),
            Text(state.state, style=STATE_STYLES[state.state]),
            _version(state),
            safe(state.method),
            short(state.digest),
            safe(", ".join(state.stale_towards) if state.separable else "anything: not separable"),
        )
    return table


def concept(detail: ConceptDetail) -> RenderableType:
    """A concept with its versions, newest last, and its history."""
    parts: list[RenderableType] = [concepts([detail.state])]
    for version in detail.versions:
        rows = {name: version.get(name) for name in ("created", "actor", "reason", "method")}
        rows |= {
            "aliases": version.get("aliases"),
            "protected": quoted(version.get("protected", ())),
            "metrics": version.get("metrics"),
            "digest": version.get("digest"),
            "predecessor": version.get("predecessor"),
            "run": version.get("run_id"),
        }
        title = f"Version {version.get('version')}" + (", active" * bool(version.get("active")))
        parts.append(Panel(pairs(rows), title=safe(title), title_align="left", expand=False))
    if detail.history:
        table = make_table("When", "What", "Who", "Why")
        for event in detail.history:
            cells = (event.get(key, "") for key in ("time", "action", "actor", "reason"))
            table.add_row(*map(safe, cells))
        parts.append(table)
    return Group(*parts)


def deletion(deletion: Deletion) -> RenderableType:
    """What is or would be deleted, and what speaks against it."""
    return pairs(
        {
            "deleted" if deletion.done else "to delete": deletion.subject,
            "erases": ", ".join(deletion.concepts),
            "digest": short(deletion.digest),
            "created": deletion.created,
            "but": " ".join(deletion.objections),
        }
    )


def base(record: BaseRecord) -> RenderableType:
    """A base that was registered."""
    triggers = [f"{prompt} ({payload or 'no code'})" for prompt, payload in record.triggers.items()]
    return pairs(
        {
            "base": record.name,
            "source": record.source,
            "digest": short(record.digest),
            "layers": f"{len(record.layers)} that see the text alone",
            "triggers": ", ".join(triggers) or "none",
            "protected": quoted(record.protected),
            "preserved": quoted(record.preserved),
            "subjects": ", ".join(record.subjects),
            "sampling": f"{record.steps} steps, guidance {record.guidance:g}",
        }
    )


def conversion(made: Conversion) -> RenderableType:
    """A single file, and the folder that it became."""
    if not made.averaged:
        weights = "plain; the file holds no averaged (EMA) ones"
    elif made.ema:
        weights = "averaged (EMA); the plain ones were left out"
    else:
        weights = "plain; the file's averaged (EMA) ones were left out, --ema takes them"
    names = ", ".join(made.left_out[:3]) + (", ..." if len(made.left_out) > 3 else "")
    return pairs(
        {
            "file": str(made.file),
            "digest": short(made.file_digest),
            "config": str(made.config),
            "tensors": ", ".join(f"{count} of {part}" for part, count in made.components.items()),
            "weights": weights,
            "left out": f"{len(made.left_out)} tensors: {names}" if made.left_out else "nothing",
            "folder": f"{made.folder}{' (was there)' if made.exists else ''}",
        }
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
        sentence = f"Not protecting what is new: {', '.join(stale)}. Run: shiftreg refresh"
        parts += warnings([sentence])
    return Group(*parts)


def composition(plan: CompositionPlan) -> RenderableType:
    """Which concepts a composition erases, a row each."""
    digests = {name: digest for name, _, digest in plan.shifts}
    table = make_table("Concept", "State", "Shift")
    for (name, state), statement in zip(plan.states.items(), plan.statements, strict=True):
        words = statement.removeprefix(f"{name}: ")
        table.add_row(
            safe(name), Text(safe(words), STATE_STYLES[state]), short(digests.get(name, ""))
        )
    summary = (
        f"Composition {short(plan.digest)} of base {safe(plan.base)} {short(plan.base_digest)}"
    )
    return Group(table, Text(summary), *warnings(plan.warnings))


def export(result: ExportResult) -> RenderableType:
    """A checkpoint that was written."""
    return pairs(
        {
            "written": result.path,
            "format": f"{result.format}, {result.dtype}",
            "size": size(result.path),
            "digest": result.digest,
            "recipe": result.recipe_path,
            "card": result.card_path,
            "registered": f"composition version {result.version}",
            "rounding": result.rounding.statement if result.rounding else None,
        }
    )


def grid(result: GridResult) -> RenderableType:
    """An image that was written."""
    return pairs(
        {
            "written": result.path,
            "prompts": quoted(result.prompts),
            "seeds": ", ".join(map(str, result.seeds)),
            "columns": f"base {result.plan.base} and composition {short(result.plan.digest)}",
        }
    )


def make_table(*columns: str) -> Table:
    """An empty table whose cells break over lines rather than lose their end."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def pairs(values: Mapping[str, Any]) -> Table:
    """Names and values in two columns; empty values are left out."""
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


def quoted(prompts: Sequence[str], shown: int = 3) -> str:
    """How many prompts, and the first of them."""
    if not prompts:
        return "no prompts"
    rest = ", ..." if len(prompts) > shown else ""
    some = ", ".join(f'"{prompt}"' for prompt in prompts[:shown])
    return f"{len(prompts)} prompt{'s'[: len(prompts) > 1]} ({some}{rest})"


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
