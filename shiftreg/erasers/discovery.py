"""Which erasers there are: this package's, and those that other packages bring."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from shiftreg.erasers.base import Eraser
from shiftreg.erasers.closed_form import ClosedForm
from shiftreg.erasers.concept_ablation import ConceptAblation
from shiftreg.erasers.esd import Esd
from shiftreg.erasers.forget_me_not import ForgetMeNot
from shiftreg.erasers.hardened import ClosedFormHardened
from shiftreg.erasers.speed import SpeedLike
from shiftreg.erasers.srs_me import SrsMe
from shiftreg.erasers.srs_me_free import SrsMeFree
from shiftreg.erasers.srs_me_joint import SrsMeJoint
from shiftreg.erasers.uce import Uce
from shiftreg.errors import InvalidInputError, NotFoundError

GROUP = "shiftreg.erasers"
OWN: tuple[type[Eraser], ...] = (
    ClosedForm, ClosedFormHardened, SrsMe, SrsMeJoint, SrsMeFree, Esd, ConceptAblation,
    ForgetMeNot, Uce, SpeedLike,
)  # fmt: skip
# What must be said about a method beside how it erases.
FACTS: dict[str, type] = {
    "name": str,
    "trains": bool,
    "separable": bool,
    "recoverable": bool,
    "changes": str,
    "cost": str,
    "source": str,
}


@dataclass(frozen=True)
class BrokenEraser:
    """A method of another package that cannot be used, and why."""

    name: str
    origin: str
    problem: str


def known_erasers() -> dict[str, type[Eraser] | BrokenEraser]:
    """All methods by name: ours, then those of the entry points ``shiftreg.erasers``.

    A method that cannot be loaded does not disturb the others.
    """
    known: dict[str, type[Eraser] | BrokenEraser] = {eraser.name: eraser for eraser in OWN}
    for entry in sorted(entry_points(group=GROUP), key=lambda e: (e.name, e.value)):
        if entry.name in known:
            name = f"{entry.name} ({_origin(entry)})"
            problem = f"the name '{entry.name}' is taken; it must be renamed"
            known[name] = BrokenEraser(name, _origin(entry), problem)
        else:
            known[entry.name] = _load(entry)
    return known


def find_eraser(name: str) -> type[Eraser]:
    """Finds a method.

    Raises:
        NotFoundError: There is none of that name.
        InvalidInputError: Another package brings it, and it cannot be loaded.
    """
    known = known_erasers()
    if name not in known:
        usable = [n for n, eraser in known.items() if not isinstance(eraser, BrokenEraser)]
        raise NotFoundError(f"There is no method '{name}'. Methods: {', '.join(usable)}.")
    eraser = known[name]
    if isinstance(eraser, BrokenEraser):
        raise InvalidInputError(
            f"Method '{name}' of {eraser.origin} cannot be used: {eraser.problem}. "
            "Update or uninstall that package. See: shiftreg methods"
        )
    return eraser


def _load(entry: EntryPoint) -> type[Eraser] | BrokenEraser:
    try:
        eraser: Any = entry.load()
    except (Exception, SystemExit) as error:  # noqa: BLE001 - an import may raise anything
        problem = f"importing it failed with {type(error).__name__}: {error}"
        return BrokenEraser(entry.name, _origin(entry), problem)
    if (unfit := _problem(eraser, entry.name)) is not None:
        return BrokenEraser(entry.name, _origin(entry), unfit)
    return eraser


def _problem(eraser: Any, name: str) -> str | None:
    """What keeps an object from being an eraser; None if nothing does."""
    if not (isinstance(eraser, type) and dataclasses.is_dataclass(eraser)):
        return "it is no dataclass, and the fields of a method are its hyper-parameters"
    for fact, kind in FACTS.items():
        if not isinstance(getattr(eraser, fact, None), kind):
            return f"its '{fact}' must be a {kind.__name__}"
    if eraser.name != name:  # type: ignore[attr-defined]
        return f"its entry point is called '{name}', and its name is '{eraser.name}'"  # type: ignore[attr-defined]
    if not callable(getattr(eraser, "erase", None)):
        return "it has no method 'erase'"
    if any(
        f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
        for f in dataclasses.fields(eraser)
    ):
        return "every hyper-parameter needs a default"
    return None


def _origin(entry: EntryPoint) -> str:
    return entry.dist.name if entry.dist else entry.value
