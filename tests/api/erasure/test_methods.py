"""What a user is told about methods, and how their options are read."""

from __future__ import annotations

import pytest

from shiftreg import api
from shiftreg.api.erasure.methods import build_eraser
from shiftreg.errors import InvalidInputError, NotFoundError

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
        ("esd", {"layer": "u"}, InvalidInputError, "no option 'layer'. Options: layers"),
        ("esd", {"layers": "y"}, InvalidInputError, "'x' or 'u'"),
        ("esd", {"iterations": "many"}, InvalidInputError, "is a int, and 'many' is none"),
        ("esd", {"iterations": -1}, InvalidInputError, "must be a positive number"),
    ],
)
def test_what_a_method_cannot_take_is_refused(
    method: str, options: dict[str, object], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        build_eraser(method, options)
