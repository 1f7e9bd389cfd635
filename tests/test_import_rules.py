"""The rules of who may import whom, held by reading every module's syntax tree."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = {"shiftreg": ROOT / "shiftreg", "shiftreg_cli": ROOT / "cli"}

MATHS = (
    "shiftreg.adapters",
    "shiftreg.subspace",
    "shiftreg.shift",
    "shiftreg.compose",
    "shiftreg.concepts",
    "shiftreg.erasers",
    "shiftreg.inspection",
    "shiftreg.least_squares",
    "shiftreg.rounding",
)
API_ORDER = (
    "values",
    "front_end",
    "loaded_base",
    "workspace",
    "changes",
    "selection",
    "engine_choice",
    "trail",
    "recovery",
    "bases",
    "opening",
    "erasure.methods",
    "states",
    "deletion",
    "composition.half_precision",
    "composition.compose",
    "generation",
    "erasure",
    "evaluation.classifiers",
    "release",
    "composition",
    "inspection",
    "evaluation",
    "measurement",
    "attacks",
    "report",
    "doctor",
)
"""The api from bottom to top: each room knows those before it. A part of one may stand apart."""
UPWARDS = {
    # A release is refused or withdrawn by what a verification of the written file says.
    ("shiftreg.api.release.release", "shiftreg.api.composition.verify"),
}
"""The only imports that run back up."""
STANDARD_LIBRARY = tuple(sys.stdlib_module_names)
EVERYTHING = ("",)


@dataclass(frozen=True)
class Module:
    """A module's dotted name and source."""

    name: str
    source: str
    is_package: bool = False


@dataclass(frozen=True)
class Rule:
    """What the modules ``inside`` (and not ``outside``) must not import, unless ``allowed``."""

    name: str
    inside: tuple[str, ...]
    forbidden: tuple[str, ...]
    allowed: tuple[str, ...] = ()
    outside: tuple[str, ...] = ()

    def holds_for(self, module: Module) -> bool:
        return within(module.name, self.inside) and not within(module.name, self.outside)

    def violations(self, module: Module) -> list[str]:
        return [
            f"{module.name}:{line} imports {target}"
            for target, line in imports(module)
            if within(target, self.forbidden) and not within(target, self.allowed)
        ]


RULES = (
    Rule(
        "mathematics needs torch and nothing else",
        inside=MATHS,
        forbidden=EVERYTHING,
        allowed=(
            *STANDARD_LIBRARY,
            "torch",
            *MATHS,
            "shiftreg.attacks",
            "shiftreg.errors",
            "shiftreg.canonical",
        ),
    ),
    Rule(
        "attacks are mathematics, too",
        inside=("shiftreg.attacks",),
        forbidden=EVERYTHING,
        allowed=(
            *STANDARD_LIBRARY,
            "torch",
            *MATHS,
            "shiftreg.attacks",
            "shiftreg.errors",
            "shiftreg.evaluation.intervals",
        ),
    ),
    Rule(
        "pipelines know neither registry nor checkpoints",
        inside=("shiftreg.pipelines",),
        forbidden=("shiftreg.registry", "shiftreg.checkpoints"),
    ),
    Rule(
        "the registry knows neither pipelines nor checkpoints",
        inside=("shiftreg.registry",),
        forbidden=("shiftreg.pipelines", "shiftreg.checkpoints"),
    ),
    Rule(
        "checkpoints know neither pipelines nor registry",
        inside=("shiftreg.checkpoints",),
        forbidden=("shiftreg.pipelines", "shiftreg.registry"),
    ),
    Rule(
        "what is known of families needs no library",
        inside=("shiftreg.families",),
        forbidden=EVERYTHING,
        allowed=(*STANDARD_LIBRARY, "shiftreg.errors"),
    ),
    Rule(
        "only pipelines know diffusers and transformers",
        inside=("shiftreg",),
        outside=("shiftreg.pipelines",),
        forbidden=("diffusers", "transformers"),
    ),
    Rule(
        "only the registry knows MLflow",
        inside=("shiftreg",),
        outside=("shiftreg.registry",),
        forbidden=("mlflow",),
    ),
    Rule(
        "engines know nothing of what they do",
        inside=("shiftreg.engines",),
        forbidden=EVERYTHING,
        allowed=(*STANDARD_LIBRARY, "ray", "shiftreg.engines", "shiftreg.errors"),
    ),
    Rule(
        "the library knows no terminal",
        inside=("shiftreg",),
        forbidden=("typer", "rich", "shiftreg_cli"),
    ),
    Rule(
        "nothing below the api imports it",
        inside=("shiftreg",),
        outside=("shiftreg.api",),
        forbidden=("shiftreg.api",),
    ),
    Rule(
        "the command line calls the api alone",
        inside=("shiftreg_cli",),
        forbidden=("shiftreg",),
        allowed=(
            "shiftreg.api",
            "shiftreg.concepts",
            "shiftreg.errors",
            "shiftreg.settings",
            "shiftreg.__version__",
        ),
    ),
    Rule(
        "the command line needs no heavy library",
        inside=("shiftreg_cli",),
        forbidden=("torch", "torchvision", "mlflow", "diffusers", "transformers", "lpips"),
    ),
)


