from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import RenderableType

from shiftreg_cli import compose, erase, generate, render, show, verify

Draw = Callable[..., str]

EVIL = "[red]evil[/red] :smile: \x1b[2J\u202e"
SHOWN = "[red]evil[/red] :smile: \\x1b[2J\\u202e"

RENDERINGS: dict[str, Callable[[Any], RenderableType]] = {
    "erasure_plan": lambda values: erase.render_plan(values.erasure_plan),
    "erasures": lambda values: render.erasures([values.erasure]),
    "concepts": lambda values: render.concepts([values.state, values.protected_state]),
    "concept": lambda values: show.render_concept(values.detail),
    "composition": lambda values: compose.render_composition(values.plan),
    "grid": lambda values: generate.render_grid(values.grid),
    "stale": lambda values: erase.render_stale(
        [(values.state.concept, values.state.stale_towards)]
    ),
    "verification": lambda values: verify.render_verification(values.verification),
}


@pytest.mark.parametrize("name", RENDERINGS)
def test_a_name_with_markup_and_escape_sequences_is_shown_harmlessly(
    name: str, values_about: Any, draw: Draw
) -> None:
    rendered = RENDERINGS[name](values_about(EVIL))
    text = draw(rendered)
    assert SHOWN in text
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "\x1b[2J" not in draw(rendered, terminal=True)


@pytest.mark.parametrize("name", RENDERINGS)
def test_a_narrow_terminal_loses_no_words(name: str, values: Any, draw: Draw) -> None:
    text = draw(RENDERINGS[name](values), width=44)
    assert max(map(len, text.splitlines())) <= 44
    assert "…" not in text


def test_the_plan_shows_what_an_erasure_touches(values: Any, draw: Draw) -> None:
    text = draw(erase.render_plan(values.erasure_plan))
    assert "Erase Caravaggio (style) from miniature by closed-form" in text
    assert (
        '4 prompts ("Caravaggio", "a painting by Caravaggio", "a church by Caravaggio", ...)'
        in text
    )
    assert '3 prompts ("", "Picasso", "CCS 2024"): stay exactly as they are' in text
    assert '1 prompt ("a church"): change as little as possible' in text
    assert "90 of 256 dimensions are free (m)" in text
    assert "64 of them (q)" in text
    assert "1.2% of the concept stays; |delta|/|W| 0.0456" in text
    assert "preservation 10, ridge 0.1" in text
    assert "Note: Beware of Caravaggio." in text


def test_the_result_says_what_was_measured_and_what_to_run_next(values: Any, draw: Draw) -> None:
    text = draw(render.erasures([values.erasure]))
    assert "Caravaggio: erased (version 2)" in text
    assert "relative change" in text
    assert "0.0421" in text
    assert "before-after.png" in text
    assert "older Caravaggio" in text
    assert "shiftreg refresh" in text


def test_a_fresh_erasure_without_stale_shifts_hints_at_nothing(values: Any, draw: Draw) -> None:
    text = draw(render.erasures([replace(values.erasure, stale=(), samples=None)]))
    assert "refresh" not in text
    assert "before and after" not in text


def test_concepts_show_state_and_versions(values: Any, draw: Draw) -> None:
    restored = replace(values.state, concept="Cezanne", state="generates", version=None)
    lines = draw(render.concepts([values.state, restored, values.protected_state])).splitlines()
    assert "erased" in lines[3]
    assert "2 of 3" in lines[3]
    assert "generates" in lines[4]
    assert "none (3 stored)" in lines[4]
    assert lines[5].split() == ["Picasso", "generates", "none"]


def test_a_concept_shows_its_versions_and_history(values: Any, draw: Draw) -> None:
    text = draw(show.render_concept(values.detail))
    assert "Version 2, active" in text
    assert values.state.digest in text
    assert "max_drift 2e-08" in text
    assert "2026-11-24T02:00:00Z" in text


def test_a_composition_says_of_every_concept_what_it_does(values: Any, draw: Draw) -> None:
    text = draw(compose.render_composition(values.plan))
    assert "erased (version 2)" in text
    assert "generates (restored: its shift is left out)" in text
    assert "Note: The shift of Caravaggio is stale." in text


def test_an_export_shows_where_it_is_and_what_it_is(values: Any, draw: Draw) -> None:
    text = draw(compose.render_export(values.export))
    for part in ("model.ckpt", "ckpt, float16", "2 kB", values.export.digest, "model.recipe.json"):
        assert part in text


def test_the_size_of_a_folder_is_that_of_its_files(tmp_path: Path) -> None:
    (tmp_path / "unet").mkdir()
    (tmp_path / "unet" / "weights").write_bytes(bytes(1_200_000))
    (tmp_path / "config").write_bytes(bytes(800_000))
    assert render.size(tmp_path) == "2 MB"


@pytest.mark.parametrize(
    ("value", "shown"), [(0.0, "0"), (1000.0, "1000"), (0.04213, "0.0421"), (2e-8, "2e-08")]
)
def test_numbers_are_short(value: float, shown: str) -> None:
    assert render.number(value) == shown
