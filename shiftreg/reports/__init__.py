"""What people look at: grids of images, curves, and the page about a composition."""

from shiftreg.reports.card import ModelCard, render_card
from shiftreg.reports.drawing import (
    Curve,
    EmbeddedImage,
    GridRow,
    Panel,
    curve,
    embed_image,
    image_grid,
    save_curves,
    save_image,
)
from shiftreg.reports.page import (
    ConceptLine,
    ImageGroup,
    ImageRow,
    Note,
    ReportPage,
    ShiftPart,
    render_evidence,
    render_page,
)
from shiftreg.reports.stored import read_report
