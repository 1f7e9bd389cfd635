"""A single file written as a diffusers folder: renamed and cut, a piece of a tensor at a time."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from shiftreg.checkpoints.atomic import atomic_folder
from shiftreg.checkpoints.base_folder import is_weight_file
from shiftreg.checkpoints.conversion import SingleFile
from shiftreg.checkpoints.digested_file import DigestedFile
from shiftreg.checkpoints.files import reading, visible_files
from shiftreg.checkpoints.folder_export import config_in
from shiftreg.checkpoints.stored import size_in_bytes
from shiftreg.checkpoints.tensor_files import widest_first, write_safetensors
from shiftreg.errors import InvalidInputError

WEIGHT_NAMES = {"unet": "diffusion_pytorch_model", "vae": "diffusion_pytorch_model"}
ORIGIN = ".source.json"  # hidden: it does not count for the folder's digest


def write_base(
    file: SingleFile,
    config_folder: Path,
    target: Path,
    origin: Mapping[str, Any],
    observe: Callable[[int, int], None],
) -> None:
    """Writes a diffusers folder with the file's weights; whole or not at all.

    Args:
        file: What to write.
        config_folder: Where configurations and tokenizers come from.
        target: Does not exist.
        origin: JSON values on where the folder comes from, kept in it.
        observe: Is told how many bytes of how many are written.

    Raises:
        InvalidInputError: The configurations are incomplete.
        AlreadyExistsError: The target exists.
        IntegrityError: A file is damaged.
        StorageError: The disk refused.
    """
    total = sum(size_in_bytes(s) for part in file.components.values() for s in part.values())
    done = 0

    def wrote(size: int) -> None:
        nonlocal done
        done += size
        observe(done, total)

    with atomic_folder(target) as partial:
        (partial / ORIGIN).write_text(f"{json.dumps(dict(origin), indent=2, sort_keys=True)}\n")
        _copy_configuration(config_folder, partial, file)
        for component, tensors in sorted(file.components.items()):
            stem = WEIGHT_NAMES.get(component, "model")
            with DigestedFile(partial / component / f"{stem}.safetensors") as written:
                write_safetensors(written, widest_first(tensors), {"format": "pt"}, wrote=wrote)


def read_origin(folder: Path) -> dict[str, Any] | None:
    """What :func:`write_base` noted on where a folder comes from; None for other folders.

    Raises:
        IntegrityError: It is damaged.
    """
    path = folder / ORIGIN
    if not path.is_file():
        return None
    with reading(path):
        return dict(json.loads(path.read_text(encoding="utf-8")))


def _copy_configuration(source: Path, target: Path, file: SingleFile) -> None:
    """Copies what is no weight, of the parts that the folder will have."""
    with reading(source / "model_index.json"):
        index = dict(json.loads((source / "model_index.json").read_text(encoding="utf-8")))
    parts = {name for name, entry in index.items() if isinstance(entry, list) and any(entry)}
    # Models whose weights the file does not hold, such as the safety checker.
    absent = {
        name
        for name in parts - file.components.keys()
        if (source / name / "config.json").is_file() or not (source / name).is_dir()
    }
    if missing := sorted(name for name in absent if name.startswith(("tokenizer", "scheduler"))):
        raise InvalidInputError(
            f"The configuration in '{source}' has no {missing[0]}. Give a complete diffusers "
            "folder, with or without weights: --config FOLDER"
        )
    index |= {name: [None, None] for name in absent}
    if "safety_checker" in absent:
        index["requires_safety_checker"] = False
    (target / "model_index.json").write_text(f"{json.dumps(index, indent=2, sort_keys=True)}\n")
    for path in visible_files(source):
        place = path.relative_to(source)
        if place.parts[0] not in parts - absent or is_weight_file(path) or len(place.parts) < 2:
            continue
        (target / place).parent.mkdir(parents=True, exist_ok=True)
        tensors = file.components.get(place.parts[0])
        if tensors and place.parts[1:] == ("config.json",):
            dtype = next(iter(tensors.values())).dtype
            (target / place).write_bytes(config_in(path.parent, dtype))
        else:
            shutil.copyfile(path, target / place)
