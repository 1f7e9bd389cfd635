"""Methods and attacks: found by name, built from options, described; none disturbs another."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from shiftreg import api
from shiftreg.attacks import ConceptInversion
from shiftreg.erasers import Uce
from shiftreg.errors import InvalidInputError, NotFoundError
from shiftreg.plugins import (
    ERASERS,
    BrokenEraser,
    build_attack,
    build_eraser,
    find_attack,
    find_eraser,
    known_attacks,
    known_erasers,
)

Install = Callable[..., None]

OWN = (
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
)
ATTACKS = (
    "ring-a-bell",
    "ring-a-bell-soft",
    "unlearn-diff-atk",
    "concept-inversion",
    "closed-form-embedding",
    "noise-probe",
    "completion-probe",
    "relearning",
)

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
    for eraser in ERASERS:
        assert known[eraser.name] is eraser
        assert find_eraser(eraser.name) is eraser


def test_this_package_s_methods_are_known_by_their_names() -> None:
    assert tuple(known_erasers()) == OWN
    assert_own_are_usable()


def test_a_method_of_another_package_is_listed_and_usable(
    install: Install,
) -> None:
    install("halving", GOOD, {"halve": "Halve"})
    eraser = find_eraser("halve")
    assert list(known_erasers())[-1] == "halve"
    assert eraser.source == "nowhere"
    problem, weights = SimpleNamespace(empty_embeds=torch.zeros(2, 4)), {"a": torch.ones(3, 4)}
    erasure = eraser(share=0.25).erase(problem, weights, None, 0)  # type: ignore[call-arg,arg-type]
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
        ("@dataclass(frozen=True)", "", "it is not a dataclass"),
        ("class Halve:", "class Original:", "it is not a dataclass"),
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


def test_every_method_says_what_it_is_and_what_its_options_mean() -> None:
    described = {method.name: method for method in api.list_methods()}
    assert set(OWN) <= set(described)
    for name in OWN:
        method = described[name]
        assert method.changes, name
        assert method.cost, name
        assert method.source, name
        assert not method.problem
        assert all(option.meaning for option in method.options.values()), name


def test_separable_and_recoverable_methods_are_told_apart() -> None:
    described = {method.name: method for method in api.list_methods()}
    separable = {name for name in OWN if described[name].separable}
    assert separable == {"closed-form", "closed-form-hardened", "srs-me", "srs-me-joint"}
    assert [name for name in OWN if not described[name].recoverable] == ["srs-me-free"]


def test_options_are_described_with_their_defaults() -> None:
    (method,) = api.list_methods(["srs-me"])
    assert method.options["momentum"].default == 0.9
    assert "stopping average" in method.options["momentum"].meaning
    assert method.options["tau"].meaning.endswith("depends on the base.")


def test_options_keep_their_kind() -> None:
    eraser = build_eraser("esd", {"layers": "u", "iterations": "7", "learning_rate": "1e-3"})
    assert (eraser.layers, eraser.iterations, eraser.learning_rate) == ("u", 7, 1e-3)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("method", "options", "error", "words"),
    [
        ("magic", {}, NotFoundError, "There is no method 'magic'. Methods: closed-form"),
        ("esd", {"layer": "u"}, InvalidInputError, "no option 'layer'. Options: .*layers"),
        ("esd", {"layers": "y"}, InvalidInputError, "'x' or 'u'"),
        ("esd", {"iterations": "many"}, InvalidInputError, "must be of type int, not 'many'"),
        ("esd", {"iterations": -1}, InvalidInputError, "must be a positive number"),
    ],
)
def test_what_a_method_cannot_take_is_refused(
    method: str, options: dict[str, object], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        build_eraser(method, options)


def test_every_attack_is_found_by_its_name_and_says_what_it_needs() -> None:
    assert tuple(known_attacks()) == ATTACKS
    for name in ATTACKS:
        attack = find_attack(name)
        assert attack.name == name
        assert attack.needs
        assert attack.source
        assert attack.__doc__


def test_every_attack_has_a_budget_of_its_own() -> None:
    for name in ATTACKS:
        assert build_attack(name) == known_attacks()[name]()


def test_options_of_an_attack_are_taken_as_text_too() -> None:
    built = build_attack(
        "concept-inversion", {"iterations": "20", "learning_rate": "1e-2", "start": "art"}
    )
    assert built == ConceptInversion(iterations=20, learning_rate=0.01, start="art")


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("ring-a-bel", "ring-a-bell"),
        ("Concept-Inversion", "concept-inversion"),
        ("unlearndiffatk", "unlearn-diff-atk"),
        ("closed-form", "closed-form-embedding"),
    ],
)
def test_a_slip_is_answered_with_the_nearest_name(typed: str, meant: str) -> None:
    with pytest.raises(NotFoundError, match=f"Did you mean '{meant}'"):
        find_attack(typed)


def test_an_unknown_name_is_answered_with_all_that_there_are() -> None:
    with pytest.raises(NotFoundError) as error:
        build_attack("magic")
    assert "Did you mean" not in str(error.value)
    assert all(name in str(error.value) for name in ATTACKS)


def test_unknown_and_unfit_options_of_an_attack_are_refused() -> None:
    with pytest.raises(InvalidInputError, match=r"no option 'steps'\. Options: tokens, start"):
        build_attack("concept-inversion", {"steps": 3})
    with pytest.raises(InvalidInputError, match=r"'iterations' .* must be of type int, not 'many'"):
        build_attack("concept-inversion", {"iterations": "many"})
    with pytest.raises(InvalidInputError, match="iterations must be a positive number"):
        build_attack("concept-inversion", {"iterations": 0})
