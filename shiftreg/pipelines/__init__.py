"""All that knows diffusers and transformers."""

from diffusers import DiffusionPipeline as Pipeline

from shiftreg.pipelines.denoiser import Denoiser, applied_weights, noise_difference
from shiftreg.pipelines.families import network_of
from shiftreg.pipelines.generate import generate, image_size, starting_noise
from shiftreg.pipelines.image_to_image import continue_images
from shiftreg.pipelines.layers import (
    check_image_independence,
    image_independent_layers,
    layer_weights,
    parameters,
    text_only_layers,
)
from shiftreg.pipelines.live import LiveComposer
from shiftreg.pipelines.load import load_pipeline, load_prompt_encoder, resolve_source
from shiftreg.pipelines.prompts import (
    EncodedPrompts,
    encode_prompts,
    fitting,
    last_positions,
    name_ends,
    name_positions,
    token_limit,
)
from shiftreg.pipelines.soft_prompts import SoftPrompts
from shiftreg.pipelines.structure import fetch_configuration, weight_shapes
