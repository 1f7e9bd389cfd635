"""The pages: plain values in, one self-contained HTML document out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from jinja2 import Environment, PackageLoader, StrictUndefined

from shiftreg.attacks.results import AttackReport
from shiftreg.audit import AuditEvent
from shiftreg.checks import Check
from shiftreg.evaluation.results import Evaluation
from shiftreg.reports import numbers
from shiftreg.reports.drawing import Curve, EmbeddedImage

if TYPE_CHECKING:
    from shiftreg.registry.records import CompositionVersion, ShiftVersion
    from shiftreg.shift import ConceptShift


FILTERS = (
    "number", "heat", "percent", "moment", "share", "distance", "effort", "file_name",
)  # fmt: skip
COLUMNS = 10
"""Shifts side by side in one heat map: more do not fit on paper."""


@dataclass(frozen=True)
class Note:
    """A sentence, and perhaps the command that it ends with."""

    text: str
    command: str = ""


@dataclass(frozen=True)
class ConceptLine:
    """One concept: "erased" or "generates", the same in more words, and the shift's digest."""

    name: str
    state: str
    words: str
    digest: str


@dataclass(frozen=True)
class ImageRow:
    """One prompt, generated from the same seeds by the base and by the composition.

    Attributes:
        state: Its concept's, "erased" or "generates"; "" for prompts of no concept.
        before: The base's images, a seed each.
    """

    prompt: str
    state: str
    before: tuple[EmbeddedImage, ...]
    after: tuple[EmbeddedImage, ...]
    note: str = ""


@dataclass(frozen=True)
class ImageGroup:
    """Prompts of one kind.

    Attributes:
        left_out: Further prompts, which were not generated.
    """

    title: str
    expectation: str
    rows: tuple[ImageRow, ...]
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True)
class ShiftPart:
    """One shift of the composition, and how it came about.

    Attributes:
        version: As it is registered.
        shift: What its file holds.
        actor: Who made it; "" if the audit trail does not say.
        predecessor: The version that it replaces, as a phrase; "" if none.
        hyperparameters: Of the method, JSON text.
        solved: What to say where there is no curve.
    """

    version: ShiftVersion
    shift: ConceptShift
    actor: str
    predecessor: str
    hyperparameters: str
    curves: tuple[Curve, ...]
    solved: str


@dataclass(frozen=True)
class ReportPage:
    """Everything on the page.

    Attributes:
        created: UTC, ISO 8601.
        file: Name of the exported file that was verified; "" for the registry's composition.
        warnings: Sentences not to be missed.
        sampling: How the images were made, as a sentence.
        separability: Concept of a shift -> prompt -> relative residual.
        evaluation: The latest one, or None.
        evaluation_notes: What to say beside or in place of it.
        attacks: The latest ones, one a concept.
        attack_notes: What to say beside or in place of them.
        history: Events about the concepts, oldest first.
        chain: Whether the audit trail's hash chain holds, as a sentence.
        chain_head: Its head, "" if it does not hold.
    """

    created: str
    tool: str
    base: str
    base_digest: str
    digest: str
    file: str
    file_digest: str
    concepts: tuple[ConceptLine, ...]
    warnings: tuple[str, ...]
    sampling: str
    images: tuple[ImageGroup, ...]
    separability: Mapping[str, Mapping[str, float]]
    checks: tuple[Check, ...]
    evaluation: Evaluation | None
    evaluation_notes: tuple[Note, ...]
    attacks: tuple[AttackReport, ...]
    attack_notes: tuple[Note, ...]
    shifts: tuple[ShiftPart, ...]
    history: tuple[AuditEvent, ...]
    chain: str
    chain_head: str
    exports: tuple[CompositionVersion, ...]
    recipe: str


def render_page(page: ReportPage) -> str:
    """Writes the page as HTML that asks nothing of the network and runs no script."""
    failed = [check for check in page.checks if not check.passed]
    return (
        _environment()
        .get_template("report.html.j2")
        .render(
            page=page,
            failed=failed,
            # The sort is stable: within failed and held ones, the verification's order stays.
            checks=sorted(page.checks, key=lambda check: check.passed),
            erased=[line for line in page.concepts if line.state == "erased"],
            generating=[line for line in page.concepts if line.state != "erased"],
            heat_maps=list(_heat_maps(page.separability)),
            heat_levels=[f"up to {edge:.0e}" for edge in numbers.HEAT]
            + [f"above {numbers.HEAT[-1]:.0e}"],
        )
    )


def _heat_maps(
    matrix: Mapping[str, Mapping[str, float]],
) -> Iterator[tuple[Sequence[str], Mapping[str, Sequence[float | None]]]]:
    """The matrix in strips: concepts of some shifts, and prompt -> residual under each."""
    concepts = list(matrix)
    for start in range(0, len(concepts), COLUMNS):
        strip = concepts[start : start + COLUMNS]
        prompts = dict.fromkeys(prompt for concept in strip for prompt in matrix[concept])
        yield strip, {p: [matrix[concept].get(p) for concept in strip] for p in prompts}


def render_evidence(page: object) -> str:
    """Writes a page of evidence, an ``EvidencePage`` of the api, in the same way."""
    return _environment().get_template("evidence.html.j2").render(page=page)


@cache
def _environment() -> Environment:
    """Of templates: whatever is not markup of ours is escaped, and shown as it is."""
    environment = Environment(
        loader=PackageLoader("shiftreg.reports"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=numbers.visible,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {name: getattr(numbers, name) for name in FILTERS}
    return environment
