"""The use cases: what the command line and a notebook call.

Each is imported when it is first asked for, so that `shiftreg list` does not wait for torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from shiftreg.lazy import lazy_names

if TYPE_CHECKING:
    from shiftreg.api.attacks.attack import attack as attack
    from shiftreg.api.attacks.plan import plan_attack as plan_attack
    from shiftreg.api.bases import convert_base as convert_base
    from shiftreg.api.bases import register_base as register_base
    from shiftreg.api.composition.adapter import AdapterPlan as AdapterPlan
    from shiftreg.api.composition.adapter import AdapterResult as AdapterResult
    from shiftreg.api.composition.adapter import export_adapter as export_adapter
    from shiftreg.api.composition.adapter import plan_adapter as plan_adapter
    from shiftreg.api.composition.compose import composition_weights as composition_weights
    from shiftreg.api.composition.compose import plan_composition as plan_composition
    from shiftreg.api.composition.export import export_composition as export_composition
    from shiftreg.api.composition.verify import verify as verify
    from shiftreg.api.deletion import Deletion as Deletion
    from shiftreg.api.deletion import delete as delete
    from shiftreg.api.deletion import plan_deletion as plan_deletion
    from shiftreg.api.doctor.examine import examine_registry as examine_registry
    from shiftreg.api.engine_choice import EngineName as EngineName
    from shiftreg.api.engine_choice import choose_engine as choose_engine
    from shiftreg.api.erasure.capacity import plan_capacity as plan_capacity
    from shiftreg.api.erasure.decouple import decouple as decouple
    from shiftreg.api.erasure.erase import erase as erase
    from shiftreg.api.erasure.erase import refresh as refresh
    from shiftreg.api.erasure.foreign import import_shift as import_shift
    from shiftreg.api.erasure.foreign import read_import as read_import
    from shiftreg.api.erasure.plan import plan_erasures as plan_erasures
    from shiftreg.api.evaluation.classify import imagenet_classifier as imagenet_classifier
    from shiftreg.api.evaluation.classify import test_classifier as test_classifier
    from shiftreg.api.evaluation.classify import train_classifier as train_classifier
    from shiftreg.api.evaluation.evaluate import evaluate as evaluate
    from shiftreg.api.front_end import to_json as to_json
    from shiftreg.api.front_end import ui_command as ui_command
    from shiftreg.api.generation.generate import generate_images as generate_images
    from shiftreg.api.generation.generate import plan_generation as plan_generation
    from shiftreg.api.generation.grid import generate_grid as generate_grid
    from shiftreg.api.generation.grid import generate_samples as generate_samples
    from shiftreg.api.generation.job import GenerationSettings as GenerationSettings
    from shiftreg.api.inspection.inspect import inspect_file as inspect_file
    from shiftreg.api.measurement.measure import measure_folders as measure_folders
    from shiftreg.api.opening import open_workspace as open_workspace
    from shiftreg.api.release.policy import policy_standing as policy_standing
    from shiftreg.api.release.signature import check_signature as check_signature
    from shiftreg.api.release.values import ReleaseRefusedError as ReleaseRefusedError
    from shiftreg.api.release.values import ReleaseRequest as ReleaseRequest
    from shiftreg.api.release.values import UntrustedFileError as UntrustedFileError
    from shiftreg.api.report.report import write_report as write_report
    from shiftreg.api.selection import Selection as Selection
    from shiftreg.api.states import list_concepts as list_concepts
    from shiftreg.api.states import plan_refresh as plan_refresh
    from shiftreg.api.states import restore as restore
    from shiftreg.api.states import show_concept as show_concept
    from shiftreg.api.trail.events import events_csv as events_csv
    from shiftreg.api.trail.events import list_events as list_events
    from shiftreg.api.trail.events import verify_trail as verify_trail
    from shiftreg.api.trail.events import write_checkpoint as write_checkpoint
    from shiftreg.api.trail.evidence import write_evidence as write_evidence
    from shiftreg.api.trail.exports import exports_of as exports_of
    from shiftreg.api.values import CompositionPlan as CompositionPlan
    from shiftreg.api.workspace import Workspace as Workspace
    from shiftreg.audit import AuditEvent as AuditEvent
    from shiftreg.audit import AuditReport as AuditReport
    from shiftreg.audit import Checkpoint as Checkpoint
    from shiftreg.engines import Engine as Engine
    from shiftreg.evaluation.scenes import read_scene as read_scene
    from shiftreg.plugins import AttackMethod as AttackMethod
    from shiftreg.plugins import Method as Method
    from shiftreg.plugins import list_attacks as list_attacks
    from shiftreg.plugins import list_methods as list_methods
    from shiftreg.registry import BaseRecord as BaseRecord
else:
    __getattr__, __dir__ = lazy_names(__name__, __file__)
