"""Files in, files out: shifts, checkpoints of every common form, digests, atomic writing."""

from __future__ import annotations

from shiftreg.checkpoints.atomic import atomic_file, atomic_folder
from shiftreg.checkpoints.base_folder import (
    network_folder,
    parameter_reader,
    read_component,
    unet_dtype,
)
from shiftreg.checkpoints.comparison import (
    Comparison,
    compare_checkpoint,
    read_checkpoint,
    read_recipe_digest,
)
from shiftreg.checkpoints.conversion import (
    SingleFile,
    is_single_file,
    single_file_contents,
    sort_single_file,
)
from shiftreg.checkpoints.converted_folder import read_origin, write_base
from shiftreg.checkpoints.export import (
    Export,
    check_export_target,
    checkpoint_digest,
    export_checkpoint,
    export_format,
    recipe_path_of,
)
from shiftreg.checkpoints.files import file_digest, folder_digest
from shiftreg.checkpoints.foreign import ForeignChange, change_of_base, read_foreign
from shiftreg.checkpoints.foreign_files import ForeignFile, read_foreign_file
from shiftreg.checkpoints.shift_file import load_shift, save_shift
from shiftreg.checkpoints.together import Placement, placed_together
from shiftreg.checkpoints.torch_file import load_pickle_checkpoint
from shiftreg.checkpoints.unfinished import Unfinished
from shiftreg.checkpoints.weight_change import WeightChange

__all__ = [
    "Comparison",
    "Export",
    "ForeignChange",
    "ForeignFile",
    "Placement",
    "SingleFile",
    "Unfinished",
    "WeightChange",
    "atomic_file",
    "atomic_folder",
    "change_of_base",
    "check_export_target",
    "checkpoint_digest",
    "compare_checkpoint",
    "export_checkpoint",
    "export_format",
    "file_digest",
    "folder_digest",
    "is_single_file",
    "load_pickle_checkpoint",
    "load_shift",
    "network_folder",
    "parameter_reader",
    "placed_together",
    "read_checkpoint",
    "read_component",
    "read_foreign",
    "read_foreign_file",
    "read_origin",
    "read_recipe_digest",
    "recipe_path_of",
    "save_shift",
    "single_file_contents",
    "sort_single_file",
    "unet_dtype",
    "write_base",
]
