"""A single file as a diffusers folder: sorted by names and shapes, then written.

It is renamed and cut, a piece of a tensor at a time.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from shiftreg.checkpoints.atomic import atomic_folder
from shiftreg.checkpoints.base_folder import is_weight_file, read_config
from shiftreg.checkpoints.ckpt_file import stored_ckpt
from shiftreg.checkpoints.compvis import UNET_PREFIX, VAE_PREFIX, Place, is_unused, long_name
from shiftreg.checkpoints.digested_file import DigestedFile
from shiftreg.checkpoints.files import reading, visible_files
from shiftreg.checkpoints.folder_export import config_in
from shiftreg.checkpoints.merged import component_places, from_single_file
from shiftreg.checkpoints.state_change import BUFFERS, EMA
from shiftreg.checkpoints.stored import TensorSource, reshaped, size_in_bytes
from shiftreg.checkpoints.tensor_files import stored_safetensors, widest_first, write_safetensors
from shiftreg.errors import IncompatibleError, InvalidInputError
from shiftreg.families import ENCODERS, NETWORKS, SINGLE_FILE_FAMILIES

Shapes = Mapping[str, Mapping[str, tuple[int, ...]]]
MODEL_PREFIXES = (
    UNET_PREFIX,
    VAE_PREFIX,
    *(e.single_file_prefix for e in ENCODERS if e.single_file_prefix),
)
SINGLE_FILE_SUFFIXES = (".safetensors", ".ckpt")
WEIGHT_NAMES = dict.fromkeys((*NETWORKS, "vae"), "diffusion_pytorch_model")
ORIGIN = ".source.json"  # hidden: it does not count for the folder's digest


@dataclass(frozen=True)
class SingleFile:
    """The tensors of a single file, sorted out.

    Attributes:
        components: Component -> its state dict, in diffusers' names.
        averaged: How many averaged (EMA) weights the file holds beside the plain ones.
        left_out: Names of tensors that belong to no part of the pipeline.
    """

    path: Path
    components: Mapping[str, Mapping[str, TensorSource]]
    averaged: int
    ema: bool
    left_out: tuple[str, ...]


def is_single_file(source: str) -> bool:
    """Whether a base's source is a single file, by its name."""
    path = Path(source).expanduser()
    return path.suffix.lower() in SINGLE_FILE_SUFFIXES and not path.is_dir()


def single_file_contents(path: Path) -> dict[str, TensorSource]:
    """The tensors of a single file by its own names; none of them is read.

    Raises:
        NotFoundError: The file does not exist.
        InvalidInputError: It is of another kind.
        IntegrityError: It is damaged, or holds code.
    """
    if path.suffix.lower() == ".ckpt":
        return stored_ckpt(path)
    if path.suffix.lower() == ".safetensors":
        return dict(stored_safetensors(path)[0])
    raise InvalidInputError(
        f"'{path}' ends in '{path.suffix}', and single files are "
        f"{' or '.join(SINGLE_FILE_SUFFIXES)}. Give such a file, or a diffusers folder."
    )


def sort_single_file(
    path: Path,
    tensors: Mapping[str, TensorSource],
    shapes: Shapes,
    config_folder: Path,
    *,
    ema: bool = False,
) -> SingleFile:
    """Finds each tensor that a pipeline needs, and checks that it is of the right shape.

    Args:
        shapes: Component -> name in diffusers -> shape, by the configurations.

    Raises:
        InvalidInputError: There are no averaged weights.
        IncompatibleError: The file is of another architecture than the configurations.
        IntegrityError: A configuration is damaged.
    """
    averaged = sum(key.startswith(EMA) for key in tensors)
    if ema and not averaged:
        raise InvalidInputError(
            f"'{path}' holds no averaged weights ({EMA}*). Register it without --ema."
        )
    family = next(f for f in SINGLE_FILE_FAMILIES if f.single_file_classes.keys() == shapes.keys())
    configs = {component: read_config(config_folder / component) for component in shapes}
    components: dict[str, dict[str, TensorSource]] = {}
    used: set[str] = set()
    for component, config in configs.items():
        # In the folder, the names of text encoders are the same in all versions of libraries.
        is_text = component.startswith("text_encoder")
        wanted = {long_name(n) if is_text else n: s for n, s in shapes[component].items()}
        with reading(config_folder / component / "config.json"):
            places = component_places(component, wanted, config, family)
        if ema and component == family.network:
            # Training calls the averaged weight of a tensor by its name without dots.
            for name, place in places.items():
                flat = place.key.removeprefix("model.").replace(".", "")
                places[name] = replace(place, key=EMA + flat)
        components[component] = {
            name: _fitting(tensors, place, wanted[name], path, config_folder)
            for name, place in places.items()
        }
        used |= {place.key for place in places.values()}
    left_out = tuple(key for key in tensors if key not in used and not key.startswith(EMA))
    for key in left_out:
        other = key.startswith(UNET_PREFIX) and ema
        unused = any(is_unused(key, e, configs[e.component]) for e in family.encoders)
        if (
            key.startswith(MODEL_PREFIXES)
            and not other
            and not BUFFERS.fullmatch(key)
            and not unused
        ):
            raise _mismatch(path, config_folder, key, None, tensors[key].shape)
    return SingleFile(path, components, averaged, ema, left_out)


def _fitting(
    tensors: Mapping[str, TensorSource],
    place: Place,
    shape: tuple[int, ...],
    path: Path,
    config_folder: Path,
) -> TensorSource:
    """The tensor at a place, in the shape that the configuration wants."""
    found = from_single_file(tensors, place)
    if found is None or _linear(found.shape) != _linear(shape):
        have = tensors[place.key].shape if place.key in tensors else None
        want = shape[::-1] if place.transposed else (shape[0] * place.parts, *shape[1:])
        raise _mismatch(path, config_folder, place.key, want, have)
    if not found.dtype.is_floating_point:
        raise InvalidInputError(
            f"Weights are floating-point numbers, and '{place.key}' in '{path}' holds "
            f"{str(found.dtype).removeprefix('torch.')}. Convert the file to float16 or float32."
        )
    return reshaped(found, shape)


def _linear(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Linear layers are saved as convolutions of one pixel, too."""
    return shape[:2] if shape[2:] in ((1,), (1, 1)) else shape


def _mismatch(
    path: Path,
    config_folder: Path,
    key: str,
    want: tuple[int, ...] | None,
    have: tuple[int, ...] | None,
) -> IncompatibleError:
    wanted = f"'{key[:99]}' has shape {want}" if want else f"there is no '{key[:99]}'"
    has = f"it has shape {have}" if have else "it is missing"
    return IncompatibleError(
        f"'{path}' is of another architecture than the configuration in '{config_folder}': by the "
        f"configuration {wanted}, and in the file {has}. Give a diffusers folder of the "
        "file's own architecture (--config FOLDER)."
    )


def write_base(
    file: SingleFile,
    config_folder: Path,
    target: Path,
    origin: Mapping[str, Any],
    observe: Callable[[int, int], None],
) -> None:
    """Writes a diffusers folder with the file's weights; whole or not at all.

    Args:
        config_folder: Where configurations and tokenizers come from.
        target: Does not exist.
        origin: JSON values on where the folder comes from, kept in it.
        observe: Called with how many bytes of how many are written.

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
    return read_config(folder, ORIGIN) if (folder / ORIGIN).is_file() else None


def _copy_configuration(source: Path, target: Path, file: SingleFile) -> None:
    """Copies all but weights, of the components that the folder will have."""
    index = read_config(source, "model_index.json")
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
