"""What is known beside a concept when it is erased."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from shiftreg.api.workspace import Workspace


@dataclass(frozen=True)
class Surroundings:
    """What an erasure has to respect of other concepts, read from the registry once.

    Concepts that are erased in one go all get the same: each protects the others, or the first
    would be stale at once, and where or in which order they are done does not matter.

    Attributes:
        names: Of all concepts that are known, and of those that are erased in the same go.
        aliases: Name -> other names of a concept that is erased now.
    """

    names: tuple[str, ...]
    aliases: Mapping[str, tuple[str, ...]]

    @classmethod
    def of(cls, workspace: Workspace, together: Sequence[str] = ()) -> Surroundings:
        """Reads the registry.

        Args:
            workspace: Where.
            together: Names of concepts that are erased in the same go.
        """
        active = workspace.registry.shifts.active(workspace.base.name)
        return cls(
            tuple(dict.fromkeys((*workspace.known_names(), *together))),
            {version.concept: version.aliases for version in active},
        )
