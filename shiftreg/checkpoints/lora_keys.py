"""The key styles of LoRA files, and the low-rank pairs that they hold for each layer."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from shiftreg.checkpoints.foreign_files import ForeignFile
from shiftreg.checkpoints.weight_change import ComparedBase, probable_architecture
from shiftreg.errors import IncompatibleError, InvalidInputError
from shiftreg.families import NETWORKS

# Words that no tensor of a whole model has in its name: LoRA's, and those of its relatives.
ADAPTER_MARK = re.compile(
    r"(^|[._])(lora|lokr|hada|glora|dora|oft|boft|ia3|vera|lycoris)([._]|$)|\.diff(_b)?$"
)
TEXT_ENCODER = re.compile(
    r"lora_te\d?[._]|text_encoder(_\d)?\.|base_model\.model\.(text_model|text_encoder(_\d)?)\."
    r"|text_model\."
)
PREFIX = re.compile(rf"(base_model\.model\.)?(({'|'.join(NETWORKS)})\.)?")
KOHYA_PREFIX = "lora_unet_"
KOHYA = re.compile(
    r"(?P<module>[^.]+)\.(?P<role>lora_down\.weight|lora_up\.weight|alpha|diff_b|diff)"
)
COMPVIS = re.compile(r"(input_blocks|middle_block|output_blocks|time_embed|label_emb|out)_")
PEFT = re.compile(r"(?P<module>.+)\.lora_(?P<role>A|B)(\.\w+)?\.weight")
DIFFUSERS = re.compile(
    r"(?P<module>.+?)(\.lora|_lora|\.lora_linear_layer)\.(?P<role>down|up)\.weight"
)
ALPHA = re.compile(r"(?P<module>.+)\.(?P<role>alpha)")
ROLES = {"A": "down", "B": "up", "lora_down.weight": "down", "lora_up.weight": "up"}
RELATIVES = {
    "hada_": "a LoHa",
    "lokr_": "a LoKr",
    "glora": "a GLoRA",
    "dora_scale": "a DoRA",
    "lora_magnitude_vector": "a DoRA",
    "lora_mid": "a LoRA of three factors (LoCon with Tucker decomposition)",
    "oft_": "an OFT",
    "ia3": "an IA3",
}


@dataclass(frozen=True)
class LoraFile:
    """A LoRA file, sorted by layers.

    Attributes:
        form: "lora, diffusers/PEFT" or "lora, kohya".
        style: How the keys are written, such as "kohya, CompVis names".
        layers: UNet module by diffusers' name, such as ``mid_block.resnets.0.conv1`` -> its "down",
            "up" and "alpha", or "diff" and "diff_b".
    """

    form: str
    style: str
    layers: dict[str, dict[str, Tensor]]
    text_encoder: tuple[str, ...]


@dataclass(frozen=True)
class _Key:
    """One key, taken apart; an alpha in PEFT's or diffusers' names has no style of its own."""

    style: str
    module: str
    role: str


def is_lora(tensors: Mapping[str, Tensor]) -> bool:
    """Whether a file adds something to weights, and does not replace them."""
    return any(ADAPTER_MARK.search(name) for name in tensors)


def sort_lora(file: ForeignFile, base: ComparedBase) -> LoraFile:
    """Recognises the style of a LoRA file, and finds the layers that it changes.

    Raises:
        InvalidInputError: A key is of no known style, several styles are mixed, a layer occurs
            twice, or half of a pair is missing.
        IncompatibleError: The base lacks a layer.
    """
    tensors, source = file.tensors, file.source
    text_encoder = tuple(sorted(name for name in tensors if TEXT_ENCODER.match(name)))
    keys = {name: _take_apart(name, source) for name in sorted(tensors.keys() - set(text_encoder))}
    style = _only_style(keys, source)
    names = _module_names(base) if style.startswith("kohya") else {}
    layers: dict[str, dict[str, Tensor]] = {}
    for name, key in keys.items():
        module = names.get(key.module, key.module)
        if f"{module}.weight" not in base.unet:
            raise IncompatibleError(
                f"The base has no layer '{key.module}', which {source} changes by '{name}'."
                f"{probable_architecture(tensors)} Import it for a base of that structure."
            )
        parts = layers.setdefault(module, {})
        if key.role in parts:
            raise InvalidInputError(
                f"A LoRA has one {key.role} for a layer, and {source} has a second one for "
                f"'{module}': '{name}'. Save one adapter alone."
            )
        parts[key.role] = tensors[name]
    for module, parts in layers.items():
        _check_complete(module, parts, source)
    form = "lora, kohya" if style.startswith("kohya") else "lora, diffusers/PEFT"
    return LoraFile(form, style, layers, text_encoder)


def _take_apart(name: str, source: str) -> _Key:
    """Finds style, module and role of one key.

    Raises:
        InvalidInputError: It is of no known style.
    """
    if name.startswith(KOHYA_PREFIX):
        found = KOHYA.fullmatch(name.removeprefix(KOHYA_PREFIX))
        if not found:
            raise _unsupported(name, source)
        names = "CompVis" if COMPVIS.match(found["module"]) else "diffusers"
        style = f"kohya, {names} names"
        return _Key(style, found["module"], ROLES.get(found["role"], found["role"]))
    prefix = PREFIX.match(name)
    assert prefix is not None  # it may be empty
    # Attention processors held the layers of the first LoRAs.
    rest = name[prefix.end() :].replace(".processor.", ".")
    for family, pattern in (("PEFT", PEFT), ("diffusers", DIFFUSERS), ("", ALPHA)):
        if found := pattern.fullmatch(rest):
            module, role = found["module"], ROLES.get(found["role"], found["role"])
            if module.endswith(".to_out"):
                module += ".0"
            style = f"{family}, prefix '{prefix[0]}'" if family else ""
            return _Key(style, module, role)
    raise _unsupported(name, source)


def _only_style(keys: Mapping[str, _Key], source: str) -> str:
    styles = {key.style: name for name, key in keys.items() if key.style}
    if len(styles) > 1:
        (one, first), (other, second) = sorted(styles.items())[:2]
        raise InvalidInputError(
            f"The keys of a LoRA are of one style, and {source} mixes '{first}' ({one}) with "
            f"'{second}' ({other}). Save each adapter in a file of its own."
        )
    return next(iter(styles), "")


def _module_names(base: ComparedBase) -> dict[str, str]:
    """Each module by the names that kohya's files give it: dots became underscores."""
    names = {}
    for parameter in base.unet:
        if parameter.endswith(".weight"):
            for written in (parameter, base.compvis.get(parameter, parameter)):
                flat = written.removesuffix(".weight").replace(".", "_")
                names[flat] = parameter.removesuffix(".weight")
    return names


def _check_complete(module: str, parts: Mapping[str, Tensor], source: str) -> None:
    for part, other in (("down", "up"), ("up", "down"), ("alpha", "down")):
        if part in parts and other not in parts:
            raise InvalidInputError(
                f"A LoRA holds a down and an up for each layer, and {source} has for '{module}' "
                f"the {part} without the {other}. The file is incomplete: fetch or make it again."
            )
    if "down" in parts and "diff" in parts:
        raise InvalidInputError(
            f"A LoRA changes a layer by a pair or by a diff, and {source} has both for '{module}'. "
            "Save one adapter alone."
        )


def _unsupported(name: str, source: str) -> InvalidInputError:
    kind = next((kind for mark, kind in RELATIVES.items() if mark in name), "no LoRA known here")
    return InvalidInputError(
        f"LoRA files hold down, up, alpha and diff for each layer, and '{name}' in {source} "
        f"belongs to {kind}. Merge it into a checkpoint with the tool that made it, then import "
        "that."
    )
