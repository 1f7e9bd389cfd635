"""What a single file holds of a pipeline, found by names and shapes; nothing is read or run yet."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from shiftreg.checkpoints.arranged import reshaped
from shiftreg.checkpoints.base_folder import read_config
from shiftreg.checkpoints.ckpt_file import stored_ckpt
from shiftreg.checkpoints.compvis import UNET_PREFIX, VAE_PREFIX
from shiftreg.checkpoints.compvis_text import Place, is_unused, long_name
from shiftreg.checkpoints.files import reading
from shiftreg.checkpoints.single_file import component_places, from_single_file
from shiftreg.checkpoints.state_change import BUFFERS, EMA
from shiftreg.checkpoints.stored import TensorSource
from shiftreg.checkpoints.tensor_files import stored_safetensors
from shiftreg.errors import IncompatibleError, InvalidInputError

Shapes = Mapping[str, Mapping[str, tuple[int, ...]]]
MODEL_PREFIXES = (UNET_PREFIX, VAE_PREFIX, "cond_stage_model.", "conditioner.")
SINGLE_FILE_SUFFIXES = (".safetensors", ".ckpt")


@dataclass(frozen=True)
class SingleFile:
    """The tensors of a single file, sorted out.

    Attributes:
        path: The file.
        components: Component -> its state dict, in diffusers' names.
        averaged: How many averaged (EMA) weights the file holds beside the plain ones.
        ema: Whether the UNet's are those.
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
        path: The file, for errors.
        tensors: What :func:`single_file_contents` found.
        shapes: Component -> name in diffusers -> shape, by the configurations.
        config_folder: Their folder.
        ema: Takes the UNet's averaged weights.

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
    configs = {component: read_config(config_folder / component) for component in shapes}
    components: dict[str, dict[str, TensorSource]] = {}
    used: set[str] = set()
    for component, config in configs.items():
        wanted = {_stored_name(component, name): s for name, s in shapes[component].items()}
        with reading(config_folder / component / "config.json"):
            places = component_places(component, wanted, config, frozenset(shapes))
        if ema and component == "unet":
            places = {name: replace(p, key=_averaged_key(p.key)) for name, p in places.items()}
        components[component] = {
            name: _fitting(tensors, place, wanted[name], path, config_folder)
            for name, place in places.items()
        }
        used |= {place.key for place in places.values()}
    left_out = tuple(key for key in tensors if key not in used and not key.startswith(EMA))
    for key in left_out:
        other = key.startswith(UNET_PREFIX) and ema
        constant = BUFFERS.fullmatch(key) or is_unused(key, configs["text_encoder"])
        if key.startswith(MODEL_PREFIXES) and not other and not constant:
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
        want = shape[::-1] if place.turned else (shape[0] * place.parts, *shape[1:])
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


def _averaged_key(key: str) -> str:
    """What training calls the averaged weight of a tensor: its name without dots."""
    return EMA + key.removeprefix("model.").replace(".", "")


def _stored_name(component: str, name: str) -> str:
    """The name in the folder: that of text encoders is the same in all versions of libraries."""
    return long_name(name) if component.startswith("text_encoder") else name


def _mismatch(
    path: Path,
    config_folder: Path,
    key: str,
    want: tuple[int, ...] | None,
    have: tuple[int, ...] | None,
) -> IncompatibleError:
    wanted = f"'{key[:99]}' has shape {want}" if want else f"there is no '{key[:99]}'"
    has = f"it has shape {have}" if have else "there is none"
    return IncompatibleError(
        f"'{path}' is of another architecture than the configuration in '{config_folder}': by the "
        f"configuration {wanted}, and in the file {has}. Give a diffusers folder of the "
        "file's own architecture (--config FOLDER)."
    )
