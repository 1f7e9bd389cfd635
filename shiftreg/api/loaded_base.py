"""A base that is there to work with: its record, its checked folder, its loaded parts."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property, lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shiftreg import miniature
from shiftreg.canonical import canonical_digest
from shiftreg.errors import IntegrityError
from shiftreg.settings import cache_folder

if TYPE_CHECKING:
    from torch import Tensor, nn

    from shiftreg.families import Family
    from shiftreg.pipelines import Pipeline, PromptEncoder
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
    def prompt_encoder(self) -> PromptEncoder:
        """What reads prompts: of the loaded base, or by itself; it remembers what it read."""
        from shiftreg.pipelines import PromptEncoder
        from shiftreg.pipelines.embedding_cache import EmbeddingCache
        from shiftreg.pipelines.families import family_of, find_family
        from shiftreg.pipelines.load import load_text_side

        family = find_family(self.folder)
        return PromptEncoder(
            family,
            lambda: family_of(self.__dict__.get("pipeline") or load_text_side(self.folder)),
            (EmbeddingCache(cache_folder() / "prompts.sqlite"), self._prompt_space(family)),
        )

    def _prompt_space(self, family: Family) -> str:
        """Digest of all that an embedding depends on beside its prompt."""
        from shiftreg.checkpoints import folder_digest

        read_by = {
            encoder.tokenizer: folder_digest(self.folder / encoder.tokenizer)
            for encoder in family.encoders
        }
        return canonical_digest(
            {
                "text_encoder": self.base.text_encoder_digest,
                "tokenizers": read_by,
                "network": self.base.digest if family.network_encodes else "",
                "software": {name: version(name) for name in ("torch", "transformers")},
            }
        )

    @cached_property
    def layer_weights(self) -> Mapping[str, Tensor]:
        """The weights ``W_l (d_out, d_in)`` of the layers that see the text alone, in float32.

        Of the loaded base, or read from its files: nothing else of the network is needed then.
        """
        if "pipeline" in self.__dict__:
            from shiftreg.pipelines import layer_weights

            return layer_weights(self.network)
        from shiftreg.checkpoints import parameter_reader

        read = parameter_reader(self.folder)
        return {layer: read(layer).float() for layer in self.base.layers}

    @property
    def network(self) -> nn.Module:
        """What denoises in the base, and what shifts change: its UNet or transformer."""
        from shiftreg.pipelines import network_of

        return network_of(self.pipeline)


class RecordedBase(LoadedBase):
    """A base by its record alone, for those who know no registry.

    Args:
        **parts: What of it is loaded and checked already, such as its ``folder``.
    """

    def __init__(self, record: BaseRecord, **parts: Any) -> None:
        self._record = record
        self.__dict__ |= parts

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
