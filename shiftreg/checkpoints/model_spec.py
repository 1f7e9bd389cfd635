"""The metadata of exports: ModelSpec 1.0.1, kohya's keys, and our own.

All of it follows from the recipe and the base, so that equal exports are equal files. A file's
``modelspec.hash_sha256`` is that of its tensors, and stands before them: adapters, which are in
memory, have it. Whole checkpoints are written in one pass and lack it; the registry has the digest
of the whole file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from shiftreg.canonical import canonical_json
from shiftreg.checkpoints.export import recipe_digest
from shiftreg.checkpoints.model_facts import ModelFacts

SPEC_VERSION = "1.0.1"
COMPVIS = "https://github.com/Stability-AI/generative-models"
DIFFUSERS = "diffusers"
HASH_KEY = "modelspec.hash_sha256"


def export_metadata(
    recipe: Mapping[str, Any], facts: ModelFacts, implementation: str
) -> dict[str, str]:
    """The metadata of an export.

    Args:
        recipe: What went into it; of an adapter with the entry "adapter".
        facts: About the base.
        implementation: Whose names the tensors have: ``COMPVIS`` or ``DIFFUSERS``.
    """
    base, shifts, states = recipe["base"], recipe["shifts"], recipe["states"]
    names = [f"{shift['concept']} (shift {shift['digest'][:12]})" for shift in shifts]
    adapter = recipe.get("adapter")
    spec = {
        "sai_model_spec": SPEC_VERSION,
        "architecture": facts.architecture + ("/lora" if adapter else ""),
        "implementation": implementation,
        "title": export_title(recipe),
        "description": " ".join(state_sentences(recipe)),
        "date": recipe.get("date", ""),
        "license": facts.licence.get("license_name") or facts.licence.get("license", ""),
        "resolution": facts.resolution,
        "prediction_type": facts.prediction,
        # Commas separate the sources, so none is left within one.
        "merged_from": ", ".join(re.sub(r"\s*,\s*", " ", name) for name in (base["name"], *names)),
        "usage_hint": adapter["strength"] if adapter else "",
    }
    own = {
        "base": base["name"],
        "base_sha256": base["digest"],
        "composition_sha256": recipe["composition"],
        "recipe_sha256": recipe_digest(recipe),
        "shifts": canonical_json(shifts),
        "states": canonical_json(states),
        "version": recipe["tools"]["shiftreg"],
    }
    return {f"modelspec.{key}": value for key, value in spec.items() if value} | {
        f"shiftreg.{key}": value for key, value in own.items()
    }


def kohya_metadata(facts: ModelFacts, form: str, ranks: tuple[int, ...]) -> dict[str, str]:
    """What kohya's trainers write, and web interfaces tell the base's family by.

    Args:
        facts: About the base.
        form: "diffusers", "kohya" or "diff".
        ranks: Of the layers; none where nothing is factored.
    """
    family = {
        "ss_base_model_version": facts.kohya_version,
        "ss_v2": str(facts.kohya_version.startswith("sd_v2")),
    }
    if not facts.kohya_version:
        family = {}
    if form == "kohya":
        rank = str(max(ranks))  # of all layers, and alpha is the same: no scale is left over
        return family | {
            "ss_network_module": "networks.lora",
            "ss_network_dim": rank,
            "ss_network_alpha": rank,
        }
    if form == "diff":
        return family | {
            "ss_network_module": "lycoris.kohya",
            "ss_network_args": '{"algo":"full"}',
        }
    return family


def export_title(recipe: Mapping[str, Any]) -> str:
    """Such as "miniature without Caravaggio and Picasso"."""
    erased = [shift["concept"] for shift in recipe["shifts"]]
    base = recipe["base"]["name"]
    if recipe.get("adapter"):
        return f"{joined(erased)} erased, an adapter for {base}"
    return f"{base} without {joined(erased)}" if erased else f"{base}, nothing erased"


def state_sentences(recipe: Mapping[str, Any]) -> tuple[str, ...]:
    """What is erased and what generates, in words."""
    states = recipe["states"]
    erased = [name for name, state in states.items() if state == "erased"]
    generates = [name for name, state in states.items() if state != "erased"]
    if recipe.get("adapter"):
        return (recipe["adapter"]["strength"],)
    sentences = [f"Erased: {joined(erased)}." if erased else "Nothing is erased."]
    if generates:
        sentences.append(f"Generates as the base does: {joined(generates)}.")
    return tuple(sentences)


def joined(names: list[str]) -> str:
    """Such as "A, B and C"; the first ten of many."""
    if len(names) > 10:
        names = [*names[:10], f"{len(names) - 10} more"]
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))
