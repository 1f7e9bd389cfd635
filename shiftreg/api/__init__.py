"""The use cases: what the command line and a notebook call."""

from shiftreg.api.attack_methods import list_attacks
from shiftreg.api.attack_planning import plan_attack
from shiftreg.api.attacking import attack
from shiftreg.api.capacity import plan_capacity
from shiftreg.api.classifying import imagenet_classifier, test_classifier, train_classifier
from shiftreg.api.composing import export_composition, plan_composition
from shiftreg.api.decoupling import decouple
from shiftreg.api.erasing import erase, refresh
from shiftreg.api.evaluating import evaluate
from shiftreg.api.front_end import to_json, ui_command
from shiftreg.api.importing import import_shift, read_import
from shiftreg.api.inspecting import inspect_file
from shiftreg.api.measuring import measure_folders
from shiftreg.api.methods import list_methods
from shiftreg.api.painting import paint_prompts, plan_painting
from shiftreg.api.planning import plan_erasures
from shiftreg.api.reporting import write_report
from shiftreg.api.samples import generate_grid
from shiftreg.api.states import list_concepts, plan_refresh, restore, show_concept
from shiftreg.api.values import CompositionPlan
from shiftreg.api.verifying import verify
from shiftreg.api.workspace import Workspace, open_workspace, register_base
from shiftreg.evaluation.scenes import read_scene
from shiftreg.registry import BaseRecord

__all__ = [
    "BaseRecord",
    "CompositionPlan",
    "Workspace",
    "attack",
    "decouple",
    "erase",
    "evaluate",
    "export_composition",
    "generate_grid",
    "imagenet_classifier",
    "import_shift",
    "inspect_file",
    "list_attacks",
    "list_concepts",
    "list_methods",
    "measure_folders",
    "open_workspace",
    "paint_prompts",
    "plan_attack",
    "plan_capacity",
    "plan_composition",
    "plan_erasures",
    "plan_painting",
    "plan_refresh",
    "read_import",
    "read_scene",
    "refresh",
    "register_base",
    "restore",
    "show_concept",
    "test_classifier",
    "to_json",
    "train_classifier",
    "ui_command",
    "verify",
    "write_report",
]
