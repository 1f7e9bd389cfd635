"""Attacks: can an erased concept be made to appear again? One method a file.

What they find is painted and judged by ``api.attacking``.
"""

from shiftreg.attacks.base import Attack, Found, PromptModel, Start, Surface

__all__ = ["Attack", "Found", "PromptModel", "Start", "Surface"]
