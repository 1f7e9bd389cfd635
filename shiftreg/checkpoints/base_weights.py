"""Whether the weights of a diffusers folder are all there, and numbers of the right kind.

Libraries that load a folder turn integers into floating numbers, and what is missing into random
ones.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from shiftreg.checkpoints.base_folder import (
    COMPONENTS,
    NETWORKS,
    network_folder,
    stored_component,
    weight_files,
)
from shiftreg.errors import IntegrityError, InvalidInputError

_PARTS = dict.fromkeys((*NETWORKS, *COMPONENTS))
_POSITIONS = "position_ids"  # the one tensor of integers, which old text encoders save


def check_base_weights(base_folder: Path, parameters: Iterable[str]) -> None:
    """Refuses a folder whose model would be another one than its files hold.

    Args:
        base_folder: The diffusers folder.
        parameters: Names of all parameters of its UNet or transformer, by the configuration.

    Raises:
        InvalidInputError: Weights are no floating numbers, or there are only pickles.
        IntegrityError: A parameter of the UNet or transformer is missing, or a file is damaged.
        NotFoundError: A shard is missing.
    """
    for part in _PARTS:
        if weight_files(base_folder / part):
            _check_numbers(base_folder / part)
    network = network_folder(base_folder)
    held = stored_component(network)
    if missing := [name for name in parameters if name not in held]:
        raise IntegrityError(
            f"'{network}' has no '{missing[0]}', which its configuration asks for"
            f"{f' ({len(missing)} are missing)' if len(missing) > 1 else ''}. "
            "Copy the whole folder again."
        )


def _check_numbers(component: Path) -> None:
    for name, tensor in stored_component(component).items():
        if not tensor.dtype.is_floating_point and not name.endswith(_POSITIONS):
            raise InvalidInputError(
                f"Weights are floating numbers, and '{name}' in '{component}' holds "
                f"{str(tensor.dtype).removeprefix('torch.')}: it may be quantised. Save the base "
                "in float16 or float32."
            )
