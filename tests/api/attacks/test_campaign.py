"""What an attack found is kept, and found again whole; another search has another place."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest
import torch

from shiftreg.api.attacks.campaign import Search, kept_search
from shiftreg.attacks import AttackResult, Start, Surface
from shiftreg.checkpoints import Unfinished


@dataclass(frozen=True)
class Rattle:
    """An attack with a budget, which is never run here."""

    name: ClassVar[str] = "rattle"
    needs: ClassVar[str] = "nothing"
    source: ClassVar[str] = "this test"

    iterations: int = 1

    def run(self, surface: Surface, seed: int) -> AttackResult:
        raise AssertionError("not here")


@pytest.fixture
def unfinished(tmp_path: Path) -> Unfinished:
    return Unfinished(tmp_path / "unfinished")


def never() -> Search:
    raise AssertionError("it was found before")


@pytest.mark.parametrize("keep", [None, torch.tensor([[True, False], [False, True]])])
def test_a_search_is_found_again_whole(unfinished: Unfinished, keep: torch.Tensor | None) -> None:
    found = AttackResult(
        torch.randn(2, 5, 8),
        'Čapek\'s "*"',
        Start(torch.randn(3, 4, 2, 2), 0.5, keep),
        {"mid.attn2.to_k.weight": torch.randn(4, 8)},
        {"loss": 0.25, "words": 3},
    )
    kept_search(unfinished, Rattle(), "a" * 64, lambda: Search(found, 1.5, True))
    again = kept_search(Unfinished(unfinished.folder), Rattle(), "a" * 64, never)
    assert (again.seconds, again.looked) == (1.5, True)
    assert torch.equal(again.result.prompt_embeds, found.prompt_embeds)
    assert (again.result.text, again.result.metrics) == (found.text, found.metrics)
    assert again.result.deltas.keys() == found.deltas.keys()
    assert all(torch.equal(again.result.deltas[name], found.deltas[name]) for name in found.deltas)
    assert again.result.start is not None
    assert found.start is not None
    assert torch.equal(again.result.start.latents, found.start.latents)
    assert again.result.start.strength == 0.5
    if keep is None:
        assert again.result.start.keep is None
    else:
        assert again.result.start.keep is not None
        assert torch.equal(again.result.start.keep, keep)


def test_without_a_start_there_is_none_again(unfinished: Unfinished) -> None:
    plain = Search(AttackResult(torch.ones(1, 5, 8)), 0.0, False)
    kept_search(unfinished, Rattle(), "a" * 64, lambda: plain)
    again = kept_search(unfinished, Rattle(), "a" * 64, never)
    assert again.result.start is None
    assert not again.looked
    assert not again.result.deltas


def test_another_budget_or_target_is_searched_anew(unfinished: Unfinished) -> None:
    searched = []

    def search() -> Search:
        searched.append(1)
        return Search(AttackResult(torch.ones(1, 5, 8)), 0.0, True)

    for attack, target in ((Rattle(), "a"), (Rattle(2), "a"), (Rattle(), "b"), (Rattle(), "a")):
        kept_search(unfinished, attack, target * 64, search)
    assert len(searched) == 3