def within(name: str, prefixes: tuple[str, ...]) -> bool:
    """Whether a dotted name is one of ``prefixes``, or lies below one; all lie below ""."""
    return any(not prefix or name == prefix or name.startswith(f"{prefix}.") for prefix in prefixes)


def modules() -> Iterator[Module]:
    for package, folder in PACKAGES.items():
        for path in sorted(folder.rglob("*.py")):
            parts = (package, *path.relative_to(folder).with_suffix("").parts)
            is_package = parts[-1] == "__init__"
            name = ".".join(parts[:-1] if is_package else parts)
            yield Module(name, path.read_text(encoding="utf-8"), is_package)


def imports(module: Module) -> Iterator[tuple[str, int]]:
    """Absolute names of all that a module imports, at its top or inside, with the line."""
    yield from imports_below(ast.parse(module.source), module)


def imports_below(tree: ast.AST, module: Module) -> Iterator[tuple[str, int]]:
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                yield from ((alias.name, node.lineno) for alias in names)
            case ast.ImportFrom(names=names):
                source = absolute_source(node, module)
                yield from ((f"{source}.{alias.name}", node.lineno) for alias in names)
            case ast.Call(
                func=ast.Name("__import__" | "import_module") | ast.Attribute(attr="import_module"),
                args=[ast.Constant(value=str(name)), *_],
            ):
                yield name, node.lineno


def absolute_source(node: ast.ImportFrom, module: Module) -> str:
    """Where ``from ... import`` takes from; a dot is the package that holds the module."""
    if not node.level:
        return node.module or ""
    above = module.name.split(".")
    above = above[: len(above) - node.level + module.is_package]
    return ".".join([*above, *([node.module] if node.module else [])])


def imported_modules(module: Module, names: frozenset[str]) -> set[str]:
    """The modules of ours that a module imports, under whatever condition and wherever."""
    found = set()
    for target, _ in imports(module):  # a module, or what is taken from one
        found |= {target if target in names else target.rpartition(".")[0]} & names
    return found - {module.name}


def rank(name: str) -> int:
    """Place of a module in ``API_ORDER``; that of the longest name that it lies below."""
    holders = [room for room in API_ORDER if within(name, (f"shiftreg.api.{room}",))]
    assert holders, f"{name} has no place in API_ORDER"
    return API_ORDER.index(max(holders, key=len))


def circle_of(graph: dict[str, set[str]]) -> list[str]:
    """A circle of modules that import each other, or none."""
    done: set[str] = set()

    def search(name: str, path: list[str]) -> list[str]:
        if name in path:
            return [*path[path.index(name) :], name]
        if name not in done:
            for target in sorted(graph.get(name, ())):
                if circle := search(target, [*path, name]):
                    return circle
            done.add(name)
        return []

    return next((circle for name in sorted(graph) if (circle := search(name, []))), [])


def printing_lines(module: Module) -> list[str]:
    return [
        f"{module.name}:{node.lineno} prints"
        for node in ast.walk(ast.parse(module.source))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "print"
    ]


def api_imports_at_start(module: Module) -> list[str]:
    """Imports from the api that run when the module is imported; the api itself is lazy."""
    found = []
    pending: list[ast.AST] = [ast.parse(module.source)]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Import | ast.ImportFrom):
            found += [
                f"{module.name}:{line} imports {target} at its top"
                for target, line in imports_below(node, module)
                if within(target, ("shiftreg.api",)) and target != "shiftreg.api"
            ]
        elif isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            pending += node.orelse
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            pending += ast.iter_child_nodes(node)
    return found


ALL_MODULES = tuple(modules())


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_imports_keep_the_rule(rule: Rule) -> None:
    held = [module for module in ALL_MODULES if rule.holds_for(module)]
    assert [line for module in held for line in rule.violations(module)] == []


@pytest.mark.parametrize("name", sorted({name for rule in RULES for name in rule.inside}))
def test_a_rule_speaks_of_a_room_that_exists(name: str) -> None:
    assert any(within(module.name, (name,)) for module in ALL_MODULES)


def test_nothing_in_the_library_prints() -> None:
    library = [module for module in ALL_MODULES if within(module.name, ("shiftreg",))]
    assert [line for module in library for line in printing_lines(module)] == []


def test_the_command_line_starts_with_nothing_of_the_api() -> None:
    commands = [module for module in ALL_MODULES if within(module.name, ("shiftreg_cli",))]
    assert [line for module in commands for line in api_imports_at_start(module)] == []


def test_no_modules_import_each_other_in_a_circle() -> None:
    names = frozenset(module.name for module in ALL_MODULES)
    graph = {m.name: imported_modules(m, names) for m in ALL_MODULES}
    assert circle_of(graph) == []


def test_the_api_is_built_from_bottom_to_top() -> None:
    names = frozenset(module.name for module in ALL_MODULES)
    held = [m for m in ALL_MODULES if m.name.startswith("shiftreg.api.") and not m.is_package]
    upwards = {
        (module.name, target)
        for module in held
        for target in imported_modules(module, names)
        if target.startswith("shiftreg.api.") and rank(target) > rank(module.name)
    }
    assert upwards == UPWARDS
    assert len(UPWARDS) <= 3


