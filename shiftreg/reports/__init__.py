"""What people look at: grids of pictures, curves, and the page about a composition."""

from shiftreg.reports.attacked import AttackPart, read_attack
from shiftreg.reports.card import CardShift, ModelCard, render_card
from shiftreg.reports.curves import Panel, save_curves
from shiftreg.reports.drawing import Curve, Picture, curve, picture
from shiftreg.reports.evaluated import EvaluationPart, read_evaluation
from shiftreg.reports.evidence import (
    ErasurePart,
    EvidenceEvent,
    EvidencePage,
    ReleaseLine,
    VerificationLine,
    render_evidence,
)
from shiftreg.reports.grid import GridRow, picture_grid, save_picture
from shiftreg.reports.page import (
    ConceptLine,
    EventLine,
    ExportLine,
    Note,
    PictureGroup,
    PictureRow,
    ReportPage,
    ShiftPart,
    render_page,
)

__all__ = [
    "AttackPart",
    "CardShift",
    "ConceptLine",
    "Curve",
    "ErasurePart",
    "EvaluationPart",
    "EventLine",
    "EvidenceEvent",
    "EvidencePage",
    "ExportLine",
    "GridRow",
    "ModelCard",
    "Note",
    "Panel",
    "Picture",
    "PictureGroup",
    "PictureRow",
    "ReleaseLine",
    "ReportPage",
    "ShiftPart",
    "VerificationLine",
    "curve",
    "picture",
    "picture_grid",
    "read_attack",
    "read_evaluation",
    "render_card",
    "render_evidence",
    "render_page",
    "save_curves",
    "save_picture",
]
