"""All that knows diffusers and transformers, imported by need: each of them takes seconds."""

from typing import TYPE_CHECKING

from shiftreg.lazy import lazy_names

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline as Pipeline

    from shiftreg.pipelines.denoiser import Denoiser as Denoiser
    from shiftreg.pipelines.denoiser import applied_weights as applied_weights
    from shiftreg.pipelines.denoiser import noise_difference as noise_difference
    from shiftreg.pipelines.denoiser import noise_left as noise_left
    from shiftreg.pipelines.families import network_of as network_of
    from shiftreg.pipelines.image_to_image import continue_images as continue_images
    from shiftreg.pipelines.images import generate as generate
    from shiftreg.pipelines.images import generate_latents as generate_latents
    from shiftreg.pipelines.images import image_size as image_size
    from shiftreg.pipelines.images import starting_noise as starting_noise
    from shiftreg.pipelines.layers import check_image_independence as check_image_independence
    from shiftreg.pipelines.layers import image_independent_layers as image_independent_layers
    from shiftreg.pipelines.layers import layer_weights as layer_weights
    from shiftreg.pipelines.layers import parameters as parameters
    from shiftreg.pipelines.layers import text_only_layers as text_only_layers
    from shiftreg.pipelines.live import LiveComposer as LiveComposer
    from shiftreg.pipelines.load import load_pipeline as load_pipeline
    from shiftreg.pipelines.load import resolve_source as resolve_source
    from shiftreg.pipelines.prompt_encoder import PromptEncoder as PromptEncoder
    from shiftreg.pipelines.prompts import encode_prompts as encode_prompts
    from shiftreg.pipelines.prompts import fitting as fitting
    from shiftreg.pipelines.prompts import last_positions as last_positions
    from shiftreg.pipelines.prompts import name_ends as name_ends
    from shiftreg.pipelines.prompts import name_positions as name_positions
    from shiftreg.pipelines.prompts import token_limit as token_limit
    from shiftreg.pipelines.soft_prompts import SoftPrompts as SoftPrompts
    from shiftreg.pipelines.structure import fetch_configuration as fetch_configuration
    from shiftreg.pipelines.structure import weight_shapes as weight_shapes
else:
    __getattr__, __dir__ = lazy_names(__name__, __file__)
