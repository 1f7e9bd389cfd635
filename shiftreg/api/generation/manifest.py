"""``generate.json``: which job a folder of images belongs to, and whether another is the same."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from shiftreg.errors import IntegrityError

FORMAT = "shiftreg-generate-1"
NAME = "generate.json"
LIBRARIES = ("torch", "diffusers", "transformers")
"""Those that decide what an image looks like, down to rounding."""


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a folder that was generated to.

    Raises:
        IntegrityError: It is damaged, or written by another version.
    """
    path = folder / NAME
    damaged = IntegrityError(
        f"'{path}' is damaged or of another version, so that nobody knows what was generated "
        "there. Choose another folder."
    )
    try:
        manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        entries = [(entry["digest"], *entry["tools"].items()) for entry in _entries(manifest)]
        strings = [*_job(manifest).values(), *(digest for digest, *_ in entries)]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise damaged from error
    # Files below these folders may be removed one day: never outside.
    outside = any(n in ("", ".", "..") or Path(n).name != n for n in manifest["folders"])
    if manifest.get("format") != FORMAT or outside or not all(isinstance(s, str) for s in strings):
        raise damaged
    return manifest


def differences(there: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """Why the images of two manifests do not belong together, in words; a folder more is none."""
    before, now = _job(there), _job(wanted)
    found = [
        f"{key} {before[key][:12]} there, and {now[key][:12]} asked for"
        for key in now
        if before[key] != now[key]
    ]
    for name, entry in wanted["folders"].items():
        old = there["folders"].get(name, entry)
        if old["digest"] != entry["digest"]:
            found.append(
                f"'{entry['composition']}' was composition {old['digest'][:12]} there, and is "
                f"{entry['digest'][:12]} by now"
            )
    return found


def other_tools(there: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """Sentences about libraries that have changed since images were generated."""
    now = next(_entries(wanted))["tools"]
    changed = {
        f"{library} {entry['tools'].get(library)}, and this is {now[library]}"
        for entry in _entries(there)
        for library in LIBRARIES
        if entry["tools"].get(library) != now[library]
    }
    return [
        f"Images there were generated with {change}: new ones may differ from them by rounding."
        for change in sorted(changed)
    ]


def _entries(manifest: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """What is noted about each folder of images."""
    yield from manifest["folders"].values()


def _job(manifest: Mapping[str, Any]) -> dict[str, str]:
    """What must be the same for images to belong together, by its name in words."""
    return {
        "base": manifest["base"]["digest"],
        "prompts": manifest["prompts"]["digest"],
        "steps": str(manifest["steps"]),
        "guidance": str(manifest["guidance"]),
        "images a case": str(manifest["count"]),
        "folders by prompt": "yes" if manifest["by_prompt"] else "no",
    }
