"""Packages whose names are imported when they are first asked for.

Type checkers read the imports under ``TYPE_CHECKING``; here they are the table of where a name
comes from.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any


def lazy_names(package: str, file: str) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """What a package needs as its ``__getattr__`` and ``__dir__``.

    Args:
        package: Its ``__name__``.
        file: Its ``__file__``, which has a line ``from module import name as name`` for each name.
    """
    homes = {
        alias.asname: (node.module, alias.name)
        for node in ast.walk(ast.parse(Path(file).read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and node.module
        for alias in node.names
        if alias.asname
    }

    def load(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module, own_name = homes[name]
        return getattr(import_module(module), own_name)

    return load, lambda: sorted(homes)
