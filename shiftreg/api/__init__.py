"""The use cases: what the command line and a notebook call."""

from shiftreg.api.attacks.attacking import attack
from shiftreg.api.attacks.methods import list_attacks
from shiftreg.api.attacks.planning import plan_attack
from shiftreg.api.composition.composing import plan_composition
from shiftreg.api.composition.exporting import export_composition
from shiftreg.api.composition.samples import generate_grid
from shiftreg.api.composition.verifying import verify
from shiftreg.api.erasure.capacity import plan_capacity
from shiftreg.api.erasure.decoupling import decouple
from shiftreg.api.erasure.erasing import erase, refresh
from shiftreg.api.erasure.importing import import_shift, read_import
from shiftreg.api.erasure.methods import list_methods
from shiftreg.api.erasure.planning import plan_erasures
from shiftreg.api.evaluation.classifying import (
    imagenet_classifier,
    test_classifier,
    train_classifier,
)
from shiftreg.api.evaluation.evaluating import evaluate
from shiftreg.api.front_end import to_json, ui_command
from shiftreg.api.inspection.inspecting import inspect_file
from shiftreg.api.measurement.measuring import measure_folders
from shiftreg.api.painting.painting import paint_prompts, plan_painting
from shiftreg.api.report.reporting import write_report
from shiftreg.api.states import list_concepts, plan_refresh, restore, show_concept
from shiftreg.api.values import CompositionPlan
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
