"""Pictures that people look at."""

from shiftreg.reports.curves import Panel, save_curves
from shiftreg.reports.grid import GridRow, picture_grid, save_picture

__all__ = ["GridRow", "Panel", "picture_grid", "save_curves", "save_picture"]
