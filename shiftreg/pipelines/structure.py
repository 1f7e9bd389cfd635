"""What a pipeline's configuration says of its weights, and where configurations come from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from diffusers.loaders import single_file_utils

from shiftreg.errors import IntegrityError, InvalidInputError, NotFoundError
from shiftreg.families import SINGLE_FILE_FAMILIES, SINGLE_FILES

# What diffusers takes from the hub for a single file: everything but weights.
_CONFIGURATION = ("**/*.json", "*.json", "*.txt", "**/*.txt", "**/*.model")


def weight_shapes(folder: Path) -> dict[str, dict[str, tuple[int, ...]]]:
    """The state dicts that a pipeline's configurations describe, without their values.

    Args:
        folder: A diffusers folder of a family that has single files; it needs no weights.

    Returns:
        Component -> name -> shape, of all that a single file of that family holds.

    Raises:
        NotFoundError: There is no such folder.
        InvalidInputError: It is not a pipeline, or one of another kind.
        IntegrityError: A configuration is missing or damaged.
    """
    index = _read_json(folder / "model_index.json", folder)
    names = {
        component: entry[1]
        for component, entry in index.items()
        if isinstance(entry, list) and len(entry) == 2
    }
    # The last one asks for the fewest components.
    family = next(
        (f for f in SINGLE_FILE_FAMILIES if all(names.get(c) for c in f.single_file_classes)),
        SINGLE_FILE_FAMILIES[-1],
    )
    shapes = {}
    for component, classes in family.single_file_classes.items():
        name = names.get(component)
        if name not in classes:
            raise InvalidInputError(
                f"Single files are read for {SINGLE_FILES}, whose "
                f"{component} is a {' or '.join(classes)}; that of '{folder}' is {name!r}. "
                "Give the configuration of such a model, or register a diffusers folder."
            )
        config = _read_json(folder / component / "config.json", folder)
        try:
            with torch.device("meta"):
                model = _build(name, config)
        # The constructors raise almost anything for a configuration that makes no sense.
        except Exception as error:
            raise IntegrityError(
                f"The configuration of {component} in '{folder}' describes no model "
                f"({type(error).__name__}: {error}). Copy the folder again."
            ) from error
        shapes[component] = {key: tuple(t.shape) for key, t in model.state_dict().items()}
    return shapes


def fetch_configuration(tensors: Mapping[str, Any]) -> Path:
    """The configurations and tokenizers that diffusers would take for a single file.

    Args:
        tensors: Names in the file -> anything with a ``shape``.

    Returns:
        A local copy of the hub's repository, without weights.

    Raises:
        NotFoundError: They cannot be fetched.
    """
    from huggingface_hub import snapshot_download

    family = single_file_utils.infer_diffusers_model_type(tensors)
    name = single_file_utils.DIFFUSERS_DEFAULT_PIPELINE_PATHS[family][
        "pretrained_model_name_or_path"
    ]
    try:
        return Path(snapshot_download(name, allow_patterns=list(_CONFIGURATION)))
    except Exception as error:
        raise NotFoundError(
            "A single file holds weights alone; the configuration and tokenizer that go with "
            f"them would come from '{name}' on the hub, which cannot be reached. Give a diffusers "
            "folder of the same architecture, with or without weights: --config FOLDER"
        ) from error


def _build(name: str, config: dict[str, Any]) -> torch.nn.Module:
    if hasattr(transformers, name):
        kind = getattr(transformers, name)
        return kind(kind.config_class.from_dict(config))
    return getattr(diffusers, name).from_config(config)


def _read_json(path: Path, folder: Path) -> dict[str, Any]:
    if not folder.is_dir():
        raise NotFoundError(f"There is no folder '{folder}' to take configurations from.")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InvalidInputError(
            f"'{folder}' is not a diffusers pipeline: it has no {path.relative_to(folder)}. "
            "Give a folder that save_pretrained wrote; weights are not needed."
        ) from error
    except (OSError, ValueError, RecursionError) as error:
        raise IntegrityError(f"'{path}' is damaged: {error}. Copy the folder again.") from error
    if not isinstance(content, dict):
        raise IntegrityError(f"'{path}' is damaged: it holds no JSON object. Copy it again.")
    return content
