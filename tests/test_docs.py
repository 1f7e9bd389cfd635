"""Documents lead somewhere: every relative link names a file, and every anchor a heading."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted(
    path.relative_to(ROOT)
    for pattern in ("*.md", "docs/**/*.md", "examples/**/*.md", "shiftreg/**/*.md")
    for path in ROOT.glob(pattern)
)
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
FENCE = re.compile(r"^(```|~~~).*?^\1", flags=re.MULTILINE | re.DOTALL)


def anchors(document: Path) -> set[str]:
    """The addresses that GitHub gives to a document's headings."""
    text = FENCE.sub("", document.read_text(encoding="utf-8"))
    titles = re.findall(r"^#+ (.+?)\s*$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_links_lead_to_files_and_headings_that_exist(document: Path) -> None:
    text = FENCE.sub("", (ROOT / document).read_text(encoding="utf-8"))
    dead = []
    for link in LINK.findall(text):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = (ROOT / document.parent / name).resolve() if name else ROOT / document
        if not target.exists() or (anchor and anchor not in anchors(target)):
            dead.append(link)
    assert dead == []


def test_every_document_can_be_reached_from_the_readme() -> None:
    reached, waiting = set(), [ROOT / "README.md"]
    while waiting:
        document = waiting.pop()
        if document in reached or document.suffix != ".md" or not document.is_file():
            continue
        reached.add(document)
        text = document.read_text(encoding="utf-8")
        links = (link.partition("#")[0] for link in LINK.findall(text))
        waiting += [(document.parent / link).resolve() for link in links if link]
    pages = {ROOT / document for document in DOCUMENTS if document.parts[0] == "docs"}
    assert {path.name for path in pages - reached} == set()


def test_files_that_documents_name_as_code_exist() -> None:
    """Paths in backticks below docs/, tests/ and benchmarks/, such as a test that holds a claim."""
    listing = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listing.returncode != 0:
        pytest.skip("not a git checkout")
    path = re.compile(r"`(?:python (?:-m pytest )?)?((?:docs|tests|benchmarks)/[\w./-]+)")
    named = {
        (document, name)
        for document in DOCUMENTS
        for name in path.findall((ROOT / document).read_text(encoding="utf-8"))
    }
    assert {(str(d), name) for d, name in named if not (ROOT / name).exists()} == set()
