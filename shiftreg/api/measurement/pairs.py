"""Images of two folders that belong together because they have the same names."""

from __future__ import annotations

import numpy as np

from shiftreg.api.measurement.folders import ImageFolder, in_words
from shiftreg.api.measurement.metrics import portions
from shiftreg.api.values import Estimate, Observer
from shiftreg.errors import InvalidInputError
from shiftreg.evaluation import intervals
from shiftreg.evaluation.perceptual import lpips_distances
from shiftreg.evaluation.style import style_distances


def are_paired(reference: ImageFolder, other: ImageFolder) -> bool:
    """Whether both have the same names; not those that share none.

    Raises:
        InvalidInputError: Only some names are the same, or the sizes are not.
    """
    if not set(reference.names) & set(other.names):
        return False
    for here, there in ((reference, other), (other, reference)):
        present = set(there.names)
        if alone := [name for name in here.names if name not in present]:
            raise InvalidInputError(
                f"{len(alone)} of {len(here.names)} images of '{here.path}' have no counterpart "
                f"of the same name in '{there.path}', the first of them '{alone[0]}'. Make those "
                "(shiftreg generate goes on where it was), or move what is too many elsewhere."
            )
    if reference.size != other.size:
        raise InvalidInputError(
            f"Images that are compared have one size: those of '{reference.path}' have "
            f"{in_words(reference.size)} pixels, and those of '{other.path}' "
            f"{in_words(other.size)}. Resize them first."
        )
    return True


def pair_distances(
    reference: ImageFolder, other: ImageFolder, observe: Observer
) -> tuple[Estimate, Estimate]:
    """LPIPS and style distance, image by image; both are read portion by portion.

    Raises:
        IntegrityError: An image is damaged.
        StorageError: It cannot be read.
    """
    lpips, style = [], []
    for names in portions(reference, f"comparing with {other.path.name}", observe):
        one, two = reference.read(names), other.read(names)
        lpips.append(lpips_distances(one, two))
        style.append(style_distances(one, two))
    return intervals.mean(np.concatenate(lpips)), intervals.mean(np.concatenate(style))


def other_makings(reference: ImageFolder, other: ImageFolder) -> list[str]:
    """The names that stand for another prompt or seed in each folder, as far as both say which."""
    said = ((reference.prompts, other.prompts), (reference.seeds, other.seeds))
    return [
        name
        for name in reference.names
        if any(name in one and name in two and one[name] != two[name] for one, two in said)
    ]
