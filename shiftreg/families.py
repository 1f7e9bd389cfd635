"""What families of models are known by, in folders, single files, adapters and metadata.

A new family is a row here, and a file in ``pipelines/families`` that says how its prompts are
encoded and how its network is called. No other module asks which family a model is of.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shiftreg.errors import IntegrityError

NETWORKS = ("unet", "transformer")  # the components that denoise, and that shifts change


@dataclass(frozen=True)
class Encoder:
    """A text encoder of a family.

    Attributes:
        tokenizer: The folder of its tokenizer.
        label: For errors.
        classes: Of transformers, that single files can hold.
        single_file_prefix: What the names of its tensors begin with in single files.
        clip_prefix: The whole prefix of an encoder of OpenAI's CLIP, which keeps the names of
            transformers; "" if it cannot be one.
        open_clip_prefix: The whole prefix of one of OpenCLIP; "" if it cannot be one.
        is_pooled: Whether the network also receives its pooled output.
    """

    component: str = "text_encoder"
    tokenizer: str = "tokenizer"
    label: str = "text encoder"
    classes: tuple[str, ...] = ()
    single_file_prefix: str = ""
    clip_prefix: str = ""
    open_clip_prefix: str = ""
    is_pooled: bool = False


@dataclass(frozen=True)
class KnownModel:
    """A published model and its descendants, as other tools tell them from others.

    Attributes:
        name: For errors.
        architecture: ModelSpec's name; "" of models that are recognised only to be refused.
        kohya_version: kohya's name; "" if it has none.
        kohya_prefix: How kohya's names of its kin begin, among which adapters can be exchanged.
        context_width: Of what cross-attention reads; 0 if unknown.
        prediction: "epsilon" or "v", where models differ in nothing else.
        file_mark: Pattern of names of tensors that only files made for it have.
    """

    name: str
    architecture: str = ""
    kohya_version: str = ""
    kohya_prefix: str = ""
    context_width: int = 0
    prediction: str = ""
    file_mark: str = ""


@dataclass(frozen=True)
class Family:
    """Models of one structure.

    Attributes:
        label: In lists of what is supported.
        implementation: Module and class in ``pipelines.families``.
        pipeline: The class of diffusers for its single files; others begin like it.
        network: The component that denoises.
        settings: What the configuration of the network gives in this family alone.
        encoders: The text encoders, in the order in which their embeddings stand side by side.
        encoder_types: What the first of them may be, by transformers' names; empty for any.
        causal: Whether the encoders read from left to right, so that the rows before a name are
            the same whatever the name is.
        network_encodes: Whether cross-attention receives a prompt from a part of the network that
            comes after the encoders.
        untouched_prefixes: Beginnings of the names of parameters that treat time, sizes and output:
            methods that train "all the others" leave them alone.
        models: Those that other tools know, more special ones first.
        default: What other tools take for it whatever fits none of them.
        network_class: Of diffusers, in single files; "" where there are none.
        compvis_adapters: Whether kohya's adapters name layers as CompVis does, not as diffusers.
    """

    label: str
    implementation: str
    pipeline: str
    network: str
    settings: frozenset[str]
    encoders: tuple[Encoder, ...]
    encoder_types: tuple[str, ...] = ()
    causal: bool = True
    network_encodes: bool = False
    untouched_prefixes: tuple[str, ...] = ()
    models: tuple[KnownModel, ...] = ()
    default: KnownModel | None = None
    network_class: str = ""
    compvis_adapters: bool = False

    @property
    def components(self) -> tuple[str, ...]:
        """The folders that a pipeline consists of."""
        folders = [folder for one in self.encoders for folder in (one.component, one.tokenizer)]
        return (self.network, *folders, "vae", "scheduler")

    @property
    def image_components(self) -> tuple[str, ...]:
        """Those that take no part in encoding a prompt."""
        return ("vae",) if self.network_encodes else (self.network, "vae")

    @property
    def single_file_classes(self) -> Mapping[str, tuple[str, ...]]:
        """The components that a single file holds -> what they may be; empty without such files."""
        if not self.network_class:
            return {}
        encoders = {encoder.component: encoder.classes for encoder in self.encoders}
        return {self.network: (self.network_class,), "vae": ("AutoencoderKL",), **encoders}

    def encoder(self, component: str) -> Encoder:
        """The text encoder in a folder."""
        return next(encoder for encoder in self.encoders if encoder.component == component)

    def known_model(self, context_width: object, prediction: str) -> KnownModel | None:
        """What a model counts as for other tools.

        Args:
            context_width: Of what cross-attention reads.
            prediction: "epsilon" or "v"; "" if unknown.
        """
        return next(
            (
                model
                for model in self.models
                if model.context_width == context_width and model.prediction in ("", prediction)
            ),
            self.default,
        )


_CLIP = ("CLIPTextModel", "CLIPTextModelWithProjection")
_UNET_OUTPUT = ("time_embedding.", "conv_norm_out", "conv_out")
_SDXL = KnownModel(
    "Stable Diffusion XL",
    architecture="stable-diffusion-xl-v1-base",
    kohya_version="sdxl_base_v1-0",
    kohya_prefix="sdxl",
    context_width=2048,
    file_mark=r"lora_te2_|text_encoder_2\.|conditioner\.|add_embedding|label_emb"
    r"|(attentions[._]\d+|(input|output)_blocks[._]\d+[._]1|middle_block[._]1)"
    r"[._]transformer_blocks[._][1-9]",
)

STABLE_DIFFUSION = Family(
    label="Stable Diffusion 1.x and 2.x",
    implementation="stable_diffusion:StableDiffusion",
    pipeline="StableDiffusionPipeline",
    network="unet",
    settings=frozenset({"cross_attention_dim"}),
    encoders=(
        Encoder(
            classes=_CLIP,
            single_file_prefix="cond_stage_model.",
            clip_prefix="cond_stage_model.transformer.",
            open_clip_prefix="cond_stage_model.model.",
        ),
    ),
    untouched_prefixes=_UNET_OUTPUT,
    models=(
        KnownModel(
            "Stable Diffusion 1.x",
            architecture="stable-diffusion-v1",
            kohya_version="sd_v1",
            kohya_prefix="sd_v1",
            context_width=768,
        ),
        KnownModel(
            "Stable Diffusion 2.x",
            architecture="stable-diffusion-v2-768-v",
            kohya_version="sd_v2_v",
            kohya_prefix="sd_v2",
            context_width=1024,
            prediction="v",
        ),
        KnownModel(
            "Stable Diffusion 2.x",
            architecture="stable-diffusion-v2-512",
            kohya_version="sd_v2",
            kohya_prefix="sd_v2",
            context_width=1024,
        ),
    ),
    default=KnownModel("Stable Diffusion", architecture="stable-diffusion"),
    network_class="UNet2DConditionModel",
)
STABLE_DIFFUSION_XL = Family(
    label="Stable Diffusion XL",
    implementation="stable_diffusion_xl:StableDiffusionXL",
    pipeline="StableDiffusionXLPipeline",
    network="unet",
    settings=frozenset({"cross_attention_dim"}),
    encoders=(
        Encoder(
            classes=_CLIP,
            single_file_prefix="conditioner.",
            clip_prefix="conditioner.embedders.0.transformer.",
        ),
        Encoder(
            component="text_encoder_2",
            tokenizer="tokenizer_2",
            label="second text encoder",
            classes=("CLIPTextModelWithProjection",),
            single_file_prefix="conditioner.embedders.1.",
            open_clip_prefix="conditioner.embedders.1.model.",
            is_pooled=True,
        ),
    ),
    untouched_prefixes=(*_UNET_OUTPUT, "add_embedding."),
    models=(_SDXL,),
    default=_SDXL,
    network_class="UNet2DConditionModel",
    compvis_adapters=True,
)
PIXART = Family(
    label="PixArt (alpha, sigma)",
    implementation="pixart:PixArt",
    pipeline="PixArt",
    network="transformer",
    settings=frozenset({"caption_channels", "cross_attention_dim"}),
    encoders=(Encoder(),),
    encoder_types=("t5",),
    causal=False,
    network_encodes=True,  # the transformer holds the caption projection
    untouched_prefixes=("adaln_single.", "caption_projection.", "scale_shift_table", "proj_out"),
)

# Those that consist of more come first: each row also fits what has still other components.
FAMILIES = (STABLE_DIFFUSION_XL, STABLE_DIFFUSION, PIXART)
SUPPORTED = f"{', '.join(family.label for family in FAMILIES[:-1])} or {FAMILIES[-1].label}"
SINGLE_FILE_FAMILIES = tuple(family for family in FAMILIES if family.network_class)
SINGLE_FILES = " and ".join(family.label for family in SINGLE_FILE_FAMILIES)
ENCODERS = tuple(encoder for family in FAMILIES for encoder in family.encoders)
# What errors can say that a file was made for.
KNOWN_MODELS = (
    *(model for family in FAMILIES for model in family.models),
    KnownModel(
        "Flux",
        kohya_prefix="flux",
        file_mark=r"(^|[._])(double_blocks|single_blocks|single_transformer_blocks)[._]",
    ),
    KnownModel(
        "Stable Diffusion 3",
        kohya_prefix="sd3",
        file_mark=r"(^|[._])(joint_blocks[._]|transformer\.transformer_blocks\.)",
    ),
    KnownModel("AnimateDiff", file_mark=r"motion_modules[._]"),
)


@dataclass(frozen=True)
class Structure:
    """What a pipeline consists of.

    Attributes:
        components: Those that are there.
        network: Name of the class of what denoises; "" if nothing does.
        settings: What the configuration of that gives.
        encoder_type: The first text encoder's, by transformers' name; "" if unknown.
    """

    pipeline: str
    components: frozenset[str]
    network: str
    settings: frozenset[str]
    encoder_type: str

    @property
    def family(self) -> Family | None:
        """The family of such a pipeline; None if it is of none that is known here."""
        for family in FAMILIES:
            needed = {family.network, *(encoder.component for encoder in family.encoders)}
            kinds = (*family.encoder_types, "") if family.encoder_types else (self.encoder_type,)
            if (
                needed <= self.components
                and family.settings <= self.settings
                and self.encoder_type in kinds
            ):
                return family
        return None


def read_structure(folder: Path) -> Structure:
    """What the pipeline in a diffusers folder consists of; no weights are read.

    Raises:
        IntegrityError: A configuration is missing or damaged.
    """
    index = _read(folder / "model_index.json")
    components = frozenset(n for n, part in index.items() if isinstance(part, list) and any(part))
    network = next((name for name in NETWORKS if name in components), "")
    settings, encoder = folder / network / "config.json", folder / "text_encoder" / "config.json"
    return Structure(
        pipeline=str(index.get("_class_name", "unknown")),
        components=components,
        network=str(index[network][-1]) if network else "",
        settings=frozenset(_read(settings) if network and settings.is_file() else ()),
        encoder_type=str(_read(encoder).get("model_type", "")) if encoder.is_file() else "",
    )


def _read(path: Path) -> Mapping[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise IntegrityError(
            f"'{path}' cannot be read ({error}). Copy the whole folder again."
        ) from error
    if not isinstance(content, dict):
        raise IntegrityError(f"'{path}' does not hold a JSON object. Copy the whole folder again.")
    return content
