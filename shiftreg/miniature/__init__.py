"""The embedded base: a miniature Stable Diffusion on procedural images, with its classifiers.

The artists' names stand for procedural manners, not for the artists' work.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

NAME = "miniature"
FOLDER = Path(__file__).parent
BASE_FOLDER = FOLDER / "base"
STYLE_CLASSIFIER = FOLDER / "classifiers" / "styles.safetensors"
SUBJECT_CLASSIFIER = FOLDER / "classifiers" / "subjects.safetensors"


def prompts() -> dict[str, Any]:
    """What the base is registered with: triggers, names, subjects, templates, defaults."""
    text = (FOLDER / "prompts.json").read_text(encoding="utf-8")
    loaded: dict[str, Any] = json.loads(text)
    return loaded
