"""What a base is in other tools' terms, and the metadata of exports: ModelSpec, kohya's, ours.

All of it follows from the recipe and the base, so that equal exports are equal files. A file's
``modelspec.hash_sha256`` is that of its tensors, and stands before them: adapters, which are in
memory, have it. Whole checkpoints are written in one pass and lack it; the registry has the digest
of the whole file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from shiftreg.canonical import canonical_json
from shiftreg.checkpoints.base_folder import network_folder, read_config
from shiftreg.checkpoints.export import recipe_digest
from shiftreg.checkpoints.files import reading
from shiftreg.checkpoints.folder_export import CARD_NAME
from shiftreg.errors import ShiftregError
from shiftreg.families import Family, read_structure

PREDICTIONS = {"epsilon": "epsilon", "v_prediction": "v"}
CONFIGS = ("config.json", "scheduler_config.json")
LICENCE_KEYS = ("license", "license_name", "license_link")
CACHED = re.compile(r"models--(?P<owner>[^/\\]+)--(?P<name>[^/\\]+)[/\\]snapshots[/\\]")
SPEC_VERSION = "1.0.1"
COMPVIS = "https://github.com/Stability-AI/generative-models"
DIFFUSERS = "diffusers"
HASH_KEY = "modelspec.hash_sha256"


@dataclass(frozen=True)
class ModelFacts:
    """What the configurations of a base say of it.

    Attributes:
        family: None if it is of none that is known here.
        architecture: ModelSpec's name, such as "stable-diffusion-v1"; "stable-diffusion" for a
            UNet of that kind that fits no known model, and the pipeline's class for other kinds.
        kohya_version: kohya's name, such as "sd_v1"; "" if it has none.
        resolution: Such as "512x512"; "" if it does not follow.
        prediction: "epsilon" or "v"; "" if the scheduler does not say.
        licence: ``license``, ``license_name`` and ``license_link`` of the base's own card.
    """

    family: Family | None
    architecture: str
    kohya_version: str
    resolution: str
    prediction: str
    licence: Mapping[str, str]


def model_facts(base_folder: Path, card: Path | None = None) -> ModelFacts:
    """Reads what the configurations of a base say of it.

    Args:
        card: The base's own model card; the folder's by default.
    """
    network = network_folder(base_folder)
    unet, vae, scheduler = map(_config, (network, base_folder / "vae", base_folder / "scheduler"))
    prediction = PREDICTIONS.get(str(scheduler.get("prediction_type", "epsilon")), "")
    structure = read_structure(base_folder)
    family, kind, known = structure.family, structure.pipeline, None
    if family and kind.startswith(family.pipeline.removesuffix("Pipeline")):
        width = unet.get("cross_attention_dim")
        known = family.known_model(width, prediction if scheduler else "")
    return ModelFacts(
        family=family,
        architecture=known.architecture if known else kind.removesuffix("Pipeline").lower(),
        kohya_version=known.kohya_version if known else "",
        resolution=_resolution(unet, vae),
        prediction=prediction if scheduler else "",
        licence=_licence(card or base_folder / CARD_NAME),
    )


def hub_name(source: str) -> str:
    """The name on the hub of a base that lies in its cache; "" of any other folder."""
    found = CACHED.search(source)
    return f"{found['owner']}/{found['name']}" if found else ""


def _config(component: Path) -> dict[str, Any]:
    for name in CONFIGS:
        if (component / name).is_file():
            return read_config(component, name)
    return {}


def _resolution(unet: Mapping[str, Any], vae: Mapping[str, Any]) -> str:
    size, levels = unet.get("sample_size"), vae.get("block_out_channels")
    if not isinstance(size, int) or not isinstance(levels, list) or not levels:
        return ""
    pixels = size * 2 ** (len(levels) - 1)
    return f"{pixels}x{pixels}"


def _licence(card: Path) -> dict[str, str]:
    """What the front matter of a card says; nothing if it cannot be read."""
    with suppress(ShiftregError), reading(card):
        text = card.read_text(encoding="utf-8")
        if found := re.match(r"\s*---\r?\n(.*?)\r?\n---", text, re.DOTALL):
            said = yaml.safe_load(found[1])
            return {key: said[key] for key in LICENCE_KEYS if isinstance(said.get(key), str)}
    return {}


def export_metadata(
    recipe: Mapping[str, Any], facts: ModelFacts, implementation: str
) -> dict[str, str]:
    """The metadata of an export.

    Args:
        recipe: What went into it; of an adapter with the entry "adapter".
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
    """What kohya's trainers write, and web interfaces recognise the base by.

    Args:
        ranks: Of the layers; none where nothing is factored.
    """
    said = {}
    if version := facts.kohya_version:
        said = {"ss_base_model_version": version, "ss_v2": str(version.startswith("sd_v2"))}
    if form == "kohya":
        rank = str(max(ranks))  # of all layers, and alpha is the same: no scale is left over
        network = "networks.lora"
        said |= {"ss_network_module": network, "ss_network_dim": rank, "ss_network_alpha": rank}
    if form == "diff":
        said |= {"ss_network_module": "lycoris.kohya", "ss_network_args": '{"algo":"full"}'}
    return said


def export_title(recipe: Mapping[str, Any]) -> str:
    """Such as "miniature without Caravaggio and Picasso"."""
    erased = [shift["concept"] for shift in recipe["shifts"]]
    base = recipe["base"]["name"]
    if recipe.get("adapter"):
        return f"{joined(erased)} erased, an adapter for {base}"
    return f"{base} without {joined(erased)}" if erased else f"{base}, nothing erased"


def state_sentences(recipe: Mapping[str, Any]) -> tuple[str, ...]:
    """Sentences on what is erased and what generates."""
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
