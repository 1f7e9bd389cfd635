"""What a state dict or a whole checkpoint changes in a base: new weights minus old ones."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

from torch import Tensor

from shiftreg.checkpoints.base_folder import (
    network_folder,
    read_config,
    single_file_family,
    stored_component,
)
from shiftreg.checkpoints.compvis import UNET_PREFIX, VAE_PREFIX, is_unused, long_name, vae_key
from shiftreg.checkpoints.files import reading
from shiftreg.checkpoints.foreign_files import ForeignFile
from shiftreg.checkpoints.merged import component_places, to_single_file
from shiftreg.checkpoints.stored import TensorSource, whole
from shiftreg.checkpoints.weight_change import (
    ComparedBase,
    WeightChange,
    check_weights,
    dtype_names,
    fit_shape,
    holds,
    probable_architecture,
    same_values,
    shape_text,
    single_precision,
)
from shiftreg.errors import IncompatibleError, InvalidInputError
from shiftreg.families import ENCODERS, NETWORKS, SINGLE_FILE_FAMILIES, Encoder

# Component -> what errors call it.
OTHER_PARTS = {encoder.component: encoder.label for encoder in ENCODERS} | {"vae": "autoencoder"}
# Beginning of a name -> the component that the tensor belongs to; names without one are the UNet's.
PARTS = {
    UNET_PREFIX: "unet",
    **{f"{network}.": "unet" for network in NETWORKS},
    VAE_PREFIX: "vae",
    **{f"{component}.": component for component in OTHER_PARTS},
    **{e.single_file_prefix: e.component for e in ENCODERS if e.single_file_prefix},
}
EMA = "model_ema."
# Constants of the noise schedule, and what training leaves behind.
BUFFERS = re.compile(
    r"(betas|(sqrt_(recip(m1)?_)?|log_)?(one_minus_)?alphas_cumprod(_prev)?|sqrt_.*|posterior_.*"
    r"|logvar|lvlb_weights|sigmas|log_sigmas|scale_factor|denoiser\..*|loss\..*"
    r"|first_stage_model\.loss\..*|.*\bposition_ids|.*\blogit_scale)"
)
UNET_NAME = re.compile(
    r"(down_blocks|up_blocks|mid_block|conv_in|conv_norm_out|conv_out|time_embedding|add_embedding"
    r"|class_embedding|encoder_hid_proj|input_blocks|middle_block|output_blocks|time_embed"
    r"|label_emb|out)\."
)
# Fine-tuned weights keep a similarity near one; those of two trainings have none.
LEAST_SIMILARITY = 0.1


def state_change(file: ForeignFile, base: ComparedBase, *, unet_only: bool) -> WeightChange:
    """Subtracts a base from a state dict.

    Args:
        file: Under diffusers' or CompVis's names, all of the model or a part of it.
        unet_only: Leaves out a text encoder or autoencoder that is not the base's.

    Raises as ``change_of_base``.
    """
    source, unet = file.source, base.unet
    parts, left_out = _sort_by_part(file.tensors)
    names = _unet_names(parts["unet"], base, source)
    new = {}
    for name, tensor in parts["unet"].items():
        fitted = fit_shape(tensor, unet[names[name]].shape)
        if fitted is None:
            raise IncompatibleError(
                f"The base's '{names[name]}' has shape {shape_text(unet[names[name]])}, and in "
                f"{source} it has {shape_text(tensor)} ('{name}')."
                f"{probable_architecture(file.tensors)} Import it for a base of that width."
            )
        check_weights(name, fitted)
        new[names[name]] = fitted
    similarity = _check_similarity(new, unet, source)
    elsewhere = []
    for part, words in OTHER_PARTS.items():
        differing = first_difference(part, parts[part], base.folder)
        if differing and not unet_only:
            raise IncompatibleError(
                f"A shift changes the UNet alone, and {source} holds another "
                f"{words} than the base ('{differing}'): it was made from another "
                "base, or changes more than the UNet. Import it for its own base, or import its "
                "UNet part alone (--unet-only)."
            )
        if differing:
            elsewhere.append(differing)
            left_out.append(
                f"The {words} differs from the base's ('{differing}') and was left out."
            )
    deltas = {name: _difference(name, tensor, unet[name]) for name, tensor in new.items()}
    changed = {name: delta for name, delta in deltas.items() if delta is not None}
    whole = new.keys() == unet.keys() or any(parts[part] for part in OTHER_PARTS)
    details: dict[str, Any] = {
        "keys": len(file.tensors),
        "unet_keys": len(new),
        "layers": len({name.rpartition(".")[0] for name in changed}),
        "dtype": dtype_names(parts["unet"]),
        "median_similarity": similarity,
    }
    form = "checkpoint" if whole else "partial state dict"
    return WeightChange(form, changed, tuple(left_out), details, tuple(elsewhere), new)


def _sort_by_part(tensors: Mapping[str, Tensor]) -> tuple[dict[str, dict[str, Tensor]], list[str]]:
    """Each part's tensors by the file's names; and sentences on what is ignored."""
    parts: dict[str, dict[str, Tensor]] = {part: {} for part in ("unet", *OTHER_PARTS)}
    averaged = 0
    for name, tensor in tensors.items():
        if name.startswith(EMA):
            averaged += 1
        elif not BUFFERS.fullmatch(name):
            prefix = max((p for p in PARTS if name.startswith(p)), key=len, default=None)
            parts["unet" if prefix is None else PARTS[prefix]][name] = tensor
    left_out = [f"{averaged} averaged weights ({EMA}*) were left out."] if averaged else []
    return parts, left_out


def _unet_names(tensors: Mapping[str, Tensor], base: ComparedBase, source: str) -> dict[str, str]:
    """The file's names of the UNet's tensors -> diffusers' names.

    Raises:
        InvalidInputError: There are none, several forms are mixed, or one is unknown.
        IncompatibleError: The base's UNet lacks one.
    """
    if not tensors:
        raise InvalidInputError(
            f"A shift changes the UNet, and {source} holds nothing of one. "
            "Give a LoRA, a state dict or a checkpoint of a UNet."
        )
    forms = {
        prefix: next((name for name in tensors if name.startswith(prefix)), None)
        for prefix in (UNET_PREFIX, *(f"{network}." for network in NETWORKS))
    }
    forms[""] = next((name for name in tensors if UNET_NAME.match(name)), None)
    used = [prefix for prefix, example in forms.items() if example]
    if len(used) > 1:
        raise InvalidInputError(
            f"The tensors of a UNet are named in one way, and {source} mixes "
            f"'{forms[used[0]]}' with '{forms[used[1]]}'. Save one model alone."
        )
    prefix = used[0] if used else ""
    own = base.compvis if prefix == UNET_PREFIX else {name: name for name in base.unet}
    known = {prefix + written: name for name, written in own.items()}
    if unknown := [name for name in tensors if name not in known]:
        first = unknown[0]
        probably = probable_architecture(tensors)
        if probably or UNET_NAME.match(first.removeprefix(prefix)):
            raise IncompatibleError(
                f"The base's UNet has no tensor '{first}', and {source} has it with shape "
                f"{shape_text(tensors[first])}.{probably} Import it for a base of that structure."
            )
        raise InvalidInputError(
            f"'{first}' in {source} is not a tensor of a UNet that is known here, nor a LoRA's. "
            "Save the UNet's weights with diffusers' names (save_pretrained), then import that."
        )
    return {name: known[name] for name in tensors}


def _check_similarity(
    new: Mapping[str, Tensor], unet: Mapping[str, Tensor], source: str
) -> float | None:
    """The median cosine similarity of matrices and kernels; None if there are none.

    Raises:
        IncompatibleError: It is that of weights from another training.
    """
    pairs = ((tensor, unet[name]) for name, tensor in new.items() if tensor.ndim >= 2)
    cosines = [cosine for one, other in pairs if (cosine := _cosine(one, other)) is not None]
    if not cosines:
        return None
    similarity = median(cosines)
    if similarity < LEAST_SIMILARITY:
        raise IncompatibleError(
            f"Weights of a changed model resemble the base's, and those of {source} do not: their "
            f"median cosine similarity is {similarity:.2f}, below {LEAST_SIMILARITY}. It was made "
            "from another base: import it for that one."
        )
    return similarity


def _cosine(one: Tensor, other: Tensor) -> float | None:
    one, other = one.double().flatten(), other.double().flatten()
    norms = float(one.norm() * other.norm())
    return float(one @ other) / norms if norms > 0 else None


def _difference(name: str, new: Tensor, old: Tensor) -> Tensor | None:
    """New minus old, float32; None if nothing changed."""
    if same_values(new, old):
        return None
    # A dtype that cannot hold the base's values rounded them: that is no change.
    if not holds(new.dtype, old.dtype):
        old = old.to(new.dtype)
    return single_precision(name, new.double() - old.double())


def first_difference(part: str, tensors: Mapping[str, Tensor], base_folder: Path) -> str | None:
    """The first tensor that is not the base's.

    Args:
        tensors: By the file's names, with the prefix of the part.

    Returns:
        Its name in the file; None if all that are there are the base's.

    Raises:
        InvalidInputError: The base has no safetensors weights of that part.
        IntegrityError: The base is damaged.
    """
    if not tensors:
        return None
    component = base_folder / part
    if not component.is_dir():
        return next(iter(tensors))
    config = read_config(component)
    stored = stored_component(component)
    network = network_folder(base_folder).name
    if all(family.network != network for family in SINGLE_FILE_FAMILIES):
        own = {f"{part}.{name}": source for name, source in stored.items()}
        return next((name for name in tensors if not _same(tensors[name], own.get(name))), None)
    family = single_file_family(base_folder)
    # A configuration may be valid JSON and still lack what the names follow from.
    with reading(component / "config.json"):
        places = component_places(part, stored, config, family)
    expected: dict[str, TensorSource] = dict(to_single_file(stored, places))
    encoder = None if part == "vae" else family.encoder(part)
    if encoder:
        expected |= {f"{part}.{long_name(name)}": source for name, source in stored.items()}
    for name, tensor in tensors.items():
        if encoder and is_unused(name, encoder, config):
            continue
        try:
            old = expected.get(_one_name(encoder, name, config))
        except InvalidInputError:  # The base's kind of autoencoder has no such tensor.
            return name
        if not _same(tensor, old):
            return name
    return None


def _same(tensor: Tensor, source: TensorSource | None) -> bool:
    """Whether the base holds a tensor with these values, in whatever dtype and layout."""
    fitted = None if source is None else fit_shape(tensor, source.shape)
    return source is not None and fitted is not None and same_values(fitted, whole(source))


def _one_name(encoder: Encoder | None, name: str, config: Mapping[str, Any]) -> str:
    """The name that a tensor of a text encoder, or the autoencoder, has in every kind of file."""
    if encoder is None:
        own = name.removeprefix("vae.")
        return name if own == name else VAE_PREFIX + vae_key(own, config)
    for prefix in filter(None, (f"{encoder.component}.", encoder.clip_prefix)):
        if name.startswith(prefix):
            return prefix + long_name(name.removeprefix(prefix))
    return name
