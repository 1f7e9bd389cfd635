"""The use cases: what the command line and a notebook call."""

from shiftreg.api.capacity import plan_capacity
from shiftreg.api.composing import export_composition, plan_composition
from shiftreg.api.decoupling import decouple
from shiftreg.api.erasing import erase, refresh
from shiftreg.api.front_end import to_json, ui_command
from shiftreg.api.importing import import_shift, read_import
from shiftreg.api.methods import list_methods
from shiftreg.api.planning import plan_erasures
from shiftreg.api.samples import generate_grid
from shiftreg.api.states import list_concepts, plan_refresh, restore, show_concept
from shiftreg.api.values import CompositionPlan
from shiftreg.api.verifying import verify
from shiftreg.api.workspace import Workspace, open_workspace, register_base
from shiftreg.registry import BaseRecord

__all__ = [
    "BaseRecord",
    "CompositionPlan",
    "Workspace",
    "decouple",
    "erase",
    "export_composition",
    "generate_grid",
    "import_shift",
    "list_concepts",
    "list_methods",
    "open_workspace",
    "plan_capacity",
    "plan_composition",
    "plan_erasures",
    "plan_refresh",
    "read_import",
    "refresh",
    "register_base",
    "restore",
    "show_concept",
    "to_json",
    "ui_command",
    "verify",
]
