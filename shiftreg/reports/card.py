"""The card of an exported model, as the Hugging Face hub shows it: values in, Markdown out."""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from shiftreg.reports.numbers import number, visible

if TYPE_CHECKING:
    from shiftreg.registry.records import ShiftVersion
    from shiftreg.shift import ConceptShift

MEANING = re.compile(
    r"[\\`*_{}\[\]|~!$@#]|:(?=//)|(?<=www)\.|(?<=WWW)\."  # and what turns into links by itself
)
BREAKS = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")
TAGS = ("concept-erasure", "shiftreg", "stable-diffusion")


@dataclass(frozen=True)
class ModelCard:
    """All that a card says; names may hold any character.

    Attributes:
        usage: How to load it: a language -> lines of code.
        origin: Digests and the like: a name -> its value.
        verification: What the registry knows of checks, as a sentence.
        licence: ``license`` and the like of the base; empty if it is not known.
    """

    title: str
    sentences: Sequence[str]
    shifts: Sequence[tuple[ShiftVersion, ConceptShift]]
    generates: Sequence[str]
    usage: Sequence[tuple[str, Sequence[str]]]
    origin: Sequence[tuple[str, str]]
    verification: str
    commands: Sequence[str]
    base_model: str
    licence: Mapping[str, str]
    adapter: bool


def render_card(card: ModelCard) -> str:
    """Writes a card: YAML front matter, then Markdown."""
    from huggingface_hub import ModelCard as HubCard
    from huggingface_hub import ModelCardData

    data = ModelCardData(
        base_model=card.base_model,
        base_model_relation="adapter" if card.adapter else "finetune",
        library_name="diffusers",
        pipeline_tag="text-to-image",
        tags=[*TAGS, *(["lora"] if card.adapter else [])],
        license=card.licence.get("license"),
        license_name=card.licence.get("license_name"),
        license_link=card.licence.get("license_link"),
    )
    template = files("shiftreg.reports").joinpath("templates", "model_card.md.j2")
    rendered = HubCard.from_template(
        data,
        template_str=template.read_text(encoding="utf-8"),
        title=markdown(card.title),
        sentences=[markdown(sentence) for sentence in card.sentences],
        shifts=[_shift_row(*one) for one in card.shifts],
        generates=", ".join(map(markdown, card.generates)),
        usage="\n\n".join(f"{_named(name)}{fenced(lines, name)}" for name, lines in card.usage),
        origin=[(markdown(name), markdown(value)) for name, value in card.origin],
        verification=markdown(card.verification),
        check=fenced(card.commands, "console"),
        licence=markdown(card.licence.get("license_name") or card.licence.get("license", ""))
        or "that of the base, whose files do not name it",
    )
    return f"{str(rendered).rstrip()}\n"


def markdown(text: str) -> str:
    """Any text as Markdown shows it within a line: it means nothing to Markdown or HTML."""
    plain = " ".join(str(visible(text)).split())
    escaped = MEANING.sub(lambda found: f"\\{found[0]}", plain)
    return html.escape(escaped, quote=False)


def fenced(lines: Sequence[str], language: str) -> str:
    """Lines as a block of code that none of them ends."""
    text = "\n".join(_one_line(line) for line in lines)
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language if language.isalnum() else ''}\n{text}\n{fence}"


def _shift_row(version: ShiftVersion, shift: ConceptShift) -> dict[str, Any]:
    metrics = {
        name: number(version.metrics[key]) if key in version.metrics else "not measured"
        for name, key in (("change", "relative_change"), ("drift", "max_drift"))
    }
    return {
        "concept": markdown(version.concept),
        "state": "erased",
        "reference": f"version {version.version}, {markdown(version.digest[:12])}",
        "method": markdown(shift.method),
        "separable": "yes" if shift.separable else "no",
        **{name: markdown(value) for name, value in metrics.items()},
    }


def _named(name: str) -> str:
    """A line before code that is for a program rather than in a language."""
    return "" if name.isalnum() and name.islower() else f"{markdown(name)}:\n\n"


def _one_line(line: str) -> str:
    """Without line breaks and the like, which would end the line or hide what it says."""
    return "".join("?" if unicodedata.category(c) in BREAKS else c for c in line)
