"""A base that is there to work with: its record, its checked folder, its loaded parts."""

from __future__ import annotations

from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from shiftreg import miniature
from shiftreg.errors import IntegrityError

if TYPE_CHECKING:
    from torch import nn

    from shiftreg.pipelines import Pipeline
    from shiftreg.registry import BaseRecord


class LoadedBase:
    """What erasing and generating need of a base, and nothing of any registry."""

    @property
    def base(self) -> BaseRecord:
        """The base's record."""
        raise NotImplementedError

    @cached_property
    def folder(self) -> Path:
        """The base's folder, its content checked against the registered digest.

        Raises:
            IntegrityError: The folder has changed since the base was registered.
        """
        from shiftreg.checkpoints import folder_digest

        folder = base_folder(self.base.source)
        if (digest := folder_digest(folder)) != self.base.digest:
            raise IntegrityError(
                f"Base '{self.base.name}' in '{folder}' has changed: its digest is {digest[:12]}, "
                f"and {self.base.digest[:12]} was registered. Restore the folder, or register the "
                "changed one under another name: shiftreg init FOLDER --name NAME"
            )
        return folder

    @cached_property
    def pipeline(self) -> Pipeline:
        """The base, loaded in float32."""
        from shiftreg.pipelines import load_pipeline

        return load_pipeline(self.folder)

    @cached_property
    def prompt_encoder(self) -> Pipeline:
        """The base, of which all is loaded that reads prompts, if not the whole of it."""
        from shiftreg.pipelines import load_prompt_encoder

        return self.__dict__.get("pipeline") or load_prompt_encoder(self.folder)

    @property
    def network(self) -> nn.Module:
        """What denoises in the base, and what shifts change: its UNet or transformer."""
        from shiftreg.pipelines import network_of

        return network_of(self.pipeline)


class RecordedBase(LoadedBase):
    """A base by its record alone, for processes that know no registry."""

    def __init__(self, record: BaseRecord) -> None:
        self._record = record

    @property
    def base(self) -> BaseRecord:
        """The base's record."""
        return self._record


def recorded_base(record: BaseRecord) -> RecordedBase:
    """The base of a record, loaded once for all tasks that a process gets."""
    return _recorded_base(record.to_json())


@lru_cache(maxsize=1)
def _recorded_base(text: str) -> RecordedBase:
    from shiftreg.registry import BaseRecord

    return RecordedBase(BaseRecord.from_json(text))


def base_folder(source: str) -> Path:
    """Where the weights of a base are, by the source that its record names.

    Raises:
        NotFoundError: Not on this machine.
        InvalidInputError: It is not a diffusers pipeline.
        IntegrityError: A part is missing.
    """
    from shiftreg.pipelines import resolve_source

    return miniature.BASE_FOLDER if source == miniature.NAME else resolve_source(source)
