"""The api's names: each is imported when it is first asked for."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from shiftreg import api


def declared() -> dict[str, str]:
    """What type checkers read: name -> module."""
    tree = ast.parse(Path(api.__file__).read_text(encoding="utf-8"))
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    imports = [node for node in block.body if isinstance(node, ast.ImportFrom)]
    return {alias.name: str(node.module) for node in imports for alias in node.names}


def test_every_name_can_be_imported_and_is_listed() -> None:
    for name in declared():
        assert callable(getattr(api, name))
    assert set(declared()) <= set(dir(api))


def test_another_name_is_refused_as_of_any_module() -> None:
    with pytest.raises(AttributeError, match="no attribute 'eraze'"):
        api.eraze  # noqa: B018


def test_a_name_brings_no_more_than_it_needs() -> None:
    code = "import sys; from shiftreg.api import list_concepts; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
