"""Methods of other packages: found by their entry points, and none can disturb another."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from shiftreg.erasers import BrokenEraser, Uce, find_eraser, known_erasers
from shiftreg.erasers.discovery import OWN
from shiftreg.errors import InvalidInputError, NotFoundError

Install = Callable[..., None]

GOOD = '''
"""A method of somebody else."""
from dataclasses import dataclass
from typing import ClassVar

from shiftreg.erasers import Erasure


@dataclass(frozen=True)
class Halve:
    """Takes half of every weight away."""

    name: ClassVar[str] = "halve"
    trains: ClassVar[bool] = False
    separable: ClassVar[bool] = False
    recoverable: ClassVar[bool] = True
    changes: ClassVar[str] = "attn2.to_k and to_v"
    cost: ClassVar[str] = "nothing"
    source: ClassVar[str] = "nowhere"

    share: float = 0.5

    def erase(self, problem, weights, data=None, seed=0):
        return Erasure(
            problem.empty_embeds[:0], dense={n: -self.share * w for n, w in weights.items()}
        )
'''


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Installs a distribution: a module, and a dist-info folder with its entry points."""

    def add(distribution: str, code: str, entries: Mapping[str, str]) -> None:
        site = tmp_path / distribution
        info = site / f"{distribution}-1.0.dist-info"
        info.mkdir(parents=True)
        module = f"{distribution}_{tmp_path.name}".replace("-", "_")  # sys.modules never forgets
        (site / f"{module}.py").write_text(code)
        (info / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n"
        )
        lines = [f"{name} = {module}:{value}" for name, value in entries.items()]
        (info / "entry_points.txt").write_text("\n".join(["[shiftreg.erasers]", *lines, ""]))
        monkeypatch.syspath_prepend(site)

    return add


def assert_own_are_usable() -> None:
    """All of this package's methods are there and usable."""
    known = known_erasers()
    for eraser in OWN:
        assert known[eraser.name] is eraser
        assert find_eraser(eraser.name) is eraser


def test_this_package_s_methods_are_known_by_their_names() -> None:
    assert list(known_erasers()) == [
        "closed-form",
        "closed-form-hardened",
        "srs-me",
        "srs-me-joint",
        "srs-me-free",
        "esd",
        "concept-ablation",
        "forget-me-not",
        "uce",
        "speed-like",
    ]
    assert_own_are_usable()


def test_a_method_of_another_package_is_listed_and_usable(
    install: Install,
    problem,  # noqa: ANN001
    weights,  # noqa: ANN001
) -> None:
    install("halving", GOOD, {"halve": "Halve"})
    eraser = find_eraser("halve")
    assert list(known_erasers())[-1] == "halve"
    assert eraser.source == "nowhere"
    erasure = eraser(share=0.25).erase(problem, weights, None, 0)  # type: ignore[call-arg]
    assert set(erasure.dense) == set(weights)
    assert_own_are_usable()


def test_two_packages_bring_their_methods_in_the_order_of_the_names(install: Install) -> None:
    install("second", GOOD.replace('"halve"', '"b-method"'), {"b-method": "Halve"})
    install("first", GOOD.replace('"halve"', '"a-method"'), {"a-method": "Halve"})
    assert list(known_erasers())[-2:] == ["a-method", "b-method"]


@pytest.mark.parametrize(
    "code",
    ["raise RuntimeError('no GPU here')", "import no_such_package", "import sys\nsys.exit(3)", "("],
)
def test_one_that_cannot_be_imported_disturbs_no_other(install: Install, code: str) -> None:
    install("halving", GOOD, {"halve": "Halve"})
    install("unlucky", code, {"broken": "Broken"})
    known = known_erasers()
    assert isinstance(known["broken"], BrokenEraser)
    assert known["broken"].origin == "unlucky"
    assert not isinstance(known["halve"], BrokenEraser)
    assert_own_are_usable()
    with pytest.raises(InvalidInputError, match="'broken' of unlucky cannot be used: importing"):
        find_eraser("broken")


def test_the_reason_of_a_failed_import_is_told(install: Install) -> None:
    install("unlucky", "raise RuntimeError('no GPU here')", {"broken": "Broken"})
    with pytest.raises(InvalidInputError, match="RuntimeError: no GPU here"):
        find_eraser("broken")


def test_a_class_that_is_not_there_is_told(install: Install) -> None:
    install("unlucky", GOOD, {"halve": "Halves"})
    with pytest.raises(InvalidInputError, match=r"of unlucky cannot be used: .*Halves"):
        find_eraser("halve")


def test_a_name_that_is_taken_stays_with_this_package(install: Install) -> None:
    install("pretender", GOOD.replace('"halve"', '"uce"'), {"uce": "Halve"})
    assert find_eraser("uce") is Uce
    known = known_erasers()["uce (pretender)"]
    assert isinstance(known, BrokenEraser)
    assert "the name 'uce' is taken" in known.problem
    with pytest.raises(InvalidInputError, match="of pretender cannot be used: the name 'uce'"):
        find_eraser("uce (pretender)")
    assert_own_are_usable()


def test_of_two_packages_with_one_name_one_is_usable_and_the_other_named(install: Install) -> None:
    install("one", GOOD, {"halve": "Halve"})
    install("other", GOOD, {"halve": "Halve"})
    broken = [e for e in known_erasers().values() if isinstance(e, BrokenEraser)]
    assert len(broken) == 1
    assert broken[0].origin in ("one", "other")
    assert find_eraser("halve").name == "halve"


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("@dataclass(frozen=True)", "", "it is no dataclass"),
        ("class Halve:", "class Original:", "it is no dataclass"),
        ('    cost: ClassVar[str] = "nothing"\n', "", "its 'cost' must be a str"),
        ("separable: ClassVar[bool] = False", "separable = 'no'", "its 'separable' must be a bool"),
        ("trains: ClassVar[bool] = False", "trains: ClassVar[int] = 0", "'trains' must be a bool"),
        ('"halve"', '"quarter"', "called 'halve', and its name is 'quarter'"),
        ("def erase(", "def remove(", "it has no method 'erase'"),
        ("share: float = 0.5", "share: float", "every hyper-parameter needs a default"),
    ],
)
def test_what_is_no_eraser_is_told(install: Install, old: str, new: str, problem: str) -> None:
    assert old in GOOD
    code = GOOD.replace(old, new) + "\nif 'Halve' not in globals(): Halve = Original()\n"
    install("unfit", code, {"halve": "Halve"})
    broken = known_erasers()["halve"]
    assert isinstance(broken, BrokenEraser)
    assert (broken.name, broken.origin) == ("halve", "unfit")
    assert problem in broken.problem
    with pytest.raises(InvalidInputError, match="Method 'halve' of unfit cannot be used"):
        find_eraser("halve")
    assert_own_are_usable()


def test_a_default_made_by_a_factory_is_a_default(install: Install) -> None:
    code = GOOD.replace("import dataclass", "import dataclass, field").replace(
        "share: float = 0.5", "share: float = field(default_factory=lambda: 0.5)"
    )
    install("halving", code, {"halve": "Halve"})
    assert find_eraser("halve").name == "halve"


def test_an_unknown_method_names_those_that_can_be_used(install: Install) -> None:
    install("unlucky", "raise RuntimeError", {"broken": "Broken"})
    with pytest.raises(NotFoundError, match=r"no method 'srs'.*closed-form.*speed-like") as error:
        find_eraser("srs")
    assert "broken" not in str(error.value)
