"""Files in, files out: shifts, checkpoints of every common form, digests, atomic writing."""

from __future__ import annotations

from shiftreg.checkpoints.adapter_export import (
    ADAPTER_FORMS,
    AdapterForm,
    AdapterNames,
    check_adapter_name,
    compare_adapter,
    write_adapter,
)
from shiftreg.checkpoints.atomic import atomic_file, atomic_folder, placed_together
from shiftreg.checkpoints.base_folder import (
    check_base_weights,
    network_folder,
    parameter_reader,
    read_component,
    unet_dtype,
)
from shiftreg.checkpoints.comparison import (
    Comparison,
    compare_checkpoint,
    read_recipe_digest,
)
from shiftreg.checkpoints.conversion import (
    is_single_file,
    read_origin,
    single_file_contents,
    sort_single_file,
    write_base,
)
from shiftreg.checkpoints.export import (
    Export,
    card_path_of,
    check_export_target,
    checkpoint_digest,
    export_checkpoint,
    export_format,
    recipe_digest,
    recipe_path_of,
    write_checkpoint,
)
from shiftreg.checkpoints.files import file_digest, folder_digest, make_folder, storage_errors
from shiftreg.checkpoints.foreign import change_of_base, read_foreign
from shiftreg.checkpoints.foreign_files import ForeignFile, read_foreign_file
from shiftreg.checkpoints.model_spec import (
    COMPVIS,
    DIFFUSERS,
    ModelFacts,
    export_metadata,
    export_title,
    hub_name,
    joined,
    kohya_metadata,
    model_facts,
    state_sentences,
)
from shiftreg.checkpoints.shift_file import load_shift, save_shift
from shiftreg.checkpoints.torch_file import load_pickle_checkpoint
from shiftreg.checkpoints.unfinished import Unfinished
from shiftreg.checkpoints.weight_change import StatedBase, WeightChange
