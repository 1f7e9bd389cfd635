"""What attacks find, kept until all have ended: an interrupted campaign does not search again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from shiftreg.api.workspace import Workspace
from shiftreg.attacks import Attack, Found, Start
from shiftreg.canonical import canonical_digest
from shiftreg.checkpoints import Unfinished
from shiftreg.concepts import Concept


@dataclass(frozen=True)
class Search:
    """What one attack found on one target.

    Attributes:
        found: How to make the target generate the concept.
        seconds: That it took.
        looked: Whether the attack looked at the target; if not, it finds the same on any.
    """

    found: Found
    seconds: float
    looked: bool


def unfinished_attacks(workspace: Workspace, concept: Concept, seed: int) -> Unfinished:
    """Where attacks are continued from, if attacks on the same images were interrupted before."""
    base = workspace.base
    images = [base.digest, base.steps, base.guidance, list(base.subjects), asdict(concept)]
    return Unfinished.of(workspace.settings.home, *images, seed)


def kept_search(
    unfinished: Unfinished, attack: Attack, composition: str, search: Callable[[], Search]
) -> Search:
    """What was found before, or is found now.

    Args:
        unfinished: Where it is kept.
        attack: Which one.
        composition: Digest of the target.
        search: Runs the attack.

    Raises:
        StorageError: The disk refused.
    """
    budget = asdict(attack)  # type: ignore[call-overload]
    name = f"{attack.name}-{canonical_digest([budget, composition])[:32]}"
    return _from_plain(unfinished.result(name, lambda: _to_plain(search())))


def _to_plain(search: Search) -> dict[str, Any]:
    found = search.found
    start = found.start and {
        "latents": found.start.latents,
        "strength": found.start.strength,
        "keep": found.start.keep,
    }
    return {
        "prompt_embeds": found.prompt_embeds,
        "text": found.text,
        "start": start,
        "deltas": dict(found.deltas),
        "metrics": dict(found.metrics),
        "seconds": search.seconds,
        "looked": search.looked,
    }


def _from_plain(kept: Mapping[str, Any]) -> Search:
    found = Found(
        kept["prompt_embeds"],
        kept["text"],
        kept["start"] and Start(**kept["start"]),
        kept["deltas"],
        kept["metrics"],
    )
    return Search(found, kept["seconds"], kept["looked"])
