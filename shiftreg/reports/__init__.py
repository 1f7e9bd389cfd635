"""Pictures that people look at."""

from shiftreg.reports.grid import GridRow, picture_grid, save_picture

__all__ = ["GridRow", "picture_grid", "save_picture"]