BROKEN_RULES = {
    "mathematics needs torch and nothing else": [
        ("shiftreg.shift", "import numpy as np"),
        ("shiftreg.erasers.closed_form", "from safetensors.torch import save"),
        ("shiftreg.compose", "def f():\n    from shiftreg.registry import store"),
        ("shiftreg.compose", "from . import pipelines"),
    ],
    "attacks are mathematics, too": [
        ("shiftreg.attacks.probes", "from shiftreg.pipelines import generate"),
        ("shiftreg.attacks.base", "import numpy"),
    ],
    "pipelines know neither registry nor checkpoints": [
        ("shiftreg.pipelines.load", "from ..registry.store import Registry"),
        ("shiftreg.pipelines.load", "from shiftreg import checkpoints"),
    ],
    "the registry knows neither pipelines nor checkpoints": [
        ("shiftreg.registry.store", "import shiftreg.pipelines as p"),
    ],
    "checkpoints know neither pipelines nor registry": [
        ("shiftreg.checkpoints.export", "if TYPE_CHECKING:\n    import shiftreg.registry"),
    ],
    "what is known of families needs no library": [
        ("shiftreg.families", "import torch"),
        ("shiftreg.families", "from shiftreg.pipelines.families import base"),
    ],
    "only pipelines know diffusers and transformers": [
        ("shiftreg.checkpoints.export", "from diffusers.loaders import x"),
        ("shiftreg.evaluation.images", "importlib.import_module('transformers')"),
    ],
    "only the registry knows MLflow": [("shiftreg.api.erasure.erase", "import mlflow.tracking")],
    "engines know nothing of what they do": [
        ("shiftreg.engines.ray_cluster", "import torch"),
        ("shiftreg.engines.base", "from shiftreg.api import erase"),
    ],
    "the library knows no terminal": [
        ("shiftreg.api.erasure.erase", "from rich.progress import track"),
        ("shiftreg", "__import__('typer')"),
    ],
    "nothing below the api imports it": [
        ("shiftreg.verification.report", "from shiftreg import api"),
        ("shiftreg.settings", "from shiftreg.api.values import Check"),
    ],
    "the command line calls the api alone": [
        ("shiftreg_cli.erase", "from shiftreg.registry import open_registry"),
        ("shiftreg_cli.erase", "import shiftreg"),
    ],
    "the command line needs no heavy library": [("shiftreg_cli.main", "import torch.nn")],
}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_the_checker_sees_a_broken_rule(rule: Rule) -> None:
    for name, source in BROKEN_RULES[rule.name]:
        module = Module(name, source)
        assert rule.holds_for(module)
        assert len(rule.violations(module)) == 1, source


def test_the_checker_lets_pass_what_is_allowed() -> None:
    source = "import os.path\nimport torch\nfrom torch import Tensor\nfrom .errors import E\n"
    module = Module("shiftreg.shift", source)
    assert [rule.name for rule in RULES if rule.holds_for(module) and rule.violations(module)] == []


def test_a_name_that_only_begins_alike_lies_elsewhere() -> None:
    assert not within("shiftreg_cli.main", ("shiftreg",))
    assert not within("torchvision", ("torch",))


@pytest.mark.parametrize(
    ("name", "is_package", "source", "target"),
    [
        ("a.b.c", False, "from . import d", "a.b.d"),
        ("a.b", True, "from . import d", "a.b.d"),
        ("a.b.c", False, "from ..e import f", "a.e.f"),
        ("a.b", True, "from ..e import f", "a.e.f"),
    ],
)
def test_relative_imports_are_resolved(
    name: str, is_package: bool, source: str, target: str
) -> None:
    assert list(imports(Module(name, source, is_package))) == [(target, 1)]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("from shiftreg import api", 0),
        ("from shiftreg.api import states", 1),
        ("try:\n    import shiftreg.api.values\nexcept ImportError:\n    pass", 1),
        ("class A:\n    from shiftreg.api import erase", 1),
        ("def f():\n    from shiftreg import api", 0),
        ("if TYPE_CHECKING:\n    from shiftreg.api.values import Check", 0),
    ],
)
def test_the_checker_knows_what_runs_at_the_start(source: str, expected: int) -> None:
    assert len(api_imports_at_start(Module("shiftreg_cli.main", source))) == expected


def test_the_checker_sees_printing() -> None:
    module = Module("shiftreg.x", "def f():\n    print('x')")
    assert printing_lines(module) == ["shiftreg.x:2 prints"]


def test_the_checker_sees_a_circle() -> None:
    assert circle_of({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]
    assert circle_of({"a": {"b", "c"}, "b": {"c"}}) == []
    typing = "if TYPE_CHECKING:\n    from shiftreg.api.recovery import recover"
    module = Module("shiftreg.api.trail", typing)
    assert imported_modules(module, frozenset({"shiftreg.api.recovery"})) == {
        "shiftreg.api.recovery"
    }
