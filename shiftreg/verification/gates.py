"""Gates: how far a composition may be off before it is refused."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from shiftreg.errors import InvalidInputError


@dataclass(frozen=True)
class Gates:
    """The most that each kind of check may show.

    Attributes:
        separability: Relative change of keys and values of what a shift does not own; a shift that
            was made to a tolerance is held to that.
        noise: Relative change of noise predictions of untouched prompts.
        half_noise: The same in a file in half precision, beside the base in that precision.
        plain_noise: The same where its weights were rounded plainly, without error compensation.
        remaining: Share of what makes a prompt one of an erased concept, in noise predictions.
        images: Worst LPIPS of an untouched prompt's images.
        ordinary: Mean LPIPS of ordinary prompts.
        watermark: Share of a trigger's images that no longer decode, of those that did.
        name: Share of images of an erased name in which the concept is found.
        held_out_prompts: The same for prompts that the erasure did not use.
        attack: Success of the strongest recorded attack on an erased concept; None to ask for none.
    """

    separability: float = 1e-5
    noise: float = 1e-4
    half_noise: float = 1e-4
    plain_noise: float = 1e-3
    remaining: float = 0.3
    images: float = 1e-3
    ordinary: float = 0.03
    watermark: float = 0.0
    name: float = 0.02
    held_out_prompts: float = 0.05
    attack: float | None = None

    def updated(self, values: Mapping[str, Any], source: str) -> Gates:
        """These gates with some of them replaced.

        Args:
            values: Name of a gate -> limit.
            source: Where they come from, for messages.

        Raises:
            InvalidInputError: An unknown gate, or a limit that is no number from 0 on.
        """
        known = [gate.name for gate in fields(self)]
        for name, limit in values.items():
            if name not in known:
                near = difflib.get_close_matches(name, known, n=1)
                hint = f" Did you mean '{near[0]}'?" if near else ""
                raise InvalidInputError(
                    f"{source} has no gate '{name}'.{hint} Gates: {', '.join(known)}."
                )
            is_number = isinstance(limit, int | float) and not isinstance(limit, bool)
            if not is_number or not 0 <= limit < math.inf:
                raise InvalidInputError(
                    f"{source}: the gate '{name}' is a number from 0 on, not {limit!r}."
                )
        return replace(self, **{name: float(limit) for name, limit in values.items()})

    def limits(self) -> dict[str, float | None]:
        """Name -> limit."""
        return asdict(self)
