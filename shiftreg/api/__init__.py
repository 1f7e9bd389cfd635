"""The use cases: what the command line and a notebook call."""

from shiftreg.api.composing import export_composition, plan_composition
from shiftreg.api.erasing import erase, plan_refresh, refresh
from shiftreg.api.front_end import to_json, ui_command
from shiftreg.api.planning import eraser_names, eraser_options, plan_erasures
from shiftreg.api.samples import generate_grid
from shiftreg.api.states import list_concepts, restore, show_concept
from shiftreg.api.values import CompositionPlan
from shiftreg.api.verifying import verify
from shiftreg.api.workspace import Workspace, open_workspace, register_base
from shiftreg.registry import BaseRecord

__all__ = [
    "BaseRecord",
    "CompositionPlan",
    "Workspace",
    "erase",
    "eraser_names",
    "eraser_options",
    "export_composition",
    "generate_grid",
    "list_concepts",
    "open_workspace",
    "plan_composition",
    "plan_erasures",
    "plan_refresh",
    "refresh",
    "register_base",
    "restore",
    "show_concept",
    "to_json",
    "ui_command",
    "verify",
]
