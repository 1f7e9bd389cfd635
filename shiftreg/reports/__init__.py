"""What people look at: grids of images, curves, and the page about a composition."""

from shiftreg.reports.attacked import AttackPart, read_attack
from shiftreg.reports.card import CardShift, ModelCard, render_card
from shiftreg.reports.curves import Panel, save_curves
from shiftreg.reports.drawing import Curve, EmbeddedImage, curve, embed_image
from shiftreg.reports.evaluated import EvaluationPart, read_evaluation
from shiftreg.reports.grid import GridRow, image_grid, save_image
from shiftreg.reports.page import (
    ConceptLine,
    EventLine,
    ExportLine,
    ImageGroup,
    ImageRow,
    Note,
    ReportPage,
    ShiftPart,
    render_evidence,
    render_page,
)

__all__ = [
    "AttackPart",
    "CardShift",
    "ConceptLine",
    "Curve",
    "EmbeddedImage",
    "EvaluationPart",
    "EventLine",
    "ExportLine",
    "GridRow",
    "ImageGroup",
    "ImageRow",
    "ModelCard",
    "Note",
    "Panel",
    "ReportPage",
    "ShiftPart",
    "curve",
    "embed_image",
    "image_grid",
    "read_attack",
    "read_evaluation",
    "render_card",
    "render_evidence",
    "render_page",
    "save_curves",
    "save_image",
]
