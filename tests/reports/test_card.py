"""Model cards: valid front matter, and names that stay names whatever they hold."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from huggingface_hub import ModelCard as HubCard

from shiftreg.registry import ShiftVersion
from shiftreg.reports import ModelCard, render_card
from shiftreg.reports.card import fenced, markdown
from tests.reports.conftest import make_shift, make_version

HOSTILE = (
    "<script>alert(1)</script>",
    "a | b",
    "[click](http://evil.example)",
    "https://evil.example www.evil.example a@evil.example",
    "`code` **bold** _em_ ~~gone~~ $x$ #1",
    "---\nlicense: mit\n---",
    "{{ card_data }}{% raw %}",
    "&lt;b&gt;",
    "line\u2028break\u202egnol",
)


def inside(name: str) -> ShiftVersion:
    version = make_version(name, "")
    return replace(version, digest="ab" * 32, metrics={"max_drift": 2e-8})


@pytest.fixture
def card() -> ModelCard:
    return ModelCard(
        title="miniature without Caravaggio",
        sentences=("Erased: Caravaggio.",),
        shifts=((inside("Caravaggio"), make_shift("Caravaggio", "closed-form")),),
        generates=("Picasso", "Cezanne"),
        usage=(("python", ["pipeline = ..."]), ("ComfyUI, a node", ["strength_model 1.0"])),
        origin=(("base", "miniature"),),
        verification="No verification is on record.",
        commands=("$ shiftreg verify model.ckpt",),
        base_model="miniature",
        licence={"license": "apache-2.0"},
        adapter=False,
    )


def about(card: ModelCard, name: str) -> str:
    return render_card(
        replace(
            card,
            title=name,
            sentences=(name,),
            shifts=((inside(name), make_shift(name, name)),),
            generates=(name,),
            origin=(("base", name),),
            verification=name,
            commands=(f"$ shiftreg verify {name}",),
            base_model=name,
            licence={"license": "other", "license_name": name},
        )
    )


def test_a_card_has_front_matter_that_the_hub_reads(card: ModelCard) -> None:
    data = HubCard(render_card(card)).data
    assert data.base_model == "miniature"
    assert data.library_name == "diffusers"
    assert data.license == "apache-2.0"
    assert "concept-erasure" in data.tags
    assert data.to_dict()["base_model_relation"] == "finetune"


def test_a_card_says_what_is_erased_how_to_check_it_and_what_it_does_not_prove(
    card: ModelCard,
) -> None:
    text = render_card(card)
    assert "# miniature without Caravaggio\n" in text
    assert "| Caravaggio | erased | version 2, abababababab | closed-form | yes |" in text
    assert "2e-08" in text
    assert "Left as in the base: Picasso, Cezanne." in text
    assert "$ shiftreg verify model.ckpt" in text
    assert "no proof that a concept is gone" in text
    assert "compliant" not in text.lower()


def test_an_unknown_licence_is_not_made_up(card: ModelCard) -> None:
    text = render_card(replace(card, licence={}))
    assert HubCard(text).data.license is None
    assert "Licence: that of the base" in text


def test_an_adapter_is_marked_as_one(card: ModelCard) -> None:
    data = HubCard(render_card(replace(card, adapter=True))).data
    assert data.to_dict()["base_model_relation"] == "adapter"
    assert "lora" in data.tags


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_stays_a_name(card: ModelCard, name: str) -> None:
    text = about(card, name)
    data = HubCard(text).data
    assert data.license == "other"
    assert data.to_dict()["license_name"] == name
    body = text.split("\n---\n", 1)[1]
    code = [part for i, part in enumerate(body.split("\n```")) if i % 2]
    prose = "".join(part for i, part in enumerate(body.split("\n```")) if not i % 2)
    assert "<script" not in prose
    assert not re.search(r"(?<!\\)\]\(", prose)
    assert "\u202e" not in body
    assert all("\u2028" not in part for part in code)
    rows = [line for line in prose.splitlines() if line.startswith("| ") and "erased" in line]
    assert [row.replace("\\|", "").count("|") for row in rows] == [8]
    assert not any(line.strip() == "---" for line in prose.splitlines())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a  b\nc", "a b c"),
        ("<b>&", "&lt;b&gt;&amp;"),
        ("a*b", r"a\*b"),
        ("http://x", r"http\://x"),
        ("Jean-Michel Basquiat (1960)", "Jean-Michel Basquiat (1960)"),
    ],
)
def test_only_what_means_something_is_escaped(text: str, expected: str) -> None:
    assert markdown(text) == expected


def test_code_cannot_end_its_block() -> None:
    block = fenced(["a ``` b\n```\nrm -rf"], "console")
    assert block == "````console\na ``` b?```?rm -rf\n````"
