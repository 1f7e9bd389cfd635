"""Lists the licences of everything that shiftreg and its extras need, as docs/licences.md.

    python docs/licences.py > docs/licences.md

Of the packages that are installed here: versions and what they need differ between machines.
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PROJECT = Path(__file__).parents[1] / "pyproject.toml"
PAGE = Path(__file__).with_name("licences.md")
ALLOWED = {
    "Apache-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "CNRI-Python",
    "HPND",
    "ISC",
    "MIT",
    "MIT-0",
    "MIT-CMU",
    "MPL-2.0",
    "PSF-2.0",
    "Unlicense",
    "Zlib",
    "0BSD",
}
"""Licences, as SPDX names them, under which a package may be needed by all who install shiftreg."""

WORDS = (
    ("Apache", "Apache-2.0"),
    ("BSD-2|2-Clause", "BSD-2-Clause"),
    ("BSD", "BSD-3-Clause"),
    ("Mozilla|MPL", "MPL-2.0"),
    ("Python Software Foundation|PSF", "PSF-2.0"),
    ("ISC", "ISC"),
    ("HPND|Historical", "HPND"),
    ("MIT", "MIT"),
    ("Unlicense|Public Domain", "Unlicense"),
)
"""What older packages say instead of an SPDX name."""

EXTRAS = ("metrics", "nudity", "ray", "release", "miniature")
"""What users may add; dev is for whoever works on shiftreg."""

ASKED_FOR = {"nudenet": "AGPL-3.0"}
"""Packages of extras under other licences, and those: who asks for the extra accepts it."""

READ = {"huey": "MIT", "nudenet": "AGPL-3.0", "sigstore-models": "MIT", "skops": "MIT"}
"""Packages whose metadata says nothing, or not what their licence file says, which was read."""

OF_BUILDS = re.compile("nvidia-|cuda-|triton")
"""What some builds of torch need for a graphics card: under NVIDIA's own terms."""

HEAD = """\
# Licences of what is installed with shiftreg

All packages that `pip install shiftreg` brings, and at the end what its extras add, with what each
says of its licence. Written by `python docs/licences.py > docs/licences.md`; a test fails where a
dependency is missing here or a licence is not one of the permissive ones that the script names. The
exception is of an extra: `nudity` brings a package under the AGPL (`nudenet`), which is imported
where it is asked for and never bundled. Builds of torch for NVIDIA's graphics cards bring CUDA's
libraries, under NVIDIA's own terms; they are not listed.

"""

TABLE = """\
| package | licence | needed by |
| --- | --- | --- |
"""


def direct() -> list[str]:
    """Names of the dependencies that pyproject.toml declares."""
    return [canonicalize_name(Requirement(line).name) for line in _project()["dependencies"]]


def extra(name: str) -> list[str]:
    """Names of the dependencies that pyproject.toml declares for an extra."""
    lines = _project()["optional-dependencies"][name]
    return [canonicalize_name(Requirement(line).name) for line in lines]


def needed() -> dict[str, set[str]]:
    """All that is needed -> what needs it, as far as it is installed here."""
    return _reached((name, "shiftreg") for name in direct())


def added() -> dict[str, set[str]]:
    """All that the extras need beyond that -> what needs it; an extra is "shiftreg[NAME]"."""
    found = _reached((name, f"shiftreg[{word}]") for word in EXTRAS for name in extra(word))
    without = needed()
    return {name: parents for name, parents in found.items() if name not in without}


def _project() -> dict[str, Any]:
    project: dict[str, Any] = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]
    return project


def _reached(roots: Iterable[tuple[str, str]]) -> dict[str, set[str]]:
    """All that packages need, each with what needs it, as far as it is installed here."""
    found: dict[str, set[str]] = {}
    waiting = list(roots)
    while waiting:
        name, parent = waiting.pop()
        is_new = name not in found
        found.setdefault(name, set()).add(parent)
        if is_new:
            waiting += [(child, name) for child in _requirements(name)]
    return {
        name: parents
        for name, parents in found.items()
        if _installed(name) and not OF_BUILDS.match(name)
    }


def licence(name: str) -> str:
    """What a package says of its licence, as an SPDX expression where that can be told."""
    if name in READ:
        return READ[name]
    package = _installed(name)
    assert package
    words = package.metadata
    if expression := words.get("License-Expression"):
        return str(expression)
    classifiers = [
        line.rpartition(" :: ")[2]
        for line in words.get_all("Classifier") or ()
        if line.startswith("License ::") and not line.endswith("OSI Approved")
    ]
    said = "; ".join(classifiers) or str(words.get("License") or "").strip()
    if is_allowed(said) or re.search("GPL|General Public| AND | OR ", said):
        return said[:60]
    return next((spdx for sign, spdx in WORDS if re.search(sign, said[:200])), said[:60])


def is_allowed(expression: str) -> bool:
    """Whether every part of an expression, or one of its alternatives, is an allowed licence."""
    plain = re.sub(r"[()]|WITH [\w.-]+", "", expression)
    return any(
        all(part.strip() in ALLOWED for part in alternative.split(" AND "))
        for alternative in plain.split(" OR ")
    )


def page() -> str:
    """The page."""
    extras = "\n## What the extras add\n\n"
    return HEAD + TABLE + _rows(needed()) + extras + TABLE + _rows(added())


def _rows(packages: Mapping[str, set[str]]) -> str:
    return "".join(
        f"| {name} | {licence(name)} | {', '.join(sorted(parents))} |\n"
        for name, parents in sorted(packages.items())
    )


def _installed(name: str) -> Distribution | None:
    try:
        return distribution(name)
    except PackageNotFoundError:
        return None


def _requirements(name: str) -> Iterator[str]:
    package = _installed(name)
    for line in package.requires or () if package else ():
        requirement = Requirement(line)
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            yield canonicalize_name(requirement.name)


if __name__ == "__main__":
    sys.stdout.write(page())
